"""Run folders that somebody changed after training: refused by name, whatever still looks right in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from report_run import epoch, make_run

from edgecls.errors import ConfigError, ModelFileError
from edgecls.report.page import write_report
from edgecls.training.run import run_folder
from edgecls.training.run.run_folder import read_record
from edgecls.training.run.settings_file import SETTINGS_FILE, check_settings

ODD = [b"", b"[0]", b"null", b"{}", b"NaN", b"1e999", b"[" * 100_000, b'{"config": {}}', b"\xff\xfe"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "one")


def refuse(run: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match=rf"{name} .*(train again|is damaged|delete it)") as caught:
        write_report(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["run.json", "history.json", "held-out-scores.npy"])
def test_files_that_are_cut_or_of_another_kind(run: Path, name: str) -> None:
    path = run / name
    whole = path.read_bytes()
    for data in (*ODD, whole[: len(whole) // 2], whole[:-2]):
        path.write_bytes(data)
        refuse(run, name)


@pytest.mark.parametrize("name", ["run.json", "history.json", "held-out-scores.npy"])
def test_every_flipped_bit_is_noticed(run: Path, name: str) -> None:
    path, record = run / name, read_record(run)
    whole = path.read_bytes()
    for place in range(0, len(whole), 17):
        data = bytearray(whole)
        data[place] ^= 1
        path.write_bytes(data)
        try:
            found = read_record(run)
            run_folder.read_history(run)
            run_folder.read_held_out_scores(run, 18, 3)
        except ModelFileError as error:
            assert name in str(error)
        else:
            # Between two values there may be any space, and a key that nobody knows may hold the checksum.
            assert name == "run.json" and {key: found.get(key) for key in record} == record


@pytest.mark.parametrize("name", ["run.json", "history.json", "held-out-scores.npy"])
def test_files_of_another_run(run: Path, tmp_path: Path, name: str) -> None:
    """Whole, of the same shape, with the same classes."""
    other = make_run(tmp_path / "two", wrong=((3, 1, 0.8),))
    run_folder.write_history(other, [epoch(1), epoch(3)])
    record = read_record(other)
    del record["files"]
    run_folder.write_record(other, record)
    shutil.copy(other / name, run / name)
    with pytest.raises(ModelFileError, match="damaged or of another run: its sha256 is not the one in run.json"):
        write_report(run)


def test_a_model_of_another_run(tmp_path: Path) -> None:
    import keras

    runs = [make_run(tmp_path / name) for name in ("one", "two")]
    for run in runs:
        image = keras.Input((4, 4, 1), dtype="uint8")
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
        keras.Model(image, keras.layers.Dense(2, activation="softmax")(x)).save(run / "model.keras")
        record = read_record(run)
        del record["files"]
        run_folder.write_record(run, record)
        run_folder.load_model(run)
    shutil.copy(runs[1] / "model.keras", runs[0] / "model.keras")
    with pytest.raises(ModelFileError, match=r"model\.keras cannot be loaded .*of another run"):
        run_folder.load_model(runs[0])


def test_a_changed_accuracy_is_not_shown(run: Path) -> None:
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    record["metrics"]["val_accuracy"] = 0.99
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    refuse(run, "run.json")


def test_pictures_that_are_damaged(run: Path) -> None:
    write_report(run)
    path = run / "plots" / "preview.png"
    whole = (run / "plots" / "curves.png").read_bytes()
    for data in (b"", b"text", whole[:30], whole[: len(whole) // 2], whole[:5000] + bytes(9) + whole[5009:]):
        path.write_bytes(data)
        refuse(run, "preview.png")


def test_an_older_run_without_checksums_is_read(run: Path) -> None:
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    del record["sha256"], record["files"]
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    np.save(run / "held-out-scores.npy", run_folder.read_held_out_scores(run, 18, 3))
    assert write_report(run).is_file()


# What an interrupted run has noted of itself


@pytest.mark.parametrize("data", [each for each in ODD if each != b"{}"])
def test_damaged_settings_are_named(tmp_path: Path, data: bytes) -> None:
    settings = {"epochs": 3, "time_budget_s": None}
    owner = check_settings(tmp_path, settings)
    assert check_settings(tmp_path, settings | {"time_budget_s": 5.0}) == owner
    assert check_settings(tmp_path.parent, settings | {"epochs": 4}) != owner
    (tmp_path / SETTINGS_FILE).write_bytes(data)
    refusal = rf"{SETTINGS_FILE} is damaged .*delete it to resume|made with other settings"
    with pytest.raises(ConfigError, match=refusal):
        check_settings(tmp_path, settings)
