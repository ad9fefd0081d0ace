from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import run
from golden_samples import Change, shifted_scores
from PIL import ExifTags, Image, PngImagePlugin
from tiny import CLASSES, SIZE

from edgecls.errors import ModelFileError
from edgecls.images.decode import load_gray
from edgecls.limits import MAX_IMAGE_SIZE
from edgecls.model_file.read import read_model_file
from edgecls.model_file.selftest import (
    MAX_GOLDEN_CHARACTERS,
    MAX_IMAGE_BYTES,
    MAX_SAMPLES,
    TOLERANCES,
    add_scores,
    make_golden,
    run_selftest,
)
from edgecls.model_file.write import attach_spec
from edgecls.preprocessing import RESIZES, Preprocessing
from edgecls.runtime.classifier import Classifier, load

FILES = pytest.mark.parametrize("file", [f"model-{p}.{kind}" for p in ("int8", "fp32") for kind in ("tflite", "onnx")])


def with_last_sample(classifier: Classifier, change: Change) -> Classifier:
    *others, last = classifier.spec.golden
    return Classifier(replace(classifier.spec, golden=(*others, last | change(last))), classifier.engine)


def other_decoder(sample: dict[str, Any]) -> dict[str, Any]:
    return {"gray_sha256": "0" * 64}


def one_pixel_7_off(sample: dict[str, Any]) -> dict[str, Any]:
    pixels = np.array(Image.open(io.BytesIO(base64.b85decode(sample["pixels"]))))
    pixels[3, 5] = int(pixels[3, 5]) + (7 if pixels[3, 5] < 128 else -7)
    return {"pixels": as_png(pixels)}


def as_png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b85encode(buffer.getvalue()).decode()


@FILES
def test_passes_on_the_machine_that_made_the_file(file: str, file_named: Callable[[str], Path]) -> None:
    classifier = load(file_named(file))
    result = run_selftest(classifier)
    assert (result.stage, result.sample, result.difference) == ("", "", 0)
    assert result.samples == len(classifier.spec.golden) > 1


@pytest.mark.parametrize(
    ("change", "stage", "difference"), [(other_decoder, "decode", 0), (one_pixel_7_off, "resize", 7)]
)
def test_names_the_stage_and_the_image_that_differ(change: Change, stage: str, difference: int, int8: Path) -> None:
    forged = with_last_sample(load(int8), change)
    result = run_selftest(forged)
    assert (result.stage, result.difference) == (stage, difference)
    assert result.sample == forged.spec.golden[-1]["name"]


@FILES
def test_scores_may_differ_by_the_tolerance_and_no_more(file: str, file_named: Callable[[str], Path]) -> None:
    classifier = load(file_named(file))
    tolerance = TOLERANCES[classifier.spec.precision]
    assert run_selftest(with_last_sample(classifier, shifted_scores(0.9 * tolerance))).stage == ""
    result = run_selftest(with_last_sample(classifier, shifted_scores(-1.1 * tolerance)))
    assert result.stage == "engine" and result.difference == pytest.approx(1.1 * tolerance, rel=1e-2)


def test_an_engine_that_gives_nan_differs(int8: Path) -> None:
    answer = np.full(len(CLASSES), np.nan, np.float32)
    broken: Any = SimpleNamespace(name="broken", version="0", run=lambda image: answer)
    assert run_selftest(Classifier(load(int8).spec, broken)).stage == "engine"


def test_a_file_without_golden_samples_is_refused(int8: Path) -> None:
    classifier = load(int8)
    with pytest.raises(ModelFileError, match="no golden samples; export it again"):
        run_selftest(Classifier(replace(classifier.spec, golden=()), classifier.engine))


@pytest.mark.parametrize(
    "damage",
    [
        {"file": base64.b85encode(b"no image").decode()},
        {"pixels": as_png(np.zeros((SIZE - 1, SIZE), np.uint8))},
        {"scores": ["high"]},
        {"scores": [0.25] * 4},
    ],
    ids=repr,
)
def test_damaged_samples_are_refused(damage: dict[str, Any], int8: Path) -> None:
    with pytest.raises(ModelFileError, match="golden sample is damaged"):
        run_selftest(with_last_sample(load(int8), lambda sample: damage))


@pytest.mark.parametrize("key", ["name", "file", "gray_sha256", "pixels", "scores"])
def test_samples_that_lack_a_part_are_refused(key: str, int8: Path) -> None:
    classifier = load(int8)
    lacking = {name: value for name, value in classifier.spec.golden[0].items() if name != key}
    with pytest.raises(ModelFileError, match=key):
        run_selftest(Classifier(replace(classifier.spec, golden=(lacking,)), classifier.engine))


def noise(folder: Path, side: int, count: int) -> list[Path]:
    rng = np.random.default_rng(side)
    paths = [folder / f"{i}.png" for i in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (side, side), np.uint8)).save(path)
    return paths


