"""Many training runs of a small network in MobileNetV2's place."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from training_run import CONFIG, FILES, PER_CLASS, Run, make_images, run_train, val_loss

from edgecls.config import TrainConfig
from edgecls.errors import ConfigError
from edgecls.training import train as train_module
from edgecls.training.model import FEATURES_LAYER, freeze_features
from edgecls.training.run_folder import load_model, read_held_out_scores, read_record
from edgecls.training.train import train
from edgecls.training.weights import Weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of one convolution in place of MobileNetV2: a run takes a second or two."""

    def build(config: TrainConfig, class_count: int, weights: Weights) -> keras.Model:
        layers = keras.layers
        image = keras.Input((config.image_size, config.image_size, 1), dtype="uint8")
        x = layers.Conv2D(8, 5, strides=4, activation="relu")(layers.Rescaling(1 / 127.5, -1)(image))
        x = layers.Dropout(config.dropout, seed=config.seed)(layers.GlobalAveragePooling2D(name=FEATURES_LAYER)(x))
        model = keras.Model(image, layers.Dense(class_count, activation="softmax")(x))
        freeze_features(model)
        return model

    monkeypatch.setattr(train_module, "build_mobilenet_v2", build)


def weights_of(run: Run) -> list[NDArray[np.float32]]:
    return list(load_model(run.out).get_weights())


@pytest.mark.usefixtures("small")
def test_the_seed_decides_everything(data: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=3)
    first, same = (run_train(data, tmp_path / name, config) for name in ("first", "same"))
    # The largest seed there is: what is derived from it must not overflow.
    other = run_train(data, tmp_path / "other", dataclasses.replace(config, seed=2**32 - 1))
    for array, again in zip(weights_of(first), weights_of(same), strict=True):
        np.testing.assert_array_equal(array, again)
    assert first.history() == same.history()
    assert {**first.record, "seconds": 0} == {**same.record, "seconds": 0}
    assert any((array != changed).any() for array, changed in zip(weights_of(first), weights_of(other), strict=True))
    assert first.record["split"] != other.record["split"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("epochs", "patience"), [(100, 2), (4, 100)])
def test_the_best_epoch_is_kept_whether_stopped_early_or_not(
    data: Path, tmp_path: Path, epochs: int, patience: int
) -> None:
    shutil.copytree(data, tmp_path / "split" / "train")
    # With two classes exchanged, what is learnt from train makes the validation loss worse and worse.
    for name, holds in (("bright", "dark"), ("dark", "bright"), ("striped", "striped")):
        shutil.copytree(data / holds, tmp_path / "split" / "val" / name)
    config = dataclasses.replace(CONFIG, epochs=epochs, patience=patience)
    run = run_train(tmp_path / "split", tmp_path / "run", config)
    losses = run.history()["val_loss"]
    assert len(losses) == (4 if epochs == 4 else losses.index(min(losses)) + 1 + patience)
    assert min(losses) < losses[-1]
    assert val_loss(run) == pytest.approx(min(losses), rel=1e-3)


@pytest.mark.usefixtures("small")
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
    # No changes wanted, so no views computed.
    assert {total for stage, _, total in run.progress if "training images" in stage} == {3 * PER_CLASS}
    assert not run.result.warnings[1:]


@pytest.mark.usefixtures("small")
def test_images_in_two_splits_are_warned_of(data: Path, tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "val", "test")):
        make_images(tmp_path / "split" / part, seed)
    (tmp_path / "split/test/dark/copy.png").write_bytes((tmp_path / "split/train/dark/3.png").read_bytes())
    run = run_train(tmp_path / "split", tmp_path / "run", dataclasses.replace(CONFIG, epochs=1))
    assert run.record["duplicates"] == [["train/dark/3.png", "test/dark/copy.png"]]
    assert run.result.warnings[1:] == (
        "1 images stand in more than one split (train/dark/3.png = test/dark/copy.png); "
        "scores on them are too good: run.json lists all",
    )


@pytest.mark.usefixtures("small")
def test_overwrite_replaces_an_old_run_whole(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = dataclasses.replace(CONFIG, epochs=1)
    (out / "export").mkdir(parents=True)
    (out / "run.json").touch()
    with pytest.raises(ConfigError, match="already holds a run"):
        run_train(data, out, config)
    run_train(data, out, dataclasses.replace(config, seed=3), overwrite=True)
    assert read_record(out)["config"]["seed"] == 3 and {path.name for path in out.iterdir()} == FILES


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("stage", ["train head", "score test images"])
def test_ctrl_c_leaves_no_folder(data: Path, tmp_path: Path, stage: str) -> None:
    def interrupt(name: str, *_: int) -> None:
        if name == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "run", dataclasses.replace(CONFIG, epochs=2), progress=interrupt)
    assert not any(tmp_path.iterdir())


# Which images an epoch shows


def numbered(views: int, count: int) -> NDArray[np.float32]:
    """Return features (1 + views, count, 2) that say which view of which image they are of."""
    grid = np.meshgrid(np.arange(1 + views), np.arange(count), indexing="ij")
    return np.stack(grid, axis=-1).astype(np.float32)


@pytest.mark.parametrize("views", [0, 1, 3])
def test_an_epoch_shows_every_image_once_and_half_of_them_changed(views: int) -> None:
    labels = np.arange(1000) % 7
    batches = train_module._view_batches(numbered(views, 1000), labels, dataclasses.replace(CONFIG, batch_size=64))
    assert len(batches) == 16
    orders = []
    for _ in range(2):
        shown, shown_labels = (np.concatenate(part) for part in zip(*(batches[n] for n in range(16)), strict=True))
        view, image = shown.T.astype(int)
        assert sorted(image) == list(range(1000))
        np.testing.assert_array_equal(shown_labels, labels[image])
        assert set(view) == set(range(1 + views))
        assert (view > 0).mean() == pytest.approx(0.5 if views else 0, abs=0.06)
        orders.append(shown.tobytes())
        batches.on_epoch_end()
    assert orders[0] != orders[1]
