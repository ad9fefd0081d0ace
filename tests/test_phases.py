"""Phases of a run on a small MobileNetV2 and the small networks: what learns, what stays, what is undone."""

from __future__ import annotations

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecls.config import AugmentConfig, TrainConfig
from edgecls.data import Dataset, Split
from edgecls.training import phases as phases_module
from edgecls.training.cut import split_at
from edgecls.training.fit import FitResult, fit
from edgecls.training.history import Divergence, EpochRecord
from edgecls.training.model import build_model
from edgecls.training.phases import Setting, Training, phase_names, run_phases
from edgecls.training.weights import Weights

SIZE, CLASSES = 32, 3
CONFIG = TrainConfig(
    image_size=SIZE,
    alpha=0.35,
    weights="none",
    epochs=4,
    views=1,
    batch_size=8,
    learning_rate=0.02,
    fine_epochs=2,
    fine_learning_rate=1e-3,
    augment=AugmentConfig("none", 0, 0.02, 0.02, 0.02, 0.02),
)
# Settings that make another network; the seed draws its weights.
NETWORK = {"image_size", "alpha", "arch", "head", "gray_to_rgb", "filters", "hidden", "dropout", "seed"}
SMALL: dict[str, Any] = {"learning_rate": None, "epochs": 6, "augment": None}


def draw(count: int, seed: int) -> Split:
    """Return dark, bright and striped images with noise."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    levels = np.array([np.full(SIZE, 50), np.full(SIZE, 200), np.where(np.arange(SIZE) % 8 < 4, 50, 200)])
    images = levels[labels][:, :, np.newaxis, np.newaxis] + random.integers(-20, 21, (count, SIZE, SIZE, 1))
    return Split(tuple(f"{number}.png" for number in range(count)), images.astype(np.uint8), labels)


def make_dataset(train: Split, val: Split) -> Dataset:
    return Dataset(Path("/none"), ("dark", "bright", "striped"), train, val, None, (), ())


TRAIN, VAL = draw(36, 0), draw(18, 1)
DATA = make_dataset(TRAIN, VAL)
SWAPPED = make_dataset(TRAIN, dataclasses.replace(VAL, labels=np.array([1, 2, 0])[VAL.labels]))


@dataclasses.dataclass(frozen=True)
class Ran:
    """What a run came to, and the weights before and after; the model itself belongs to the next run."""

    training: Training
    before: dict[str, NDArray[Any]]
    after: dict[str, NDArray[Any]]
    accuracy: float

    @property
    def changed(self) -> set[str]:
        """Return the names of the layers that are no longer what they were."""
        changed = {path.split("/")[0] for path, value in self.after.items() if (value != self.before[path]).any()}
        return {name for name in changed if not name.startswith("seed_generator")}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


def variables_of(model: keras.Model) -> dict[str, Any]:
    """Return all there is to a model, the state of dropout's random numbers included."""
    return {variable.path: variable for layer in model.layers for variable in layer.variables}


@functools.cache
def _built(config: TrainConfig) -> tuple[keras.Model, dict[str, NDArray[Any]]]:
    weights = Weights("none", None, None, "keras") if config.uses_backbone else None
    model = build_model(config, CLASSES, weights)
    return model, {path: variable.numpy() for path, variable in variables_of(model).items()}


def build(config: TrainConfig) -> keras.Model:
    """Return the untrained network; one is built for all tests that use the same."""
    same = {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name in NETWORK}
    model, fresh = _built(TrainConfig(**same))
    for path, variable in variables_of(model).items():
        variable.assign(fresh[path])
    return model


def run(cache: Path, dataset: Dataset = DATA, **changes: Any) -> Ran:
    names = {field.name for field in dataclasses.fields(Setting)}
    options = {name: changes.pop(name) for name in list(changes) if name in names}
    config = dataclasses.replace(CONFIG, **changes)
    model = build(config)
    before = {path: variable.numpy() for path, variable in variables_of(model).items()}
    training = run_phases(Setting(model, dataset, config, cache=cache, **options))
    after = {path: variable.numpy() for path, variable in variables_of(model).items()}
    right = model(dataset.val.images, training=False).numpy().argmax(1) == dataset.val.labels
    return Ran(training, before, after, float(right.mean()))


