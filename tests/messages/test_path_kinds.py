from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgecls.errors import ModelFileError
from edgecls.messages.path_kinds import explain_model, explain_run
from edgecls.runtime.classifier import load


def make_run(root: Path) -> Path:
    (root / "run" / "export").mkdir(parents=True)
    (root / "run" / "run.json").write_text("{}")
    with zipfile.ZipFile(root / "run" / "model.keras", "w") as archive:
        archive.writestr("model.weights.h5", b"")
    return root / "run"


def test_a_run_folder_names_the_file_to_take(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert explain_model(run) == f"{run} is a run folder. Export it first: edgecls export {run}"
    for name in ("model-int8.rejected.tflite", "model-fp32.tflite", "model-int8.onnx", "model-int8.tflite"):
        (run / "export" / name).touch()
    assert explain_model(run) == f"{run} is a run folder. Did you mean {run}/export/model-int8.tflite?"
    assert explain_run(run / "export") == f"{run}/export is a folder, not a run folder. Did you mean {run}?"
    assert explain_run(tmp_path) == f"{tmp_path} is a folder, not a run folder. Did you mean {run}?"


def test_a_keras_model_names_the_command(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    keras = run / "model.keras"
    assert explain_model(keras) == f"{keras} is a Keras model. Export it first: edgecls export {run}"
    assert explain_run(keras) == f"{keras} is a Keras model, not a run folder. Did you mean {run}?"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "an empty file"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"bolt\nnut\nMutter \xc3\xa4\n", "a text file"),
        (b"\x1f\x8b\x08", "a gzip archive"),
    ],
)
def test_what_is_no_model_is_named(data: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ModelFileError, match=f"x is {what}.*Pass a file that 'edgecls export' wrote"):
        load(tmp_path / "x")


def test_an_hdf5_file_may_be_a_keras_model(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ModelFileError, match=r"x is an HDF5 file.*Import it first: edgecls import \S*x DATA --out RUN"):
        load(tmp_path / "x")


def test_a_saved_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    assert "is a TensorFlow SavedModel folder. Pass" in explain_model(tmp_path)


def test_random_bytes_are_not_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(np.random.default_rng(0).integers(0, 256, 300, np.uint8)))
    assert explain_model(tmp_path / "x") == ""
