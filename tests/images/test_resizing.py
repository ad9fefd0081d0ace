"""Tests of edgecls.images.resizing: which part of a picture the network gets; all paths give the same bytes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import TURNS, encode
from numpy.typing import NDArray
from PIL import ExifTags, Image
from tiny import make_spec

from edgecls.bulk.shards import cut_names, decode_shard
from edgecls.errors import ConfigError, DataError
from edgecls.export.calibration import load_samples
from edgecls.images.dataset import load_dataset, load_labeled
from edgecls.images.decode import decode_gray, decode_part, load_gray
from edgecls.images.resizing import PAD_GRAY, SPARE, Placement, choose_shrink, place
from edgecls.preprocessing import RESIZES, Preprocessing, Roi
from edgecls.runtime.classifier import Classifier
from edgecls.training.run.run_folder import images_sha256

CROP, PAD = Preprocessing(resize="crop"), Preprocessing(resize="pad")
sides = st.integers(1, 70)


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width), dtype=np.uint8)


# Where the part lies


@pytest.mark.parametrize(
    ("picture", "wanted", "crop", "pad"),
    [
        ((640, 480), (224, 224), (80, 0, 560, 480), ((224, 168), (0, 28))),
        ((480, 640), (224, 224), (0, 80, 480, 560), ((168, 224), (28, 0))),
        ((641, 480), (224, 224), (80, 0, 560, 480), ((224, 168), (0, 28))),
        ((500, 500), (224, 224), (0, 0, 500, 500), ((224, 224), (0, 0))),
        ((1920, 1080), (320, 240), (240, 0, 1680, 1080), ((320, 180), (0, 30))),
        # A half is rounded up: 3 / 2 to 2, and 1.5 of 3 rows above.
        ((3, 7), (2, 4), (0, 0, 3, 6), ((2, 4), (0, 0))),
        ((1, 1000), (10, 10), (0, 499, 1, 500), ((1, 10), (4, 0))),
    ],
)
def test_part_is_in_the_middle_and_a_half_is_rounded_up(
    picture: tuple[int, int], wanted: tuple[int, int], crop: Any, pad: Any
) -> None:
    assert place(picture, wanted, CROP, "x") == Placement(crop, wanted, (0, 0))
    assert place(picture, wanted, PAD, "x") == Placement((0, 0, *picture), *pad)
    assert place(picture, wanted, Preprocessing(), "x") == Placement((0, 0, *picture), wanted, (0, 0))


@given(width=sides, height=sides, to_width=sides, to_height=sides)
def test_ratio_is_kept_within_half_a_pixel(width: int, height: int, to_width: int, to_height: int) -> None:
    (left, top, right, bottom), size, _ = place((width, height), (to_width, to_height), CROP, "x")
    part = right - left, bottom - top
    assert size == (to_width, to_height) and (part[0] == width or part[1] == height) and min(part) > 0
    assert 0 <= left and right <= width and abs(left - (width - right)) <= 1
    assert 0 <= top and bottom <= height and abs(top - (height - bottom)) <= 1
    exact = min(width, height * to_width / to_height), min(height, width * to_height / to_width)
    assert all(abs(side - wanted) <= 0.5 or side == 1 for side, wanted in zip(part, exact, strict=True))
    _, inner, offset = place((width, height), (to_width, to_height), PAD, "x")
    exact = min(to_width, to_height * width / height), min(to_height, to_width * height / width)
    assert all(abs(side - wanted) <= 0.5 or side == 1 for side, wanted in zip(inner, exact, strict=True))
    assert offset == ((to_width - inner[0]) // 2, (to_height - inner[1]) // 2)


@pytest.mark.parametrize("roi", [(0, 0, 41, 30), (0, 0, 40, 31), (30, 0, 11, 5), (40, 0, 1, 1)])
def test_roi_beyond_the_image_is_refused_with_both_sizes(roi: Roi) -> None:
    shown = ",".join(map(str, roi))
    with pytest.raises(DataError, match=f"image <array> has 40 x 30 pixels; the ROI {shown} .* reaches beyond it"):
        load_gray(noise(30, 40), 8, 8, Preprocessing(roi=roi))


@pytest.mark.parametrize(
    "changes",
    [{"resize": "fill"}, {"roi": (0, 0, 0, 5)}, {"roi": (-1, 0, 5, 5)}, {"roi": (0, 0, 5)}, {"roi": (0.0, 0, 1, 1)}],
)
def test_preprocessing_out_of_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(changes))} must be"):
        Preprocessing(**changes)


# The pixels


@given(width=sides, height=sides, to_width=st.integers(1, 30), to_height=st.integers(1, 30), roi=st.booleans())
def test_pixels_are_those_of_the_part_cut_by_hand(
    width: int, height: int, to_width: int, to_height: int, roi: bool
) -> None:
    picture = noise(height, width)
    region = (width // 3, height // 4, max(1, width // 2), max(1, height // 2)) if roi else None
    inside = picture[region[1] : region[1] + region[3], region[0] : region[0] + region[2]] if region else picture
    wanted = inside.shape[1] * to_height, inside.shape[0] * to_width
    if wanted[0] > wanted[1]:
        kept = max(1, int(inside.shape[0] * to_width / to_height + 0.5))
        start = (inside.shape[1] - kept) // 2
        cut = inside[:, start : start + kept]
    else:
        kept = max(1, int(inside.shape[1] * to_height / to_width + 0.5))
        start = (inside.shape[0] - kept) // 2
        cut = inside[start : start + kept]
    for source in (picture, encode(Image.fromarray(picture), "PNG")):
        cropped = load_gray(source, to_height, to_width, Preprocessing(resize="crop", roi=region))
        assert np.array_equal(cropped, load_gray(np.ascontiguousarray(cut), to_height, to_width))
        stretched = load_gray(source, to_height, to_width, Preprocessing(roi=region))
        assert np.array_equal(stretched, load_gray(np.ascontiguousarray(inside), to_height, to_width))
    padded = load_gray(picture, to_height, to_width, Preprocessing(resize="pad", roi=region))[:, :, 0]
    _, (inner_width, inner_height), (left, top) = place(inside.shape[::-1], (to_width, to_height), PAD, "x")
    own = padded[top : top + inner_height, left : left + inner_width]
    assert np.array_equal(own, load_gray(np.ascontiguousarray(inside), inner_height, inner_width)[:, :, 0])
    padded[top : top + inner_height, left : left + inner_width] = PAD_GRAY
    assert (padded == PAD_GRAY).all()


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation_comes_before_the_roi(orientation: int, kind: str) -> None:
    picture = Image.fromarray(noise(31, 44))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encode(picture, kind, exif=exif) if kind == "PNG" else encode(picture, kind, tiffinfo=exif)
    upright = np.ascontiguousarray(TURNS[orientation](np.asarray(picture)))
    part = load_gray(data, 9, 12, Preprocessing(roi=(5, 7, 12, 9)))[:, :, 0]
    assert np.array_equal(part, upright[7:16, 5:17])
    side = min(upright.shape)
    cropped = load_gray(data, side, side, CROP)
    assert np.array_equal(cropped, load_gray(upright, side, side, CROP))


def smooth(height: int, width: int) -> Image.Image:
    coarse = noise(max(2, height // 96), max(2, width // 96))
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize(
    "how", [CROP, PAD, Preprocessing(roi=(101, 203, 611, 597)), Preprocessing(None, "crop", (33, 40, 900, 333))]
)
def test_jpeg_that_its_dct_shrinks_gives_nearly_the_same(how: Preprocessing, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encode(smooth(960, 960), "JPEG", quality=95, exif=exif)
    whole = decode_gray(data)
    placement = place(whole.size, (40, 40), how, "x")
    assert choose_shrink(placement) > 1
    difference = load_gray(data, 40, 40, how).astype(int) - load_gray(whole, 40, 40, how)
    assert np.abs(difference).max() <= 9 and np.abs(difference).mean() <= 1.3


@given(width=st.integers(1, 400), height=st.integers(1, 400), wanted=st.integers(1, 40))
def test_dct_leaves_spare_pixels_of_the_part(width: int, height: int, wanted: int) -> None:
    placement = place((width, height), (wanted, wanted), CROP, "x")
    shrink = choose_shrink(placement)
    assert shrink == 1 or min(placement.part) >= shrink * SPARE * wanted
    assert shrink == 8 or min(placement.part) < 2 * shrink * SPARE * wanted


def test_nothing_outside_the_roi_has_a_part_in_the_pixels() -> None:
    picture = noise(120, 160)
    how = Preprocessing(roi=(41, 33, 60, 50))
    changed = 255 - picture
    changed[33:83, 41:101] = picture[33:83, 41:101]
    assert np.array_equal(load_gray(picture, 16, 16, how), load_gray(changed, 16, 16, how))


def test_what_a_heat_map_covers_is_the_part_or_the_padded_picture() -> None:
    picture = noise(60, 90)
    assert decode_part(picture, 10, 10, Preprocessing()).size == (90, 60)
    assert np.array_equal(np.asarray(decode_part(picture, 10, 10, CROP)), picture[:, 15:75])
    padded = np.asarray(decode_part(picture, 30, 30, PAD))
    assert padded.shape == (90, 90) and np.array_equal(padded[15:75], picture)
    assert (padded[:15] == PAD_GRAY).all() and (padded[75:] == PAD_GRAY).all()
    assert np.array_equal(
        np.asarray(decode_part(picture, 9, 9, Preprocessing(roi=(3, 4, 20, 10)))), picture[4:14, 3:23]
    )


# The same bytes everywhere


class _NoEngine:
    name = version = device = "none"
    threads = 1


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("roi", [None, (4, 3, 21, 30)])
def test_training_calibration_and_prediction_have_the_same_bytes(tmp_path: Path, resize: str, roi: Roi | None) -> None:
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(7):
            height, width = (int(side) for side in random.integers(40, 300, 2))
            kind = ("PNG", "JPEG", "BMP")[number % 3]
            (tmp_path / name / f"{number}.{kind.lower()}").write_bytes(encode(smooth(height, width), kind))
    how = Preprocessing(resize=resize, roi=roi)
    dataset = load_dataset(tmp_path, 20, val_fraction=0.2, test_fraction=0.2, seed=0, preprocessing=how)
    assert dataset.test is not None
    classifier = Classifier(make_spec(height=20, width=20, resize=resize, roi=roi), _NoEngine())  # type: ignore[arg-type]
    splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    for split in splits.values():
        for path, pixels in zip(split.paths, split.images, strict=True):
            assert np.array_equal(classifier.read(tmp_path / path), pixels)
            assert np.array_equal(classifier.read((tmp_path / path).read_bytes()), pixels)
    record: dict[str, Any] = {
        "config": {"image_size": 20, "resize": resize, "roi": roi and list(roi)},
        "classes": ["a", "b"],
        "data": str(tmp_path),
        "split": {
            part: {name: [path for path in split.paths if path.startswith(name)] for name in ("a", "b")}
            for part, split in splits.items()
        },
        "held_out": {"split": "test", "sha256": images_sha256(dataset.test.images)},
    }
    samples = load_samples(record, data=None, count=4, seed=0)
    known = dict(zip(dataset.train.paths, dataset.train.images, strict=True))
    for path, pixels in zip(samples.calibration.paths, samples.calibration.images, strict=True):
        assert np.array_equal(known[path], pixels)
    (shard,) = cut_names(dataset.test.paths)
    for (_, found), pixels in zip(decode_shard(shard, classifier.spec, tmp_path, 1), dataset.test.images, strict=True):
        assert isinstance(found, np.ndarray) and np.array_equal(found, pixels)
    known |= dict(zip(dataset.test.paths, dataset.test.images, strict=True))
    known |= dict(zip(dataset.val.paths, dataset.val.images, strict=True))
    scored = load_labeled(tmp_path, ["a", "b"], 20, 20, preprocessing=classifier.spec.preprocessing)
    assert len(scored.paths) == len(known) == 14
    assert all(np.array_equal(known[path], image) for path, image in zip(scored.paths, scored.images, strict=True))


def test_arrays_of_the_inputs_size_are_ready_unless_a_roi_is_cut_out_of_them() -> None:
    ready = noise(12, 10)
    for resize in RESIZES:
        classifier = Classifier(make_spec(resize=resize), _NoEngine())  # type: ignore[arg-type]
        assert np.array_equal(classifier.read(ready)[:, :, 0], ready)
        assert np.array_equal(load_gray(ready, 12, 10, Preprocessing(resize=resize))[:, :, 0], ready)
    cut = Classifier(make_spec(roi=(0, 0, 5, 6)), _NoEngine())  # type: ignore[arg-type]
    assert np.array_equal(cut.read(ready), load_gray(np.ascontiguousarray(ready[:6, :5]), 12, 10))
    with pytest.raises(DataError, match=r"must be uint8 \(12, 10, 1\); received uint8 \(12, 10\)"):
        cut.classify(ready)


def test_file_object_bytes_are_not_needed_twice() -> None:
    """A damaged PNG text is dropped and the file read again; the ROI is cut there too."""
    buffer = io.BytesIO()
    Image.fromarray(noise(20, 20)).save(buffer, "PNG")
    head, rest = buffer.getvalue()[:33], buffer.getvalue()[33:]
    damaged = head + b"\x00\x00\x00\x03tEXtabc\x00\x00\x00\x00" + rest
    part = load_gray(damaged, 5, 5, Preprocessing(roi=(2, 3, 5, 5)))[:, :, 0]
    assert np.array_equal(part, noise(20, 20)[3:8, 2:7])