def assert_same_weights(one: Ran, other: Ran) -> None:
    for path, array in one.after.items():
        if "seed" not in path:
            np.testing.assert_array_equal(array, other.after[path], err_msg=path)


# Which phases there are


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["head"]),
        ({"joint": True}, ["head", "joint"]),
        ({"unfreeze": 2}, ["head", "unfreeze"]),
        ({"joint": True, "unfreeze": 2}, ["head", "joint", "unfreeze"]),
        ({"gray_to_rgb": "random"}, ["all"]),
        ({"gray_to_rgb": "random", "unfreeze": 2}, ["all", "unfreeze"]),
        ({"arch": "cnn"}, ["all"]),
        ({"arch": "mlp"}, ["all"]),
    ],
)
def test_the_settings_decide_the_phases(settings: dict[str, Any], names: list[str]) -> None:
    assert phase_names(TrainConfig(**settings)) == names


# The head


@pytest.fixture(scope="module")
def head(cache: Path) -> Ran:
    return run(cache)


def test_the_head_learns_and_nothing_else(head: Ran) -> None:
    assert head.changed == {"scores"}
    (phase,) = head.training.phases
    assert phase.name == "head" and phase.kept and phase.epochs == len(head.training.history) == 4
    assert phase.val_accuracy_after > max(0.6, phase.val_accuracy_before)
    assert phase.forward == "keras: 90 images are too few to convert the network for"
    assert head.training.divergence is None


def test_the_result_is_that_of_the_whole_network(head: Ran) -> None:
    # float16 features may move an image over the border, not two.
    assert head.accuracy == pytest.approx(head.training.phases[0].val_accuracy_after, abs=0.06)
    scores = head.training.train_scores
    assert scores is not None and scores.shape == (2, 36, CLASSES)
    np.testing.assert_allclose(scores.sum(2), 1, atol=1e-5)
    assert (scores[0].argmax(1) == TRAIN.labels).mean() > 0.6 and (scores[1] != scores[0]).any()


def test_the_cache_spares_the_second_run_the_backbone(cache: Path, head: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases_module, "fastest_forward", lambda *_: pytest.fail("ran the backbone"))
    again = run(cache)
    assert again.training.phases[0].forward is None
    # The same data, the same seed: the same weights.
    assert_same_weights(again, head)


def test_another_network_has_a_key_of_its_own() -> None:
    def key(config: TrainConfig) -> dict[str, Any]:
        _built.cache_clear()
        trunk, _ = split_at(build(config), "features")
        return phases_module._network_key(trunk, "features", config)

    # Twice, as Keras counts the networks that a process has built; the seed draws other weights.
    assert key(CONFIG) == key(CONFIG)
    assert key(CONFIG) != key(dataclasses.replace(CONFIG, seed=1))


def stages_of(calls: list[tuple[Any, ...]]) -> list[str]:
    return list(dict.fromkeys(stage for stage, *_ in calls))


def test_without_augmentation_there_are_no_views(cache: Path, tmp_path: Path) -> None:
    calls: list[tuple[Any, ...]] = []
    run(tmp_path, augment=None, epochs=1, views=5, progress=lambda *call: calls.append(call))
    features = ["head: features of validation images", "head: features of training images"]
    assert stages_of(calls) == [*features, "train head"]


# Everything that may follow


@dataclasses.dataclass
class Told:
    calls: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    histories: list[list[EpochRecord]] = dataclasses.field(default_factory=list)


@pytest.fixture(scope="module")
def all_phases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Told]:
    told = Told()
    cache = tmp_path_factory.mktemp("features")
    options: dict[str, Any] = {
        "progress": lambda *call: told.calls.append(call),
        "on_epoch": lambda history: told.histories.append(history),
    }
    return run(cache, joint=True, unfreeze=1, **options), told


