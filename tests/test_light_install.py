"""Fresh environments, one for each light extra: what a board has, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import CLASSES, draw

pytestmark = pytest.mark.install

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("tensorflow", "keras", "onnx", "tf2onnx")
# Extra -> file that its engine runs, the other engine's module and file.
EXTRAS = {
    "litert": ("model-int8.tflite", "onnxruntime", "onnx", "model-int8.onnx"),
    "onnx": ("model-int8.onnx", "ai_edge_litert", "litert", "model-int8.tflite"),
}


def run(*command: object, cwd: Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600, cwd=cwd)
    assert (done.returncode == 0) == ok, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (path,) = folder.glob("edgecls-*.whl")
    return path


@pytest.fixture(scope="module", params=sorted(EXTRAS))
def board(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """An extra and a folder with an environment that has edgecls with this extra."""
    folder = tmp_path_factory.mktemp(f"board-{request.param}")
    run(sys.executable, "-m", "venv", folder / "env", cwd=folder)
    run(folder / "env/bin/pip", "install", "--quiet", f"{wheel}[{request.param}]", cwd=folder)
    return request.param, folder


def test_a_board_predicts_evaluates_and_tells(board: tuple[str, Path], file_named: Callable[[str], Path]) -> None:
    extra, folder = board
    name, missing, other_extra, other = EXTRAS[extra]
    for file in (name, other):
        (folder / file).write_bytes(file_named(file).read_bytes())
    rng = np.random.default_rng(3)
    for label in CLASSES:
        (folder / "photos" / label).mkdir(parents=True)
        Image.fromarray(draw(label, rng)).save(folder / "photos" / label / "a.png")
    edgecls = folder / "env/bin/edgecls"

    for command in ([], ["predict"], ["train"]):
        assert "Example" in run(edgecls, *command, "--help", cwd=folder).stdout
    predicted = run(edgecls, "predict", name, *(f"photos/{label}/a.png" for label in CLASSES), "--json", cwd=folder)
    assert [entry["label"] for entry in json.loads(predicted.stdout)] == list(CLASSES)
    assert predicted.stderr == ""
    listed = run(edgecls, "predict", name, "photos", "--format", "csv", "--threads", 1, cwd=folder)
    assert len(listed.stdout.splitlines()) == 1 + len(CLASSES)
    assert "bright, dark, striped" in run(edgecls, "info", name, cwd=folder).stdout
    assert json.loads(run(edgecls, "evaluate", name, "photos", "--json", cwd=folder).stdout)["accuracy"] == 1

    for module in (*HEAVY, missing):
        assert (
            f"No module named '{module}'"
            in run(folder / "env/bin/python", "-c", f"import {module}", cwd=folder, ok=False).stderr
        )
    # Reading a contract needs no engine; running the graph needs the one that is not here.
    assert "bright, dark, striped" in run(edgecls, "info", other, cwd=folder).stdout
    refused = run(edgecls, "predict", other, "photos/dark/a.png", cwd=folder, ok=False)
    assert f"pip install 'edgecls[{other_extra}]'" in refused.stderr
    assert "Traceback" not in refused.stderr
    untrained = run(edgecls, "train", "photos", "--out", "run", cwd=folder, ok=False)
    assert "pip install 'edgecls[train]'" in untrained.stderr
    assert not (folder / "run").exists()
