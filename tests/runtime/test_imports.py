"""Predicting must work, quietly, where only numpy, Pillow and one interpreter are installed."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edgecls import load
from edgecls.errors import MissingDependency

TRAINING = {"tensorflow", "keras", "onnx", "tf2onnx", "click"}
PREDICT = """
import sys, edgecls
import numpy as np
classifier = edgecls.load(sys.argv[1])
classifier.predict(np.zeros((12, 10, 1), np.uint8))
for _, prediction in classifier.predict_iter([np.zeros((30, 20), np.uint8)]):
    assert prediction.scores.shape == (3,)
print(*sys.modules)
"""


@pytest.mark.parametrize(
    ("fixture", "engine", "other"),
    [
        ("tiny_tflite", "ai_edge_litert", "onnxruntime"),
        ("tiny_tflite_fp32", "ai_edge_litert", "onnxruntime"),
        ("tiny_onnx", "onnxruntime", "ai_edge_litert"),
    ],
)
def test_predicting_imports_one_interpreter_and_is_quiet(
    fixture: str, engine: str, other: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(fixture)
    done = subprocess.run([sys.executable, "-c", PREDICT, str(path)], capture_output=True, text=True, timeout=120)
    modules = set(done.stdout.split())
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert engine in modules
    assert modules & (TRAINING | {other, "tflite_runtime", "openvino"}) == set()


def test_importing_the_package_imports_no_interpreter() -> None:
    code = "import sys, edgecls; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    modules = set(done.stdout.split())
    assert "edgecls.runtime.classifier" in modules
    assert modules & (TRAINING | {"ai_edge_litert", "tflite_runtime", "onnxruntime", "openvino"}) == set()


def test_missing_packages_name_the_extra(tiny_tflite: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match=r"pip install 'edgecls\[onnx\]'"):
        load(tiny_onnx, engine="onnxruntime")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match=r"pip install 'edgecls\[onnx\]'"):
        load(tiny_onnx)
    with pytest.raises(MissingDependency, match=r"pip install 'edgecls\[litert\]'"):
        load(tiny_tflite)
    # The one wheel there is for 32-bit ARM, with the NumPy it was built for.
    monkeypatch.setattr(platform, "machine", lambda: "armv7l")
    monkeypatch.setattr(sys, "version_info", (3, 11, 2))
    with pytest.raises(MissingDependency, match="pip install edgecls 'tflite-runtime==2.14.0' 'numpy<2'"):
        load(tiny_tflite)


def test_tflite_runtime_needs_numpy_1(tiny_tflite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "tflite_runtime")
    monkeypatch.setattr(np, "__version__", "2.1.0")
    with pytest.raises(MissingDependency, match="numpy<2"):
        load(tiny_tflite)
    monkeypatch.setattr(np, "__version__", "1.26.4")
    with pytest.raises(MissingDependency, match="tflite_runtime cannot be imported"):
        load(tiny_tflite)


def test_tflite_runtime_takes_over(tiny_tflite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_edge_litert import interpreter

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "tflite_runtime")
    monkeypatch.setattr(np, "__version__", "1.26.4")
    monkeypatch.setitem(sys.modules, "tflite_runtime", SimpleNamespace(__version__="2.14.0"))
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", interpreter)
    engine = load(tiny_tflite).engine
    assert (engine.name, engine.version) == ("litert", "2.14.0")


COMMAND = """
import inspect, sys, threading

ran = set()


def record(frame, event, argument):
    code = frame.f_code
    # Bodies of modules and classes are not functions.
    if event == "call" and "edgecls" in code.co_filename and code.co_flags & inspect.CO_OPTIMIZED:
        ran.add(code.co_filename)


threading.setprofile(record)
sys.setprofile(record)
import edgecls

ran.clear()
from edgecls.cli import main

try:
    main(sys.argv[1:])
finally:
    sys.setprofile(None)
    package = [name for name in sys.modules if name.startswith("edgecls")]
    inside = [path for path in ran if path.startswith(edgecls.__path__[0])]
    print(" ".join(package), " ".join(inside), sep="\\n", file=sys.stderr)
"""


@pytest.mark.parametrize("fixture", ["tiny_tflite", "tiny_onnx"])
def test_the_predict_command_loads_little_and_runs_through_few_files(
    fixture: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file, image = request.getfixturevalue(fixture), tmp_path / "a.png"
    Image.new("L", (20, 10), 90).save(image)
    command = [sys.executable, "-c", COMMAND, "predict", str(file), str(image)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1), done.stderr
    modules, files = (line.split() for line in done.stderr.splitlines())
    folders = {name.split(".")[1] for name in modules if "." in name}
    assert folders == {
        "boards",
        "cli",
        "errors",
        "images",
        "limits",
        "messages",
        "model_file",
        "preprocessing",
        "runtime",
    }
    assert {name for name in modules if name.startswith("edgecls.cli.")} == {
        "edgecls.cli.option_types",
        "edgecls.cli.predict",
        "edgecls.cli.terminal",
    }
    assert len(files) <= 18