UNFROZEN = {"block_16_expand", "block_16_depthwise", "block_16_project", "Conv_1", "scores"}


def test_each_phase_trains_its_own_layers_and_no_others(all_phases: tuple[Ran, Told]) -> None:
    ran, _ = all_phases
    names = {record.phase: {layer.name for layer in record.layers} for record in ran.training.history}
    # joint goes through the frozen backbone; the normalization of unfrozen blocks stays as it is.
    assert names == {"head": {"scores"}, "joint": {"gray_to_rgb", "scores"}, "unfreeze": UNFROZEN}
    kept = {phase.name for phase in ran.training.phases if phase.kept}
    assert "head" in kept and kept - {"head"}
    assert ran.changed == set().union(*(names[name] for name in kept))
    assert [phase.name for phase in ran.training.phases] == ["head", "joint", "unfreeze"]
    assert [phase.forward is None for phase in ran.training.phases] == [False, True, False]


def test_each_phase_begins_where_the_last_one_ended(all_phases: tuple[Ran, Told]) -> None:
    ran, _ = all_phases
    phases = ran.training.phases
    for before, after in zip(phases, phases[1:], strict=False):
        assert after.val_accuracy_before == pytest.approx(before.val_accuracy_after, abs=0.06)
        assert after.val_accuracy_after >= after.val_accuracy_before
    assert ran.accuracy == pytest.approx(phases[-1].val_accuracy_after, abs=0.06)
    rates = {record.phase: record.learning_rate for record in ran.training.history if record.epoch == 1}
    assert rates["head"] > 5 * CONFIG.fine_learning_rate
    assert rates["joint"] == rates["unfreeze"] == pytest.approx(CONFIG.fine_learning_rate)


def test_scores_of_training_images_are_those_of_the_kept_network_or_none(all_phases: tuple[Ran, Told]) -> None:
    ran, _ = all_phases
    assert any(phase.kept for phase in ran.training.phases[1:]) and ran.training.train_scores is None


def test_progress_names_each_phase_and_reaches_its_end(all_phases: tuple[Ran, Told]) -> None:
    ran, told = all_phases
    features = ["features of validation images", "features of training images", "features of view 1 of 1"]
    expected = [[f"{phase}: {what}" for what in features] for phase in ("head", "unfreeze")]
    assert stages_of(told.calls) == [*expected[0], "train head", "train joint", *expected[1], "train unfreeze"]
    assert [call[1:3] for call in told.calls if call[0] == "train unfreeze"] == [(1, 2), (2, 2)]
    assert all(call[3].startswith("val ") for call in told.calls if call[0].startswith("train"))
    assert [len(history) for history in told.histories] == list(range(1, 9))
    assert tuple(told.histories[-1]) == ran.training.history


def test_a_random_beginning_learns_from_the_first_step(cache: Path) -> None:
    ran = run(cache, gray_to_rgb="random", head="flatten", epochs=2, learning_rate=1e-3)
    (phase,) = ran.training.phases
    assert phase.name == "all" and phase.forward is None
    layers = {layer.name for layer in ran.training.history[-1].layers}
    assert layers == {"gray_to_rgb", "hidden_1", "scores"}
    assert ran.changed == (layers if phase.kept else set())


@pytest.mark.parametrize("arch", ["cnn", "mlp"])
def test_small_networks_learn_whole(cache: Path, arch: str) -> None:
    ran = run(cache, arch=arch, filters=(4, 8), hidden=(16,), **SMALL)
    (phase,) = ran.training.phases
    assert phase.name == "all" and phase.kept and phase.val_accuracy_after > 0.6
    assert ran.changed >= {path.split("/")[0] for path in ran.before if path.endswith(("kernel", "bias"))}
    assert ran.accuracy == pytest.approx(phase.val_accuracy_after)


