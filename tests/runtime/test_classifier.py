from __future__ import annotations

import importlib.metadata
import io
import math
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tiny import HEIGHT, LABELS, WIDTH, make_spec

import edgecls
from edgecls.errors import ConfigError, DataError, ImageWarning, ModelFileError
from edgecls.images.decode import load_gray
from edgecls.model_file.read import read_model_file
from edgecls.model_file.write import attach_spec
from edgecls.preprocessing import Preprocessing
from edgecls.runtime import classifier as classifier_module
from edgecls.runtime.classifier import Classifier, load

FILES = pytest.mark.parametrize("fixture", ["tiny_tflite", "tiny_tflite_fp32", "tiny_onnx"])
KINDS = pytest.mark.parametrize("fixture", ["tiny_tflite", "tiny_onnx"])
fast = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def random_images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, HEIGHT, WIDTH, 1), np.uint8)


class FixedEngine:
    name = "fixed"
    version = "0"
    device = "cpu"
    threads = 1

    def __init__(self, scores: list[float]) -> None:
        self.answer = np.array(scores, np.float32)
        self.seen: list[np.ndarray] = []

    def run(self, image: np.ndarray) -> np.ndarray:
        self.seen.append(image)
        return self.answer

    def run_with_heatmap(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.run(image), np.stack([np.full((2, 3), score) for score in self.answer], -1).astype(np.float32)


@FILES
def test_a_prediction_says_what_the_scores_say(fixture: str, request: pytest.FixtureRequest) -> None:
    classifier = load(request.getfixturevalue(fixture))
    prediction = classifier.predict(random_images(1)[0])
    assert prediction.scores.dtype == np.float32 and prediction.scores.shape == (3,)
    assert prediction.scores.sum() == pytest.approx(1, abs=0.01)
    assert prediction.index == prediction.scores.argmax()
    assert prediction.label == LABELS[prediction.index]
    assert prediction.score == prediction.scores.max()


@FILES
def test_batch_and_scores_equal_single(fixture: str, request: pytest.FixtureRequest) -> None:
    classifier = load(request.getfixturevalue(fixture))
    images = random_images(5)
    single = [classifier.predict(image).scores for image in images]
    np.testing.assert_array_equal(classifier.scores(images), single)
    np.testing.assert_array_equal([p.scores for p in classifier.predict_batch(iter(images))], single)
    # Every image gets an answer of its own, not a view of the last one.
    assert len({scores.tobytes() for scores in single}) > 1
    assert classifier.predict_batch([]) == []
    assert classifier.scores(images[:0]).shape == (0, 3)


def test_engines_agree(tiny_tflite: Path, tiny_tflite_fp32: Path, tiny_onnx: Path) -> None:
    images = random_images(20)
    images[0], images[1] = 0, 255
    float_scores = load(tiny_tflite_fp32).scores(images)
    # Same float arithmetic in another order.
    np.testing.assert_allclose(load(tiny_onnx).scores(images), float_scores, atol=1e-5)
    # 8-bit weights and activations of an untrained network; a wrong scale or zero point is off by 0.3 and more.
    np.testing.assert_allclose(load(tiny_tflite).scores(images), float_scores, atol=0.05)
    assert np.ptp(float_scores, axis=0).max() > 0.1


@given(st.integers(0, 2**32 - 1), st.sampled_from(["h w 1", "h w", "pil", "png", "path", "fortran"]))
@fast
def test_all_sources_of_the_same_pixels_agree(
    tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory, seed: int, kind: str
) -> None:
    engine = FixedEngine([0.2, 0.5, 0.3])
    classifier = Classifier(make_spec(), engine)
    image = random_images(1, seed)[0]
    buffer = io.BytesIO()
    Image.fromarray(image[:, :, 0]).save(buffer, "PNG")
    path = tmp_path_factory.getbasetemp() / "image.png"
    path.write_bytes(buffer.getvalue())
    sources: dict[str, Any] = {
        "h w 1": image,
        "h w": image[:, :, 0],
        "pil": Image.fromarray(image[:, :, 0]),
        "png": buffer.getvalue(),
        "path": path,
        "fortran": np.asfortranarray(image[:, :, 0]),
    }
    assert classifier.predict(sources[kind]).label == "nut"
    np.testing.assert_array_equal(engine.seen[0], image[np.newaxis])
    assert engine.seen[0].flags.c_contiguous


def test_ready_arrays_do_not_pass_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("load_gray was called")

    monkeypatch.setattr(classifier_module, "load_gray", refuse)
    classifier = Classifier(make_spec(), FixedEngine([1, 0, 0]))
    image = random_images(1)[0]
    assert classifier.predict(image).label == classifier.predict(image[:, :, 0]).label == "bolt"
    with pytest.raises(AssertionError):
        classifier.predict(random_images(1)[0][:-1])


def test_unusable_images_are_errors(tiny_onnx: Path) -> None:
    classifier = load(tiny_onnx)
    with pytest.raises(DataError):
        classifier.predict(b"no image")
    unusable: list[Any] = [random_images(2).astype(np.float32), random_images(2)[:, :-1], random_images(2)[0]]
    for images in unusable:
        with pytest.raises(DataError, match=r"uint8 \(N, 12, 10, 1\)"):
            classifier.scores(images)


def test_the_heatmap_is_that_of_the_best_label() -> None:
    image = random_images(1)[0]
    assert Classifier(make_spec(), FixedEngine([0.2, 0.7, 0.1])).predict(image).heatmap is None
    heatmap = Classifier(make_spec(heatmap=True), FixedEngine([0.2, 0.7, 0.1]), 0.9).predict(image).heatmap
    np.testing.assert_array_equal(heatmap, np.full((2, 3), 0.7, np.float32))


@pytest.mark.parametrize(("bad", "kind"), [(math.nan, "NaN"), (math.inf, "infinite"), (-math.inf, "infinite")])
def test_scores_that_are_no_numbers_are_an_error(bad: float, kind: str) -> None:
    classifier, images = Classifier(make_spec(), FixedEngine([0.1, bad, 0.9]), name="part.onnx"), random_images(1)
    for score in (classifier.predict, classifier.classify, lambda image: classifier.scores(image[None])):
        with pytest.raises(ModelFileError, match=f"part.onnx returned {kind} scores in .*; export it again"):
            score(images[0])


def test_the_engine_follows_the_file_not_its_name(tiny_tflite: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    import ai_edge_litert
    import onnxruntime

    misnamed = tmp_path / "model.onnx"
    misnamed.write_bytes(tiny_tflite.read_bytes())
    engine = load(misnamed).engine
    assert (engine.name, engine.version) == ("litert", ai_edge_litert.__version__)
    engine = load(tiny_onnx, engine="onnxruntime").engine
    assert (engine.name, engine.version) == ("onnxruntime", onnxruntime.__version__)


def test_wrong_settings(tiny_tflite: Path, tiny_onnx: Path) -> None:
    for wrong in ({"engine": "litert"}, {"device": "edgetpu"}, {"threshold": 1.1}):
        with pytest.raises(ConfigError):
            load(tiny_onnx, **wrong)
    for threads in (0, -1):
        with pytest.raises(ConfigError, match=f"threads must be a whole number from 1 to 1024; received {threads}"):
            load(tiny_tflite, threads=threads)


@pytest.mark.parametrize("wrong", [1.5, True, "2", -1, 2**40, [1]])
def test_threads_and_thresholds_of_wrong_types_are_reported(wrong: Any, tiny_onnx: Path) -> None:
    with pytest.raises(ConfigError, match="threads must be a whole number"):
        load(tiny_onnx, threads=wrong)
    if wrong != 1.5:
        with pytest.raises(ConfigError, match="threshold must be a number"):
            load(tiny_onnx, threshold=wrong)


def test_one_image_in_place_of_several_is_reported(tiny_onnx: Path) -> None:
    image = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    with load(tiny_onnx) as classifier:
        assert classifier.scores([image]).shape == (1, len(LABELS))
        for wrong in (None, [image, image[1:]], "abc"):
            with pytest.raises(DataError, match="images must"):
                classifier.scores(wrong)  # type: ignore[arg-type]
        for one in ("abc", b"abc", Path("x"), image, image[:, :, 0], None, 5):
            with pytest.raises(DataError, match="list or another iterable"):
                classifier.predict_batch(one)  # type: ignore[arg-type]
            with pytest.raises(DataError, match="list or another iterable"):
                list(classifier.predict_iter(one))  # type: ignore[arg-type]


def test_threads(tiny_tflite: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier_module, "default_threads", lambda: 3)
    for path in (tiny_tflite, tiny_onnx):
        assert load(path).engine.threads == 3
        assert load(path, threads=2).engine.threads == 2


def test_what_holds_bytes_is_read_as_bytes_are(tiny_tflite: Path) -> None:
    data, image = tiny_tflite.read_bytes(), random_images(1)[0]
    file = io.BytesIO()
    Image.fromarray(image[:, :, 0]).save(file, "PNG")
    twice = bytes(np.repeat(np.frombuffer(file.getvalue(), np.uint8), 2))
    for content in (bytearray(data), memoryview(data)):
        with load(content, threads=1) as classifier:
            expected = classifier.predict(image).scores
            np.testing.assert_array_equal(classifier.predict(memoryview(twice)[::2]).scores, expected)
            with pytest.raises(DataError, match="received int64"):
                classifier.classify(image.astype(int).tolist())


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (40, 50)])
def test_a_mask_that_would_have_no_effect_is_refused(shape: tuple[int, int]) -> None:
    image = np.ma.MaskedArray(np.full(shape, 7, np.uint8), mask=True)
    with pytest.raises(DataError, match=r"array.filled\(0\)"):
        Classifier(make_spec(), FixedEngine([1, 0, 0])).predict(image)


