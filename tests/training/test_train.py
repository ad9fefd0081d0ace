"""One training run of the real network, end to end, and what is refused before any run begins."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from training_run import CONFIG, FILES, PER_CLASS, SIZE, Run, keras_scores, make_images, run_train, val_loss

import edgecls
from edgecls.errors import ConfigError, DataError
from edgecls.report.pictures import NAMES, PICTURES
from edgecls.training import train as train_module
from edgecls.training.run.run_folder import (
    HISTORY_COLUMNS,
    images_sha256,
    load_model,
    read_held_out_scores,
    read_history,
    read_record,
)
from edgecls.training.train import preview


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run of the real network, with an unreadable file among the images."""
    folder = tmp_path_factory.mktemp("real")
    data = make_images(folder / "images")
    (data / "dark" / "broken.png").write_bytes(b"not a picture")
    with pytest.MonkeyPatch.context() as patch:
        # Other tests train on the same images, and features that they computed would be found.
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return run_train(data, folder / "deep" / "run", skip_bad=True, pictures=PICTURES)


# The real network, end to end


def test_the_run_folder_is_whole_and_alone(real: Run) -> None:
    assert {path.name for path in real.out.iterdir()} == FILES
    assert list(real.out.parent.iterdir()) == [real.out]


def test_run_json_has_the_keys_that_scripts_read(real: Run) -> None:
    record = read_record(real.out)
    chosen = record["config"]["augment"].pop("flip")
    expected = json.loads(json.dumps(dataclasses.asdict(CONFIG)))
    assert expected["augment"].pop("flip") == "auto" and record["config"] == expected
    # Nothing is measured for a classifier that learns in steps.
    assert chosen == "horizontal" and record["flip_errors"] == {}
    record["config"]["augment"]["flip"] = chosen
    assert record == json.loads(json.dumps(real.record))
    assert record["classes"] == ["bright", "dark", "striped"]
    assert record["weights"] == {"source": "none", "sha256": None}
    assert record["arch"] == "mobilenet_v2" and record["data"] == str(real.out.parents[1] / "images")
    metrics = record["metrics"]
    assert {"val_accuracy", "test_accuracy", "macro_f1", "per_class"} <= set(metrics)
    assert 0 < record["seconds"] < 600
    assert record["versions"]["edgecls"] == edgecls.__version__ and {"keras", "numpy"} <= set(record["versions"])


def test_the_split_holds_every_readable_image_once(real: Run) -> None:
    split = real.record["split"]
    assert list(split) == ["train", "val", "test"]
    listed = [path for part in split.values() for paths in part.values() for path in paths]
    names = real.record["classes"]
    assert sorted(listed) == sorted(f"{name}/{number}.png" for name in names for number in range(PER_CLASS))
    assert all(path.startswith(f"{name}/") for part in split.values() for name in part for path in part[name])


def test_skipped_files_are_recorded_and_told(real: Run) -> None:
    assert [skipped["path"] for skipped in real.record["skipped"]] == ["dark/broken.png"]
    assert "is not a PNG" in real.record["skipped"][0]["reason"]
    random, skipped, *_ = real.result.warnings
    assert "random" in random
    assert skipped == "1 unreadable file was skipped; run.json lists them"


def test_history_has_a_line_for_each_epoch(real: Run) -> None:
    history = real.history()
    assert set(history) == set(HISTORY_COLUMNS) and set(history["phase"]) == {"classifier", "augmented"}
    for name in ("classifier", "augmented"):
        epochs = [epoch for epoch, phase in zip(history["epoch"], history["phase"], strict=True) if phase == name]
        assert epochs == list(range(1, len(epochs) + 1)) and 1 < len(epochs) <= CONFIG.epochs
    assert history["train_loss"][-1] < history["train_loss"][0]
    assert [record.val_loss for record in read_history(real.out)] == history["val_loss"]


def test_run_json_tells_the_phases_and_the_diagnosis(real: Run) -> None:
    phases = real.record["phases"]
    assert [phase["name"] for phase in phases] == ["classifier", "augmented"] and phases[0]["kept"]
    assert sum(phase["epochs"] for phase in phases) == len(real.history()["epoch"])
    assert phases[-1]["val_accuracy_after"] == pytest.approx(real.record["metrics"]["val_accuracy"], abs=0.1)
    assert real.record["diagnosis"] == [dataclasses.asdict(finding) for finding in real.result.findings] != []


def test_pictures_are_drawn(real: Run) -> None:
    names = {path.name for path in (real.out / "plots").iterdir()}
    assert names >= {"curves.png", "layers.png", "confusion.png", "recall.png", "preview.png"}
    assert names <= {f"{name}.png" for name in NAMES}