# Phases that do not help


def test_a_phase_that_does_not_help_is_undone_and_said_so(cache: Path) -> None:
    ran = run(cache, SWAPPED)
    (phase,) = ran.training.phases
    assert not phase.kept and phase.best_epoch == 0
    assert phase.reason.endswith("; undone, as it did not help on the validation images")
    assert phase.val_accuracy_after == phase.val_accuracy_before
    assert ran.changed == set() and ran.training.train_scores is None


def spoil(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    """Let the phase `name` end with another result than it had."""

    def spoilt(learner: keras.Model, train: Any, val: Any, recipe: Any, **options: Any) -> FitResult:
        result = fit(learner, train, val, recipe, **options)
        return dataclasses.replace(result, **changes) if recipe.phase == name else result

    monkeypatch.setattr(phases_module, "fit", spoilt)


@pytest.mark.parametrize("changes", [{"best_epoch": 0}, {"best_accuracy": 0.1}])
def test_a_harmful_phase_leaves_what_the_head_has_learned(
    cache: Path, head: Ran, monkeypatch: pytest.MonkeyPatch, changes: Any
) -> None:
    spoil(monkeypatch, "unfreeze", **changes)
    ran = run(cache, unfreeze=1, fine_epochs=1)
    first, second = ran.training.phases
    assert first.kept and not second.kept and "undone" in second.reason
    assert second.val_accuracy_after == second.val_accuracy_before
    # The scores of the training images are still those of the network that is kept.
    assert ran.training.train_scores is not None
    assert_same_weights(ran, head)


def test_no_phase_follows_a_divergence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    divergence = Divergence("head", 3, 1, "loss", None)
    spoil(monkeypatch, "head", divergence=divergence)
    training = run(cache, unfreeze=1, joint=True).training
    assert [phase.name for phase in training.phases] == ["head"] and training.divergence == divergence
    assert training.phases[0].kept


# Time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as a list of one number that a test may change."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_when_time_is_up_no_other_phase_begins(cache: Path, clock: list[float]) -> None:
    def pass_time(history: list[EpochRecord]) -> None:
        clock[0] += 10

    (phase,) = run(cache, unfreeze=1, joint=True, deadline=1015.0, on_epoch=pass_time).training.phases
    assert phase.name == "head" and phase.epochs == 3 and phase.reason.startswith("the time budget is spent")


def test_however_little_time_there_is_the_first_phase_runs(cache: Path, clock: list[float]) -> None:
    (phase,) = run(cache, deadline=0.0, unfreeze=1).training.phases
    assert phase.epochs == 1 and phase.reason.startswith("the time budget is spent")


def test_views_take_at_most_their_share_of_the_time(tmp_path: Path, clock: list[float]) -> None:
    calls: list[tuple[Any, ...]] = []

    def pass_time(stage: str, done: int, total: int, note: str = "") -> None:
        calls.append((stage,))
        if done == total and "features of" in stage:
            clock[0] += 10

    run(tmp_path, views=9, deadline=1000.0 + 10 + 60, progress=pass_time, epochs=1)
    # The images themselves and two views: a third would end beyond half of the 60 s.
    assert [stage for stage in stages_of(calls) if "view" in stage] == [
        "head: features of view 1 of 9",
        "head: features of view 2 of 9",
    ]


# Checkpoints


def test_each_phase_has_a_checkpoint_and_goes_on_from_it(cache: Path, tmp_path: Path) -> None:
    expected = run(cache, unfreeze=1, work=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-head.npz", "checkpoint-unfreeze.npz"}
    (tmp_path / "checkpoint-unfreeze.npz").unlink()
    phases: list[str] = []
    again = run(cache, unfreeze=1, work=tmp_path, on_epoch=lambda so_far: phases.append(so_far[-1].phase))
    assert phases == ["unfreeze"] * 2
    assert len(again.training.history) == len(expected.training.history) == 6
    assert_same_weights(again, expected)
