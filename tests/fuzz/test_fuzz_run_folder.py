"""Run folders that are damaged or tricks: read, or refused by our error. Keras itself runs in the last test alone."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import fuzz, ran
from hypothesis import given
from hypothesis import strategies as st
from mutations import Draw, damaged, odd_documents, to_json
from report_run import make_run

from edgecls.benchmark.compare import compare_records
from edgecls.benchmark.record import read_record as read_benchmark
from edgecls.errors import EdgeclsError, ModelFileError
from edgecls.export.calibration import load_samples
from edgecls.export.export_folder import read_entries
from edgecls.files import DAMAGE_ERRORS, write_json
from edgecls.report.page import write_report
from edgecls.report.settings import read_config
from edgecls.training.run.checkpoint import Checkpoint
from edgecls.training.run.keras_file import check_keras_file
from edgecls.training.run.run_folder import load_model, read_held_out_scores, read_history, read_whole_record

ENTRY = {
    "path": "model-int8.tflite",
    "format": "tflite",
    "precision": "int8",
    "bytes": 1000,
    "sha256": "0" * 64,
    "accuracy": 0.9,
    "drop": 0.01,
    "agreement": 0.99,
    "passed": True,
    "verdict": "passed",
    "flips": "flips.png",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that TensorFlow has not seen, with one exported file in its record."""
    folder = make_run(tmp_path_factory.mktemp("fuzz"))
    (folder / "export").mkdir()
    write_json(folder / "export" / "export.json", {"files": [ENTRY]})
    return folder


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    folder = tmp_path_factory.mktemp("saved")
    image = keras.Input((4, 4, 1), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    keras.Model(image, keras.layers.Dense(2, activation="softmax")(x)).save(folder / "model.keras")
    return folder


def document(path: Path) -> Any:
    found = json.loads(path.read_text(encoding="utf-8"))
    # As an older edgecls wrote it: with them, a change is refused before anything looks at it.
    if isinstance(found, dict):
        found.pop("sha256", None)
        found.pop("files", None)
    # Two epochs say what a hundred do.
    return found[:2] if isinstance(found, list) else found


def test_records(run: Path) -> None:
    path, good = run / "run.json", document(run / "run.json")

    @fuzz(1000)
    @given(odd_documents(good).map(to_json) | damaged((to_json(good), b"[" * 100_000)))
    def change(data: bytes) -> None:
        ran["run.json"] += 1
        path.write_bytes(data)
        try:
            record = read_whole_record(run)
            read_config(record["config"])
            load_samples(record, data=None, count=4, seed=0)
        except EdgeclsError:
            return
        # What goes into files and pages is still the run's own.
        assert set(record["split"]["train"]) == set(record["classes"])

    change()
    path.write_bytes(to_json(good))


@pytest.mark.parametrize("name", ["history.json", "export/export.json", "held-out-scores.npy"])
def test_other_files(run: Path, name: str) -> None:
    path = run / name
    good = path.read_bytes()
    bytes_only = name.endswith("npy")
    trees = st.nothing() if bytes_only else odd_documents(document(path)).map(to_json)

    @fuzz(500)
    @given(damaged((good,)) | trees)
    def change(data: bytes) -> None:
        ran[name] += 1
        path.write_bytes(data)
        try:
            read_history(run)
            read_entries(run / "export", "any")
            read_held_out_scores(run, 12, 3)
        except ModelFileError:
            return

    change()
    path.write_bytes(good)


def test_whole_reports(run: Path) -> None:
    """Few, as each draws a page of pictures."""
    good = {name: document(run / name) for name in ("run.json", "history.json", "export/export.json")}

    @fuzz(60, quick=4)
    @given(st.sampled_from(sorted(good)).flatmap(lambda n: st.tuples(st.just(n), odd_documents(good[n]))))
    def change(changed: tuple[str, Any]) -> None:
        ran["reports"] += 1
        name, tree = changed
        (run / name).write_bytes(to_json(tree))
        try:
            write_report(run)
        except EdgeclsError:
            return
        finally:
            (run / name).write_bytes(to_json(good[name]))

    change()


def test_checkpoints(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint-classifier.npz")
    checkpoint.write({"a": np.zeros((3, 2), np.float32), "b": np.arange(4)}, {"epoch": 3})
    good = checkpoint.path.read_bytes()

    @fuzz(700)
    @given(damaged((good,)))
    def change(data: bytes) -> None:
        ran["checkpoints"] += 1
        checkpoint.path.write_bytes(data)
        try:
            saved = checkpoint.read()
        except EdgeclsError:
            return
        assert saved is not None and saved.state == {"epoch": 3}

    change()


@st.composite
def keras_files(draw: Draw, good: dict[str, bytes]) -> bytes:
    """A .keras file with an odd configuration, members added, missing or twice, or damage anywhere."""
    config = json.loads(good["config.json"])
    members = dict(good)
    if draw(st.booleans()):
        members["config.json"] = to_json(draw(odd_documents(config)))
    for name in draw(
        st.lists(st.sampled_from(["../evil.py", "/etc/evil", "assets/a.txt", "config.json/"]), max_size=1)
    ):
        members[name] = b"evil"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, draw(st.sampled_from([0, 8])))
    data = buffer.getvalue()
    return draw(damaged((data,), most=2)) if draw(st.booleans()) else data


def test_keras_files(saved_model: Path) -> None:
    path = saved_model / "model.keras"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    small = {**members, "model.weights.h5": b"h5" * 99}

    @fuzz(900)
    @given(keras_files(small))
    def change(data: bytes) -> None:
        ran["keras files"] += 1
        path.write_bytes(data)
        try:
            check_keras_file(path)
        except DAMAGE_ERRORS:
            # load_model turns them into its own.
            return

    change()

    @fuzz(150, quick=5)
    @given(odd_documents(json.loads(members["config.json"])).map(to_json))
    def load(changed: bytes) -> None:
        ran["keras files in Keras"] += 1
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in {**members, "config.json": changed}.items():
                archive.writestr(name, data)
        try:
            assert load_model(saved_model).layers
        except ModelFileError:
            return

    load()


def test_benchmark_records(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    from benchmark_files import make_record

    good = json.loads(json.dumps(make_record().to_json()))

    @fuzz(500)
    @given(odd_documents(good).map(to_json) | damaged((to_json(good), b"[" * 100_000)))
    def change(data: bytes) -> None:
        ran["benchmark records"] += 1
        path.write_bytes(data)
        try:
            compare_records(read_benchmark(path), make_record(), force=True)
        except EdgeclsError:
            return

    change()
