from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import interpreter as litert_interpreter
from tiny import HEIGHT, WIDTH, make_spec

from edgecls.errors import ConfigError, MissingDependency
from edgecls.model_file.read import read_model_file
from edgecls.model_file.write import attach_spec
from edgecls.runtime import litert
from edgecls.runtime.classifier import load


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
    scores = litert.LitertEngine(interpreter, "0", make_spec(input_dtype="float32")).run(
        np.full((1, HEIGHT, WIDTH, 1), 255, np.uint8)
    )
    assert scores.dtype == np.float32 and scores.tolist() == expected
    # Raw gray values: scaling lives in the graph.
    assert fed[0].dtype == np.float32 and fed[0].max() > 200


def test_a_closed_stderr_stays_closed(tiny_tflite: Path) -> None:
    saved, stdin = os.dup(2), os.dup(0)
    try:
        # stdin as well: the lowest free descriptor is the next file's.
        os.close(2)
        os.close(0)
        assert load(tiny_tflite, engine="litert").engine.name == "litert"
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(2)
    finally:
        os.dup2(saved, 2)
        os.dup2(stdin, 0)


def test_stderr_passes_on_all_but_info(capfd: pytest.CaptureFixture[str]) -> None:
    with litert.captured_stderr():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nWARNING: slow kernel\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "WARNING: slow kernel\nafter\n"
    with pytest.raises(ValueError), litert.captured_stderr() as captured:
        os.write(2, b"ERROR: bad graph\n")
        captured.seek(0)
        assert captured.read() == b"ERROR: bad graph\n"
        raise ValueError
    assert capfd.readouterr().err == ""


@pytest.fixture
def compiled(tiny_tflite: Path, tmp_path: Path) -> Path:
    """A file that looks as if edgetpu_compiler had made it: the interpreter ignores what follows the graph."""
    _, graph, spec = read_model_file(tiny_tflite.read_bytes())
    path = tmp_path / "model_edgetpu.tflite"
    path.write_bytes(attach_spec(graph + litert.EDGETPU_OPERATOR, spec, "tflite"))
    return path


def test_a_compiled_file_runs_through_the_delegate(
    compiled: Path, tiny_tflite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Any] = []
    real = litert_interpreter.Interpreter

    def interpreter(*, experimental_delegates: Any, **settings: Any) -> Any:
        used.append(experimental_delegates)
        return real(**settings)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: used.append(name))
    monkeypatch.setattr(litert_interpreter, "load_delegate", lambda name: f"delegate of {name}")
    monkeypatch.setattr(litert_interpreter, "Interpreter", interpreter)
    classifier = load(compiled, device="edgetpu")
    assert used == ["libedgetpu.so.1", ["delegate of libedgetpu.so.1"]]
    assert (classifier.engine.name, classifier.engine.device) == ("litert", "edgetpu")
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
    np.testing.assert_array_equal(classifier.predict(image).scores, load(tiny_tflite).predict(image).scores)
    assert used[-1] is None


def test_no_edgetpu_library(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Real on all machines: no system has a library of this name.
    monkeypatch.setattr(litert, "EDGETPU_LIBRARY", "libedgetpu.so.99")
    with pytest.raises(MissingDependency, match=r"libedgetpu\.so\.99.*libedgetpu1-std"):
        load(compiled, device="edgetpu")


def test_no_edgetpu_plugged_in(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ValueError(f"Failed to load delegate from {name}\n")

    monkeypatch.setattr(ctypes, "CDLL", lambda _: None)
    monkeypatch.setattr(litert_interpreter, "load_delegate", fail)
    with pytest.raises(ConfigError, match="no Edge TPU answers.*plugged in"):
        load(compiled, device="edgetpu")


def test_a_file_of_the_other_kind_is_refused(compiled: Path, tiny_tflite: Path) -> None:
    with pytest.raises(ConfigError, match="needs a compiled file, .*; run edgetpu_compiler"):
        load(tiny_tflite, device="edgetpu")
    with pytest.raises(ConfigError, match="use device 'edgetpu'"):
        load(compiled)