@pytest.mark.parametrize(("side", "size", "count"), [(24, 32, MAX_SAMPLES), (300, 140, 2), (600, 400, 1)])
def test_takes_as_many_samples_as_fit_but_at_least_one(side: int, size: int, count: int, tmp_path: Path) -> None:
    samples = make_golden(noise(tmp_path, side, MAX_SAMPLES + 2), size, size)
    assert [sample["name"] for sample in samples] == [f"{i}.png" for i in range(count)]
    used = sum(len(sample["file"]) + len(sample["pixels"]) for sample in samples)
    assert used <= MAX_GOLDEN_CHARACTERS or count == 1


@pytest.mark.parametrize(("side", "size"), [(400, 32), (700, 64), (400, MAX_IMAGE_SIZE)])
def test_a_large_image_file_is_never_made_larger(side: int, size: int, tmp_path: Path) -> None:
    (path,) = noise(tmp_path, side, 1)
    (sample,) = make_golden([path], size, size)
    content = base64.b85decode(sample["file"])
    assert len(content) <= (MAX_IMAGE_BYTES if size < side else path.stat().st_size)
    pixels = np.array(Image.open(io.BytesIO(base64.b85decode(sample["pixels"]))))
    assert np.array_equal(load_gray(content, size, size)[:, :, 0], pixels)


def test_the_command_exits_with_1_and_the_stage(int8: Path, tmp_path: Path) -> None:
    done = run("selftest", int8)
    assert (done.exit_code, done.stderr) == (0, "") and done.stdout.startswith("ok: decode, resize and ")
    _, graph, spec = read_model_file(int8.read_bytes())
    for stage, change in {"decode": other_decoder, "resize": one_pixel_7_off, "engine": shifted_scores(0.2)}.items():
        forged = tmp_path / f"{stage}.tflite"
        golden = tuple(sample | change(sample) for sample in spec.golden)
        forged.write_bytes(attach_spec(graph, replace(spec, golden=golden), "tflite"))
        done = run("selftest", forged)
        assert (done.exit_code, done.stdout) == (1, "") and f"Error: {stage} differs on " in done.stderr


def _with_metadata(suffix: str, where: str) -> dict[str, Any]:
    exif, text = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x010E] = "taken at home"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    text.add_itxt("XML:com.adobe.xmp", "taken at home")
    options: dict[str, dict[str, Any]] = {
        "exif": {"exif": exif},
        "text": {"pnginfo": text},
        "xmp": {"xmp": b"taken at home"},
    }
    return options[where] | ({"lossless": True} if suffix == "webp" else {})


@pytest.mark.parametrize(
    ("suffix", "where"),
    [
        ("jpg", "exif"),
        ("png", "exif"),
        ("png", "text"),
        ("webp", "exif"),
        ("webp", "xmp"),
        ("tif", "exif"),
        ("pgm", ""),
    ],
)
def test_where_a_photograph_was_taken_stays_out_of_the_file(suffix: str, where: str, tmp_path: Path) -> None:
    path, plain = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    picture = Image.new("L", (40, 30), 90)
    picture.save(plain)
    if where:
        picture.save(path, **_with_metadata(suffix, where))
    else:
        path.write_bytes(plain.read_bytes().replace(b"P5\n", b"P5\n# taken at home\n", 1))
    assert b"taken at home" in path.read_bytes()
    private, kept = (base64.b85decode(sample["file"]) for sample in make_golden([path, plain], 32, 32))
    assert b"taken at home" not in private
    assert kept == plain.read_bytes()


def test_bits_of_the_file_hold_for_golden_samples_too(int8: Path, tmp_path: Path) -> None:
    classifier, path = load(int8), tmp_path / "frame.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 4096, (24, 24), np.uint16)).save(path)
    golden = add_scores(make_golden([path], SIZE, SIZE, Preprocessing(12)), classifier)
    spec = replace(classifier.spec, golden=golden, bits=12)
    assert run_selftest(Classifier(spec, classifier.engine)).stage == ""
    assert run_selftest(Classifier(replace(spec, bits=None), classifier.engine)).stage == "decode"


@pytest.mark.parametrize("roi", [None, (700, 40, 300, 200)])
@pytest.mark.parametrize("resize", RESIZES)
def test_resize_and_roi_hold_for_golden_samples_too(
    resize: str, roi: tuple[int, int, int, int] | None, int8: Path, tmp_path: Path
) -> None:
    classifier, small, large = load(int8), tmp_path / "small.png", tmp_path / "large.png"
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (40, 90), np.uint8)).save(small)
    Image.fromarray(random.integers(0, 256, (600, 1000), np.uint8)).save(large)
    how = Preprocessing(None, resize, roi)
    golden = make_golden([large] if roi else [small, large], SIZE, SIZE, how)
    assert all(len(sample["file"]) <= 1.25 * MAX_IMAGE_BYTES for sample in golden)
    spec = replace(classifier.spec, golden=add_scores(golden, classifier), resize=resize, roi=roi)
    assert run_selftest(Classifier(spec, classifier.engine)).stage == ""
    if not roi:
        other = replace(spec, resize="pad" if resize == "stretch" else "stretch")
        assert run_selftest(Classifier(other, classifier.engine)).stage == "resize"
