"""Many training runs of a small network in MobileNetV2's place."""

from __future__ import annotations

import dataclasses
import errno
import json
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import training_run
from numpy.typing import NDArray
from training_run import CONFIG, PER_CLASS, Run, make_images, run_train, val_loss

from edgecls.config import TrainConfig
from edgecls.errors import ConfigError, TrainingError
from edgecls.files import write_atomically
from edgecls.networks.model import FEATURES_LAYER, freeze_features
from edgecls.networks.weights import Weights
from edgecls.progress import Progress
from edgecls.training import train as train_module
from edgecls.training.history import Divergence
from edgecls.training.run import checkpoint as checkpoint_module
from edgecls.training.run import run_folder as run_folder_module
from edgecls.training.run.run_folder import load_model, read_held_out_scores, read_record
from edgecls.training.run.work_folder import has_checkpoint, work_folder
from edgecls.training.step import TrainableNetwork
from edgecls.training.train import train

# No pictures are drawn here.
FILES = training_run.FILES - {"plots"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """A network of one convolution in place of MobileNetV2: a run takes a second or two."""

    def build(config: TrainConfig, class_count: int, weights: Weights) -> keras.Model:
        layers = keras.layers
        # Glorot's, from the seed, as the product draws its weights.
        start = keras.initializers.GlorotUniform(config.seed % 2**31)
        image = keras.Input((config.image_size, config.image_size, 1), dtype="uint8")
        x = layers.Rescaling(1 / 127.5, -1, name="center")(image)
        x = layers.Conv2D(8, 5, strides=4, activation="relu", kernel_initializer=start, name="Conv1")(x)
        x = layers.GlobalAveragePooling2D(name=FEATURES_LAYER)(x)
        x = layers.Dropout(config.dropout, seed=config.seed % 2**31, name="dropout")(x)
        scores = layers.Dense(class_count, activation="softmax", kernel_initializer=start, name="scores")
        model = keras.Model(image, scores(x))
        freeze_features(model)
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "build_model", build)
        yield


FOUR_EPOCHS = dataclasses.replace(CONFIG, epochs=4)
# Seconds, whether features were in the cache, and the sha256 of files that hold times.
VARYING = ("seconds", "epoch_seconds", "forward", "model.keras", "history.json")


