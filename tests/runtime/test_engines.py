from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import HEIGHT, LABELS, WIDTH, make_spec

from edgecls.errors import ConfigError, ModelFileError
from edgecls.model_file.read import read_model_file
from edgecls.model_file.write import attach_spec
from edgecls.runtime.classifier import load
from edgecls.runtime.engines import ALIASES, DEVICES, ENGINES, TensorForm, check_tensors, choose_engine, own_engine


def install(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Make these the only packages that can be found."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in packages else None)


@pytest.mark.parametrize(
    ("kind", "device", "packages", "expected"),
    [
        ("tflite", "cpu", ["ai_edge_litert", "onnxruntime", "openvino"], "litert"),
        ("tflite", "cpu", ["tflite_runtime", "openvino"], "litert"),
        ("tflite", "cpu", ["onnxruntime", "openvino"], "openvino"),
        ("onnx", "cpu", ["ai_edge_litert", "onnxruntime", "openvino"], "onnxruntime"),
        ("onnx", "cpu", ["ai_edge_litert", "openvino"], "openvino"),
        # Opening it says what to install.
        ("tflite", "cpu", [], "litert"),
        ("onnx", "cpu", [], "onnxruntime"),
        ("tflite", "edgetpu", ["openvino"], "litert"),
        ("onnx", "cuda", ["openvino"], "onnxruntime"),
        ("onnx", "tensorrt", [], "onnxruntime"),
    ],
)
def test_the_default_fits_and_is_installed(
    kind: Any, device: str, packages: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, *packages)
    assert choose_engine(kind, None, device) == expected


@given(
    st.sampled_from(["tflite", "onnx"]),
    st.sampled_from([None, *ENGINES, *ALIASES, "nonsense", ""]),
    st.sampled_from([*DEVICES, "gpu"]),
)
def test_what_is_chosen_can_run_the_file_and_other_engines_cannot(kind: Any, engine: str | None, device: str) -> None:
    named = ALIASES.get(engine or "", engine)
    fits = [name for name, entry in ENGINES.items() if kind in entry.kinds and device in entry.devices]
    try:
        chosen = choose_engine(kind, engine, device)
    except ConfigError:
        assert named not in fits if named else not fits
    else:
        assert chosen in fits and chosen == (named or chosen)


@pytest.mark.parametrize(
    ("kind", "engine", "device", "message"),
    [
        ("onnx", "litert", "cpu", "engine 'litert' cannot run onnx files; these can: onnxruntime, openvino"),
        ("tflite", "ort", "cpu", "engine 'ort' cannot run tflite files; these can: litert, openvino"),
        ("tflite", "nonsense", "cpu", "engine 'nonsense' cannot run tflite files"),
        ("onnx", "openvino", "cuda", "engine 'openvino' cannot use device 'cuda'; these can: onnxruntime"),
        ("tflite", "torq", "cpu", "'cpu'; these can: litert, openvino. Devices of 'torq': torq-simulator"),
        ("tflite", None, "cuda", "no engine runs tflite files on device 'cuda'; pass a file of kind onnx"),
        ("onnx", None, "edgetpu", "no engine runs onnx files on device 'edgetpu'; pass a file of kind tflite"),
        ("onnx", None, "gpu", "unknown device 'gpu'; devices are cpu, cuda, tensorrt, edgetpu"),
    ],
)
def test_a_wrong_choice_names_the_right_ones(kind: Any, engine: str | None, device: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_engine(kind, engine, device)


LAST, FIRST = (1, HEIGHT, WIDTH, 1), (1, 1, HEIGHT, WIDTH)
SCORES = TensorForm("float32", (1, len(LABELS)))


@pytest.mark.parametrize(
    ("shape", "expected"), [(LAST, LAST), (FIRST, FIRST), (("n", *LAST[1:]), LAST), ((None, *FIRST[1:]), FIRST)]
)
def test_the_image_may_have_its_channel_last_or_first(shape: Any, expected: tuple[int, ...]) -> None:
    assert check_tensors([TensorForm("uint8", shape)], [SCORES], make_spec(), ("float32",)) == expected


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([TensorForm("uint8", LAST)] * 2, [SCORES], "number of the graph's inputs must be 1; received 2"),
        ([TensorForm("uint8", LAST)], [], "number of the graph's outputs must be 1; received 0"),
        ([TensorForm("int8", LAST)], [SCORES], "input must be uint8"),
        ([TensorForm("uint8", (2, *LAST[1:]))], [SCORES], "input must be"),
        ([TensorForm("uint8", (1, HEIGHT, WIDTH, 3))], [SCORES], "input must be"),
        ([TensorForm("uint8", ())], [SCORES], "input must be"),
        (
            [TensorForm("uint8", LAST)],
            [TensorForm("uint8", SCORES.shape)],
            r"output must be float32 \(1, 3\); received uint8",
        ),
        ([TensorForm("uint8", LAST)], [TensorForm("float32", (1, 2))], "output must be"),
    ],
)
def test_other_tensors_are_refused(inputs: list[TensorForm], outputs: list[TensorForm], message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        check_tensors(inputs, outputs, make_spec(), ("float32",))


@pytest.mark.parametrize(
    # OpenVINO looks at names in its own error messages alone.
    ("fixture", "engine"),
    [("tiny_tflite", "litert"), ("tiny_onnx", "onnxruntime")],
)
def test_names_that_are_no_text_are_reported(
    fixture: str, engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    _, graph, spec = read_model_file(request.getfixturevalue(fixture).read_bytes())
    path = tmp_path / "odd"
    path.write_bytes(attach_spec(graph.replace(b"image", b"\x80mage"), spec, "onnx" if "onnx" in fixture else "tflite"))
    # Which interpreters look at names before they hand them out differs.
    with pytest.raises(ModelFileError, match="a name in the graph is no UTF-8 .*; re-export|cannot load the graph"):
        load(path, engine=engine)


@pytest.mark.parametrize(
    ("fixture", "engine", "holder", "method"),
    [
        ("tiny_tflite", "litert", "_interpreter", "invoke"),
        ("tiny_onnx", "onnxruntime", "_session", "run"),
        ("tiny_onnx", "openvino", "_request", "infer"),
    ],
)
def test_a_graph_that_loads_and_does_not_run_is_reported(
    fixture: str, engine: str, holder: str, method: str, request: pytest.FixtureRequest
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("Input tensor 1 lacks data")

    classifier = load(request.getfixturevalue(fixture), engine=engine)
    setattr(classifier.engine, holder, SimpleNamespace(set_tensor=lambda *_: None, **{method: fail}))
    with pytest.raises(ModelFileError, match="cannot run the graph: Input tensor 1 lacks data; re-export"):
        classifier.predict(np.zeros((HEIGHT, WIDTH), np.uint8))


def test_a_file_is_scored_in_the_engine_of_its_formats_makers() -> None:
    assert (own_engine("tflite"), own_engine("onnx")) == ("litert", "onnxruntime")