def test_everybody_may_read_what_the_user_lets_them_read(real: Run) -> None:
    umask = os.umask(0)
    os.umask(umask)
    for path in real.out.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path


def test_the_classes_are_learnt(real: Run) -> None:
    metrics = real.record["metrics"]
    assert metrics["val_accuracy"] > 0.6 and metrics["test_accuracy"] > 0.6 and metrics["macro_f1"] > 0.6


def test_held_out_scores_are_those_of_the_reloaded_model(real: Run) -> None:
    test = real.load_split("test")
    assert real.record["held_out"] == {"split": "test", "sha256": images_sha256(test.images)}
    assert real.record["train_sha256"] == images_sha256(real.load_split("train").images)
    stored = read_held_out_scores(real.out, len(test.labels), 3)
    model = load_model(real.out)
    assert model.input.dtype == "uint8"
    np.testing.assert_allclose(keras_scores(model, test.images), stored, atol=1e-6)
    np.testing.assert_allclose(stored.sum(axis=1), 1, atol=1e-6)
    accuracy = (stored.argmax(axis=1) == test.labels).mean()
    assert real.record["metrics"]["test_accuracy"] == pytest.approx(accuracy)
    for label, name in enumerate(real.record["classes"]):
        recall = (stored.argmax(axis=1) == label)[test.labels == label].mean()
        assert real.record["metrics"]["per_class"][name]["recall"] == pytest.approx(recall)


def test_the_saved_model_is_that_of_the_best_epoch(real: Run) -> None:
    assert val_loss(real) == pytest.approx(min(real.history()["val_loss"]), rel=0.02)


def test_every_stage_reports_its_progress_to_the_end(real: Run) -> None:
    stages = list(dict.fromkeys(stage for stage, *_ in real.progress))
    features = [f"classifier: features of {what} images" for what in ("validation", "training")]
    augmented = ["augmented: features of copy 1 of 1", "train augmented"]
    assert stages == ["read images", *features, "train classifier", *augmented, "score val images", "score test images"]
    for stage in stages:
        done = [count for name, count, *_ in real.progress if name == stage]
        totals = {total for name, _, total, *_ in real.progress if name == stage}
        assert done == sorted(done) and len(totals) == 1
        # Early stopping ends training before its total.
        phase = stage.removeprefix("train ")
        assert done[-1] == real.history()["phase"].count(phase) if phase != stage else {done[-1]} == totals


# Errors


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("began to train")


def break_image(data: Path) -> None:
    (data / "dark" / "0.png").write_bytes(b"cut")


def remove_classes(data: Path) -> None:
    for name in ("dark", "bright"):
        shutil.rmtree(data / name)


def remove_images(data: Path) -> None:
    for path in (data / "dark").glob("[2-9].png"):
        path.unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (break_image, r"(?s)1 image in .* cannot be read.*0\.png"),
        (shutil.rmtree, "there is no such folder"),
        (remove_classes, "has one class folder, 'striped'"),
        (remove_images, "class 'dark' has 2 images, at least 3 needed"),
    ],
)
def test_bad_data_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], words: str
) -> None:
    monkeypatch.setattr(train_module, "build_model", refuse)
    data = make_images(tmp_path / "images")
    change(data)
    with pytest.raises(DataError, match=words):
        run_train(data, tmp_path / "new" / "run")
    assert not any((tmp_path / "new").iterdir())


def test_missing_weights_leave_no_folder(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, weights=str(tmp_path / "gone.h5"))
    with pytest.raises(ConfigError, match=r"or an existing file; received .*gone\.h5"):
        run_train(tmp_path / "images", tmp_path / "run", config)
    assert not any(tmp_path.iterdir())


def test_the_place_is_checked_before_the_images(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="folder with other files in it"):
            run_train(tmp_path / "no images", tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# The time, the preview


def test_the_time_budget_leaves_time_for_the_scores() -> None:
    def left(budget: float) -> float:
        deadline = train_module._deadline(100.0, dataclasses.replace(CONFIG, time_budget_s=budget))
        assert deadline is not None
        return 100.0 + budget - deadline

    assert train_module._deadline(100.0, CONFIG) is None
    assert left(1000) == pytest.approx(100) and left(20) == pytest.approx(5)


def test_a_preview_shows_images_beside_their_changes_and_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "build_model", refuse)
    data = make_images(tmp_path / "images")
    path = tmp_path / "run-preview.png"
    (data / "notes.txt").write_text("no image")
    for config in (CONFIG, dataclasses.replace(CONFIG, augment=None)):
        (note,) = preview(data, config, path, PICTURES)
        assert note.startswith("Left out 1 file: 1 *.txt")
        with Image.open(path) as picture:
            assert min(picture.size) > SIZE
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["images", "run-preview.png"]