@pytest.fixture(scope="module")
def four_epochs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nothing disturbed."""
    return run_train(data, tmp_path_factory.mktemp("four") / "run", FOUR_EPOCHS)


def weights_of(run: Run) -> list[NDArray[np.float32]]:
    return list(load_model(run.out).get_weights())


def without_times(value: Any) -> Any:
    """Return JSON without the values that differ from run to run."""
    if isinstance(value, dict):
        return {name: without_times(part) for name, part in value.items() if name not in VARYING}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def test_the_seed_decides_everything(data: Path, tmp_path: Path, four_epochs: Run) -> None:
    first, same = four_epochs, run_train(data, tmp_path / "same", FOUR_EPOCHS)
    # The largest seed there is: what is derived from it must not overflow.
    other = run_train(data, tmp_path / "other", dataclasses.replace(FOUR_EPOCHS, seed=2**32 - 1))
    for array, again in zip(weights_of(first), weights_of(same), strict=True):
        np.testing.assert_array_equal(array, again)
    assert without_times(first.history()) == without_times(same.history())
    assert without_times(first.record) == without_times(same.record)
    assert any((array != changed).any() for array, changed in zip(weights_of(first), weights_of(other), strict=True))
    assert first.record["split"] != other.record["split"]


@pytest.mark.parametrize(("epochs", "patience"), [(100, 2), (4, 100)])
def test_the_best_epoch_is_kept_whether_stopped_early_or_not(
    data: Path, tmp_path: Path, epochs: int, patience: int
) -> None:
    shutil.copytree(data, tmp_path / "split" / "train")
    # One class of three is called by another's name: what is learnt from train helps first and harms later.
    for name, holds in (("bright", "bright"), ("dark", "striped"), ("striped", "striped")):
        shutil.copytree(data / holds, tmp_path / "split" / "val" / name)
    config = dataclasses.replace(
        CONFIG, epochs=epochs, patience=patience, learning_rate=0.1, schedule="constant", augmented_copies=0
    )
    run = run_train(tmp_path / "split", tmp_path / "run", config)
    losses = run.history()["val_loss"]
    (phase,) = run.record["phases"]
    assert len(losses) == (4 if epochs == 4 else losses.index(min(losses)) + 1 + patience)
    assert losses.index(min(losses)) + 1 == phase["best_epoch"]
    assert val_loss(run) == pytest.approx(min(losses), rel=1e-3)


def test_without_a_test_folder_the_validation_images_are_held_out(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "split" / "train")
    make_images(tmp_path / "split" / "val", seed=1)
    run = run_train(tmp_path / "split", tmp_path / "run", dataclasses.replace(CONFIG, epochs=2, augment=None))
    assert run.record["metrics"]["test_accuracy"] is None
    assert run.record["held_out"]["split"] == "val" and list(run.record["split"]) == ["train", "val"]
    val = run.load_split("val")
    stored = read_held_out_scores(run.out, 3 * PER_CLASS, 3)
    assert (stored.argmax(axis=1) == val.labels).mean() == pytest.approx(run.record["metrics"]["val_accuracy"])
    assert run.record["config"]["augment"] is None
    # No changes wanted, so no copies are computed.
    assert not any("augmented" in stage for stage, *_ in run.progress)


def test_images_in_two_splits_are_warned_of(data: Path, tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "val", "test")):
        make_images(tmp_path / "split" / part, seed)
    (tmp_path / "split/test/dark/copy.png").write_bytes((tmp_path / "split/train/dark/3.png").read_bytes())
    run = run_train(tmp_path / "split", tmp_path / "run", dataclasses.replace(CONFIG, epochs=1))
    assert run.record["duplicates"] == [["train/dark/3.png", "test/dark/copy.png"]]
    reported = (
        "1 image is in two or more splits, so accuracy is overstated. Remove all but one copy: "
        "train/dark/3.png = test/dark/copy.png; run.json lists all"
    )
    assert reported in run.result.warnings and reported in run.record["warnings"]


def test_odd_data_is_learned_from_and_what_is_odd_is_recorded(tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "val", "test")):
        make_images(tmp_path / "split" / part, seed)
    shutil.rmtree(tmp_path / "split/val/dark")
    (tmp_path / "split/train/dark/Thumbs.db").touch()
    (tmp_path / "split/train/bright/copy.png").write_bytes((tmp_path / "split/train/dark/3.png").read_bytes())
    run = run_train(tmp_path / "split", tmp_path / "run", dataclasses.replace(CONFIG, epochs=1))
    assert "val has no image of dark, so its accuracy does not cover that class; add some" in run.record["warnings"]
    assert run.record["left_out"] == "Left out 1 file: 1 Thumbs.db (thumbnails of Windows)."
    assert sorted(run.record["contradictions"][0]) == ["train/bright/copy.png", "train/dark/3.png"]
    names = [finding["name"] for finding in run.record["diagnosis"]]
    assert "contradictory-labels" in names and "no-problems" not in names


def test_overwrite_replaces_an_old_run_whole(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = dataclasses.replace(CONFIG, epochs=1)
    (out / "export").mkdir(parents=True)
    (out / "run.json").touch()
    with pytest.raises(ConfigError, match="already holds a run"):
        run_train(data, out, config)
    run_train(data, out, dataclasses.replace(config, seed=3), overwrite=True)
    assert read_record(out)["config"]["seed"] == 3 and {path.name for path in out.iterdir()} == FILES


def interrupt_at(wanted: str) -> Progress:
    def interrupt(stage: str, done: int, total: int, note: str = "") -> None:
        if stage == wanted:
            raise KeyboardInterrupt

    return interrupt


def test_ctrl_c_before_anything_is_learned_leaves_no_folder(data: Path, tmp_path: Path) -> None:
    for stage in ("read images", "classifier: features of training images"):
        with pytest.raises(KeyboardInterrupt):
            # Another seed makes other copies: none is in the cache.
            train(data, tmp_path / "run", dataclasses.replace(CONFIG, seed=9), progress=interrupt_at(stage))
        assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("stage", ["train classifier", "score test images"])
def test_an_interrupted_run_goes_on_and_ends_like_another(
    data: Path, tmp_path: Path, four_epochs: Run, stage: str
) -> None:
    config, expected = FOUR_EPOCHS, four_epochs
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(data, out, config, progress=interrupt_at(stage))
    assert not out.exists() and work_folder(out).is_dir()
    with pytest.raises(ConfigError, match=r"holds an interrupted run; .*--resume .*--overwrite"):
        train(data, out, config)
    run = run_train(data, out, config, resume=True)
    assert not work_folder(out).exists() and {path.name for path in out.iterdir()} == FILES
    for array, again in zip(weights_of(run), weights_of(expected), strict=True):
        np.testing.assert_array_equal(array, again)
    assert without_times(run.history()) == without_times(expected.history())
    assert without_times(run.record) == without_times(expected.record)


def test_other_settings_or_images_are_refused_for_an_interrupted_run(data: Path, tmp_path: Path) -> None:
    config, out = dataclasses.replace(CONFIG, epochs=2), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(data, out, config, progress=interrupt_at("train classifier"))
    with pytest.raises(ConfigError, match=r": dropout \(0\.2 then, 0\.5 now\); give the same ones, or remove that"):
        train(data, out, dataclasses.replace(config, dropout=0.5), resume=True)
    other = make_images(tmp_path / "other", seed=5)
    with pytest.raises(ConfigError, match=r"other settings: images \("):
        train(other, out, config, resume=True)
    # More or less time is no other run.
    assert run_train(data, out, dataclasses.replace(config, time_budget_s=500.0), resume=True).record["phases"]


def test_resume_begins_a_run_and_leaves_a_complete_one(data: Path, tmp_path: Path) -> None:
    config, out = dataclasses.replace(CONFIG, epochs=1), tmp_path / "run"
    first = run_train(data, out, config, resume=True)
    written = (out / "run.json").stat().st_mtime_ns
    again = train(data, out, config, resume=True)
    assert again.record == json.loads(json.dumps(first.record))
    assert again.warnings == (f"{out} is complete: there is nothing to resume",)
    assert (out / "run.json").stat().st_mtime_ns == written


def test_a_complete_run_of_other_settings_or_images_is_not_taken_for_the_one_asked_for(
    data: Path, tmp_path: Path
) -> None:
    grown, config, out = tmp_path / "grown", dataclasses.replace(CONFIG, epochs=1), tmp_path / "run"
    shutil.copytree(data, grown)
    run_train(grown, out, config)
    with pytest.raises(ConfigError, match=r"run was made with other settings: dropout \(0\.2 then, 0\.5 now\); give"):
        train(grown, out, dataclasses.replace(config, dropout=0.5), resume=True)
    with pytest.raises(ConfigError, match=r"other settings: data \(.*grown then, .*images now\)"):
        train(data, out, config, resume=True)
    shutil.copy(grown / "dark" / "0.png", grown / "dark" / "new.png")
    with pytest.raises(ConfigError, match=r"other settings: images \(\d+ gone, \d+ new\); give --out another folder"):
        train(grown, out, config, resume=True)
    (grown / "dark" / "new.png").unlink()
    # More or less time is no other run.
    assert train(grown, out, dataclasses.replace(config, time_budget_s=500.0), resume=True).record["phases"]


def test_a_run_that_learned_nothing_is_an_error_and_leaves_no_folder(data: Path, tmp_path: Path) -> None:
    divergence = Divergence("classifier", 1, 0, "loss", "scores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainableNetwork, "find_divergence", lambda *_: divergence)
        with pytest.raises(
            TrainingError, match=r"nothing was learned: .* not finite .*first epoch.*\n.* epoch 1, step 0"
        ):
            train(data, tmp_path / "run", FOUR_EPOCHS)
    assert not any(tmp_path.iterdir())


# No room on the disk


@pytest.mark.parametrize("writes", [2, 8])
def test_a_full_disk_ends_the_run_with_what_is_saved(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, four_epochs: Run, writes: int
) -> None:
    config, out = FOUR_EPOCHS, tmp_path / "run"
    real, left = write_atomically, [writes]

    def fill_up(path: Path, content: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "write_atomically", fill_up)
        patch.setattr(run_folder_module, "write_atomically", fill_up)
        # The eight checkpoints of both phases fit, history.json does not: then it is not the checkpoint that says so.
        with pytest.raises((TrainingError, OSError), match="No space left on device") as caught:
            train(data, out, config)
    assert isinstance(caught.value, TrainingError) == (writes < 8)
    assert not out.exists() and has_checkpoint(work_folder(out))
    assert not (work_folder(out) / "finished").exists()
    run = run_train(data, out, config, resume=True)
    for array, again in zip(weights_of(run), weights_of(four_epochs), strict=True):
        np.testing.assert_array_equal(array, again)


def test_a_limit_on_files_stops_the_last_step_and_costs_nothing(data: Path, tmp_path: Path) -> None:
    config, out = dataclasses.replace(CONFIG, epochs=2), tmp_path / "run"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "score test images":
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))

    try:
        with pytest.raises(OSError, match="File too large"):
            train(data, out, config, progress=limit)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not out.exists() and has_checkpoint(work_folder(out))
    assert run_train(data, out, config, resume=True).record["phases"][0]["epochs"] == 2


def test_however_small_the_time_budget_is_there_is_a_run(data: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=30, time_budget_s=0.01, learning_rate=0.05)
    run = run_train(data, tmp_path / "run", config)
    (phase,) = run.record["phases"]
    assert phase["epochs"] == 1 and phase["reason"] == "the time budget is spent"
    assert any("one pass over the images takes longer" in text for text in run.result.warnings)


def test_events_for_tensorboard_are_part_of_the_run(data: Path, tmp_path: Path) -> None:
    run = run_train(data, tmp_path / "run", dataclasses.replace(CONFIG, epochs=2), tensorboard=True)
    assert {path.name for path in run.out.iterdir()} == FILES | {"tensorboard"}
    assert any((run.out / "tensorboard").iterdir())