def test_an_image_that_is_read_as_nearly_black_is_reported() -> None:
    engine = FixedEngine([1, 0, 0])
    frame = np.full((20, 30), 3000, np.uint16)
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    for source in (frame, file.getvalue(), Image.fromarray(frame.astype(np.int32))):
        with pytest.warns(ImageWarning, match="nearly black.*rescale its images to 8 bits, or train again with --bits"):
            Classifier(make_spec(), engine).predict(source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Classifier(make_spec(bits=12), engine).predict(frame)
        Classifier(make_spec(), engine).predict(np.zeros_like(frame))
        Classifier(make_spec(), engine).predict(frame * 2)


def test_bits_of_the_file_scale_every_16_bit_source(tmp_path: Path) -> None:
    engine = FixedEngine([1, 0, 0])
    frame = np.random.default_rng(0).integers(0, 4096, (20, 30), np.uint16)
    path = tmp_path / "frame.png"
    Image.fromarray(frame).save(path)
    content = path.read_bytes()
    for bits in (12, None):
        classifier = Classifier(make_spec(bits=bits), engine)
        expected = load_gray(frame, HEIGHT, WIDTH, Preprocessing(bits))
        assert (expected.max() > 99) == (bits == 12)
        for source in (frame, frame[:, :, np.newaxis], path, content, bytearray(content), memoryview(content)):
            classifier.predict(source)
            np.testing.assert_array_equal(engine.seen.pop()[0], expected)


def test_channels_need_an_order() -> None:
    engine = FixedEngine([1, 0, 0])
    classifier = Classifier(make_spec(), engine)
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    padded = np.concatenate([rgb, np.full((20, 30, 1), 255, np.uint8)], -1)
    frames: list[tuple[np.ndarray, Any]] = [
        (rgb, "rgb"),
        (rgb[:, :, ::-1], "bgr"),
        (padded, "rgb"),
        (padded[:, :, [2, 1, 0, 3]], "bgr"),
    ]
    for frame, order in frames:
        classifier.predict(frame, channel_order=order)
        np.testing.assert_array_equal(engine.seen.pop()[0], load_gray(Image.fromarray(rgb), HEIGHT, WIDTH))
    classifier.predict(rgb, channel_order="bgr")
    assert (engine.seen.pop()[0] != load_gray(rgb, HEIGHT, WIDTH)).any()
    for wrong in (None, "RGB", "gbr"):
        with pytest.raises(ConfigError, match=r"array \(20, 30, 3\) needs channel_order='rgb' or 'bgr'"):
            classifier.predict(rgb, channel_order=wrong)  # type: ignore[arg-type]
    # Everything else says itself what it is.
    for source in (Image.fromarray(rgb), rgb[:, :, 0], rgb[:, :, :1], random_images(1)[0]):
        classifier.predict_batch([source])


@pytest.mark.parametrize(
    ("stored", "given", "label"), [(None, None, "nut"), (0.5, None, "nut"), (0.51, None, None), (0.51, 0.4, "nut")]
)
def test_scores_below_the_threshold_have_no_label(stored: Any, given: Any, label: str | None) -> None:
    prediction = Classifier(make_spec(threshold=stored), FixedEngine([0.2, 0.5, 0.3]), given).predict(
        random_images(1)[0]
    )
    assert (prediction.label, prediction.index, prediction.score) == (label, 1, 0.5)


def test_a_stored_threshold_is_loaded(tiny_onnx: Path, tmp_path: Path) -> None:
    path = tmp_path / "strict.onnx"
    path.write_bytes(attach_spec(tiny_onnx.read_bytes(), make_spec(threshold=1.0), "onnx"))
    image = random_images(1)[0]
    assert load(path).predict(image).label is None
    assert load(path, threshold=0).predict(image).label == load(tiny_onnx).predict(image).label


@KINDS
def test_a_closed_classifier_lets_go_and_says_so(fixture: str, request: pytest.FixtureRequest) -> None:
    with load(request.getfixturevalue(fixture)) as classifier:
        classifier.warmup(runs=1)
        engine = weakref.ref(classifier.engine)
    assert engine() is None
    with pytest.raises(ConfigError, match="closed"):
        classifier.predict(random_images(1)[0])
    classifier.close()


def test_warmup_runs_the_network() -> None:
    engine = FixedEngine([1, 0, 0])
    Classifier(make_spec(), engine).warmup(runs=4)
    assert [image.shape for image in engine.seen] == [(1, HEIGHT, WIDTH, 1)] * 4


@KINDS
def test_a_file_without_metadata_is_named(fixture: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    data = request.getfixturevalue(fixture).read_bytes()
    bare = tmp_path / "bare.model"
    bare.write_bytes(read_model_file(data).graph)
    again = ", or copy it again if it is cut off" if fixture == "tiny_tflite" else ""
    with pytest.raises(
        ModelFileError, match=f"bare.model: this .* has no edgecls metadata; .*'edgecls export'{again}$"
    ):
        load(bare)
    with pytest.raises(ModelFileError, match="^this"):
        load(bare.read_bytes())


@KINDS
def test_a_graph_that_the_interpreter_refuses(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graphs: dict[str, tuple[Any, bytes]] = {
        "tiny_tflite": ("tflite", b"\x1c\0\0\0TFL3" + bytes(100)),
        "tiny_onnx": ("onnx", b"\x08\x08\x3a\x03\x12\x01g"),
    }
    kind, graph = graphs[fixture]
    path = tmp_path / "model"
    path.write_bytes(attach_spec(graph, make_spec(), kind))
    with pytest.raises(ModelFileError, match="graph cannot be read|cannot load the graph"):
        load(path)
    assert capfd.readouterr().err == ""


@FILES
@pytest.mark.parametrize("changes", [{"height": 10, "width": 12}, {"labels": ("a", "b")}])
def test_metadata_of_another_graph(
    fixture: str, changes: dict[str, Any], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    good: Path = request.getfixturevalue(fixture)
    path = tmp_path / "model"
    kind: Any = good.suffix[1:]
    path.write_bytes(attach_spec(good.read_bytes(), make_spec(**changes), kind))
    with pytest.raises(ModelFileError, match=r"the graph's (input|output) must be"):
        load(path)


@KINDS
@given(data=st.data())
@fast
def test_damaged_files_give_our_error(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path, data: st.DataObject
) -> None:
    good = request.getfixturevalue(fixture).read_bytes()
    graph_bytes = len(read_model_file(good).graph)
    bad = bytearray(good)
    if data.draw(st.booleans()):
        bad[data.draw(st.integers(0, graph_bytes - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del bad[data.draw(st.integers(0, len(good) - 1)) :]
    path = tmp_path / "bad"
    path.write_bytes(bad)
    with pytest.raises(ModelFileError):
        load(path)


def test_the_public_names_are_enough_to_classify(tiny_tflite: Path, tmp_path: Path) -> None:
    assert edgecls.__version__ == importlib.metadata.version("edgecls")
    with edgecls.load(tiny_tflite) as classifier:
        prediction = classifier.predict(random_images(1)[0])
    assert isinstance(classifier, edgecls.Classifier) and isinstance(prediction, edgecls.Prediction)
    assert prediction.label == LABELS[prediction.index]
    with pytest.raises(edgecls.EdgeclsError):
        edgecls.load(tmp_path / "missing.tflite")
