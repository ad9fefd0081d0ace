from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import HEIGHT, LABELS, WIDTH, make_spec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import edgecls
from edgecls.errors import ConfigError, DataError, ModelFileError
from edgecls.runtime import classifier as classifier_module
from edgecls.runtime import litert, ort
from edgecls.runtime.classifier import Classifier, load
from edgecls.spec import attach_spec, split_file

FILES = pytest.mark.parametrize("fixture", ["tiny_tflite", "tiny_tflite_fp32", "tiny_onnx"])
KINDS = pytest.mark.parametrize("fixture", ["tiny_tflite", "tiny_onnx"])
fast = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def random_images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, HEIGHT, WIDTH, 1), np.uint8)


class FixedEngine:
    name = "fixed"
    version = "0"

    def __init__(self, scores: list[float]) -> None:
        self.answer = np.array(scores, np.float32)
        self.seen: list[np.ndarray] = []

    def run(self, image: np.ndarray) -> np.ndarray:
        self.seen.append(image)
        return self.answer


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


def test_nan_scores_are_an_error() -> None:
    classifier = Classifier(make_spec(), FixedEngine([0.1, float("nan"), 0.9]))
    with pytest.raises(ModelFileError, match="NaN"):
        classifier.predict(random_images(1)[0])


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
    with pytest.raises(ConfigError, match="cannot run onnx files; these can: onnxruntime"):
        load(tiny_onnx, engine="litert")
    with pytest.raises(ConfigError, match="these can: litert"):
        load(tiny_tflite, engine="nonsense")
    for threads in (0, -1):
        with pytest.raises(ConfigError, match=f"at least 1; received {threads}"):
            load(tiny_tflite, threads=threads)


def test_threads(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def record(graph: bytes, spec: Any, threads: int) -> FixedEngine:
        seen.append(threads)
        return FixedEngine([1, 0, 0])

    monkeypatch.setattr(ort, "open_engine", record)
    for allowed in (1, 3, 64):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=allowed: set(range(n)))
        load(tiny_onnx)
    load(tiny_onnx, threads=7)
    assert seen == [1, 3, 4, 7]


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
    with pytest.raises(ModelFileError, match="cannot load the graph"):
        load(path)
    assert capfd.readouterr().err == ""


@FILES
@pytest.mark.parametrize("changes", [{"height": 10, "width": 12}, {"labels": ("a", "b")}])
def test_a_contract_that_is_not_the_graphs(
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
    graph_bytes = len(split_file(good)[0])
    bad = bytearray(good)
    if data.draw(st.booleans()):
        bad[data.draw(st.integers(0, graph_bytes - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del bad[data.draw(st.integers(0, len(good) - 1)) :]
    path = tmp_path / "bad"
    path.write_bytes(bad)
    with pytest.raises(ModelFileError):
        load(path)


def test_onnx_inputs_of_other_layouts(tmp_path: Path) -> None:
    """(1, 1, H, W), float32 and a batch of any size: one channel, so each reads the same bytes."""
    from onnx import TensorProto, helper

    image = random_images(1)[0]
    layouts: list[tuple[list[Any], int]] = [
        (["n", 1, HEIGHT, WIDTH], TensorProto.FLOAT),
        ([1, HEIGHT, WIDTH, 1], TensorProto.UINT8),
    ]
    for shape, dtype in layouts:
        nodes = [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["float"], ["flat"]),
            helper.make_node("Slice", ["flat", "starts", "ends", "axes"], ["scores"]),
        ]
        ints = {"starts": [0], "ends": [3], "axes": [1]}
        graph = helper.make_graph(
            nodes,
            "first three pixels",
            [helper.make_tensor_value_info("image", dtype, shape)],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [shape[0], 3])],
            [helper.make_tensor(name, TensorProto.INT64, [1], value) for name, value in ints.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path = tmp_path / "model.onnx"
        path.write_bytes(attach_spec(model.SerializeToString(), make_spec(), "onnx"))
        np.testing.assert_array_equal(load(path).predict(image).scores, image.ravel()[:3].astype(np.float32))


def test_a_provider_left_out_is_an_error(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    session = SimpleNamespace(get_providers=lambda: ["OtherExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: session)
    with pytest.raises(ConfigError, match="OtherExecutionProvider"):
        load(tiny_onnx)


@pytest.mark.parametrize(
    ("dtype", "quantization", "raw", "expected"),
    [
        (np.uint8, (1 / 256, 0), [0, 128, 255], [0, 0.5, 255 / 256]),
        # In 8 bits, 127 - (-128) would overflow to -1.
        (np.int8, (1 / 256, -128), [-128, 0, 127], [0, 0.5, 255 / 256]),
        (np.float32, (0.0, 0), [0.25, 0.25, 0.5], [0.25, 0.25, 0.5]),
    ],
)
def test_litert_output_arithmetic(dtype: Any, quantization: tuple[float, int], raw: Any, expected: Any) -> None:
    fed: list[np.ndarray] = []
    interpreter = SimpleNamespace(
        get_input_details=lambda: [{"index": 0, "shape": (1, HEIGHT, WIDTH, 1), "dtype": np.float32}],
        get_output_details=lambda: [{"index": 1, "shape": (1, 3), "dtype": dtype, "quantization": quantization}],
        set_tensor=lambda _, values: fed.append(values),
        invoke=lambda: None,
        get_tensor=lambda _: np.array([raw], dtype),
    )
    scores = litert.LitertEngine(interpreter, "0", make_spec()).run(random_images(1))
    assert scores.dtype == np.float32 and scores.tolist() == expected
    # Raw gray values: scaling lives in the graph.
    assert fed[0].dtype == np.float32 and fed[0].max() > 200


def test_stderr_passes_on_all_but_info(capfd: pytest.CaptureFixture[str]) -> None:
    with litert._captured_stderr():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nWARNING: slow kernel\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "WARNING: slow kernel\nafter\n"
    with pytest.raises(ValueError), litert._captured_stderr() as captured:
        os.write(2, b"ERROR: bad graph\n")
        captured.seek(0)
        assert captured.read() == b"ERROR: bad graph\n"
        raise ValueError
    assert capfd.readouterr().err == ""


def test_package_exports() -> None:
    assert edgecls.load is load and edgecls.__version__ == "0.1.0"
