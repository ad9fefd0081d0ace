"""Phases of a run on a small MobileNetV2 and the small networks: what learns and what stays."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from phase_run import CLASSES, CONFIG, SIZE, SMALL, TRAIN, Ran, assert_same_weights, build, built, run, stages_of

from edgecls.config import TrainConfig
from edgecls.networks.split_layer import split_at
from edgecls.training.features import frozen
from edgecls.training.history import EpochRecord
from edgecls.training.phases import phase_names


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


# Which phases there are


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["classifier", "augmented"]),
        ({"augment": None}, ["classifier"]),
        ({"augmented_copies": 0}, ["classifier"]),
        ({"joint": True}, ["classifier", "augmented", "joint"]),
        ({"unfreeze": 2}, ["classifier", "augmented", "fine-tuning"]),
        ({"joint": True, "unfreeze": 2, "augmented_copies": 0}, ["classifier", "joint", "fine-tuning"]),
        ({"gray_to_rgb": "random"}, ["network"]),
        ({"gray_to_rgb": "random", "unfreeze": 2}, ["network", "fine-tuning"]),
        ({"arch": "cnn"}, ["network"]),
        ({"arch": "mlp"}, ["network"]),
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
    phase, augmented = head.training.phases
    assert phase.name == "classifier" and phase.kept and phase.epochs == 4
    assert augmented.name == "augmented" and augmented.epochs == 4 and len(head.training.history) == 8
    assert phase.val_accuracy_after > max(0.6, phase.val_accuracy_before)
    # One engine, chosen once for the images of both.
    assert phase.forward == augmented.forward == "keras: 90 images are too few to convert the network for"
    assert head.training.divergence is None


def test_the_result_is_that_of_the_whole_network(head: Ran) -> None:
    # float16 features may move an image over the border, not two.
    assert head.accuracy == pytest.approx(head.training.phases[-1].val_accuracy_after, abs=0.06)
    scores = head.training.train_scores
    kept = head.training.phases[-1].kept
    assert scores is not None and scores.shape == (1 + kept, 36, CLASSES)
    np.testing.assert_allclose(scores.sum(2), 1, atol=1e-5)
    assert (scores[0].argmax(1) == TRAIN.labels).mean() > 0.6 and (scores[-1] != scores[0]).any() == kept


def test_the_cache_spares_the_second_run_the_backbone(cache: Path, head: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "fastest_forward", lambda *_: pytest.fail("ran the backbone"))
    again = run(cache)
    assert again.training.phases[0].forward is None
    # The same data, the same seed: the same weights.
    assert_same_weights(again, head)


def test_another_network_has_a_key_of_its_own() -> None:
    def key(model: keras.Model, cut: str = "features", size: int = SIZE) -> dict[str, Any]:
        extractor, _ = split_at(model, cut)
        return frozen.network_key(extractor, cut, dataclasses.replace(CONFIG, image_size=size))

    model = build(CONFIG)
    first = key(model)
    # Keras counts the networks that a process has built: the numbers mean nothing.
    built.cache_clear()
    model = build(CONFIG)
    assert key(model) == first != key(model, "block_2_add")
    assert key(model, size=40) != first
    kernel = model.get_layer("block_3_expand").kernel
    kernel.assign(kernel * 1.0001)
    assert key(model) != first


def test_without_augmentation_there_are_no_augmented_copies(cache: Path, tmp_path: Path) -> None:
    calls: list[tuple[Any, ...]] = []
    run(tmp_path, augment=None, epochs=1, augmented_copies=5, progress=lambda *call: calls.append(call))
    features = ["classifier: features of validation images", "classifier: features of training images"]
    assert stages_of(calls) == [*features, "train classifier"]


# Everything that may follow


@dataclasses.dataclass
class Told:
    calls: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    histories: list[list[EpochRecord]] = dataclasses.field(default_factory=list)


@pytest.fixture(scope="module")
def all_phases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Told]:
    reported = Told()
    cache = tmp_path_factory.mktemp("features")
    options: dict[str, Any] = {
        "progress": lambda *call: reported.calls.append(call),
        "on_epoch": lambda history: reported.histories.append(history),
    }
    # Of the whole network, the last convolution belongs to the last block.
    return run(cache, joint=True, unfreeze=1, blocks=None, **options), reported


UNFROZEN = {"block_16_expand", "block_16_depthwise", "block_16_project", "Conv_1", "scores"}


def test_each_phase_trains_its_own_layers_and_no_others(all_phases: tuple[Ran, Told]) -> None:
    ran, _ = all_phases
    names = {record.phase: {layer.name for layer in record.layers} for record in ran.training.history}
    # joint goes through the frozen backbone; the normalization of unfrozen blocks stays as it is.
    assert names == {
        "classifier": {"scores"},
        "augmented": {"scores"},
        "joint": {"gray_to_rgb", "scores"},
        "fine-tuning": UNFROZEN,
    }
    kept = {phase.name for phase in ran.training.phases if phase.kept}
    assert "classifier" in kept and kept - {"classifier"}
    assert ran.changed == set().union(*(names[name] for name in kept))
    assert [phase.name for phase in ran.training.phases] == ["classifier", "augmented", "joint", "fine-tuning"]
    assert [phase.forward is None for phase in ran.training.phases] == [False, False, True, False]


def test_each_phase_begins_where_the_last_one_ended(all_phases: tuple[Ran, Told]) -> None:
    ran, _ = all_phases
    phases = ran.training.phases
    for before, after in zip(phases, phases[1:], strict=False):
        assert after.val_accuracy_before == pytest.approx(before.val_accuracy_after, abs=0.06)
        assert after.val_accuracy_after >= after.val_accuracy_before
    assert ran.accuracy == pytest.approx(phases[-1].val_accuracy_after, abs=0.06)
    rates = {record.phase: record.learning_rate for record in ran.training.history if record.epoch == 1}
    assert rates["classifier"] == rates["augmented"] > 5 * CONFIG.tuning_learning_rate
    assert rates["joint"] == rates["fine-tuning"] == pytest.approx(CONFIG.tuning_learning_rate)


def test_scores_of_training_images_are_those_of_the_kept_network_or_none(all_phases: tuple[Ran, Told]) -> None:
    ran, _ = all_phases
    assert any(phase.kept for phase in ran.training.phases[2:]) and ran.training.train_scores is None


def test_progress_names_each_phase_and_reaches_its_end(all_phases: tuple[Ran, Told]) -> None:
    ran, reported = all_phases
    images, copy = ["features of validation images", "features of training images"], "features of copy 1 of 1"
    assert stages_of(reported.calls) == [
        *(f"classifier: {what}" for what in images),
        "train classifier",
        f"augmented: {copy}",  # the images' own are kept
        "train augmented",
        "train joint",
        *(f"fine-tuning: {what}" for what in (*images, copy)),
        "train fine-tuning",
    ]
    assert [call[1:3] for call in reported.calls if call[0] == "train fine-tuning"] == [(1, 2), (2, 2), (2, 2)]
    notes = [call[3] for call in reported.calls if call[0] == "train fine-tuning"]
    assert all(note.startswith("val ") for note in notes[:-1])
    # The last one says what happened.
    assert re.match(r"all epochs done, (best epoch \d of 2|discarded), validation accuracy [\d.]+ %$", notes[-1])
    assert [len(history) for history in reported.histories] == list(range(1, 13))
    assert tuple(reported.histories[-1]) == ran.training.history


def test_a_random_beginning_learns_from_the_first_step(cache: Path) -> None:
    ran = run(cache, gray_to_rgb="random", head="flatten", epochs=2, learning_rate=1e-3)
    (phase,) = ran.training.phases
    assert phase.name == "network" and phase.forward is None
    layers = {layer.name for layer in ran.training.history[-1].layers}
    assert layers == {"gray_to_rgb", "hidden_1", "scores"}
    assert ran.changed == (layers if phase.kept else set())


@pytest.mark.parametrize("arch", ["cnn", "mlp"])
def test_small_networks_learn_whole(cache: Path, arch: str) -> None:
    ran = run(cache, arch=arch, filters=(4, 8), hidden=(16,), **SMALL)
    (phase,) = ran.training.phases
    assert phase.name == "network" and phase.kept and phase.val_accuracy_after > 0.6
    assert ran.changed >= {path.split("/")[0] for path in ran.before if path.endswith(("kernel", "bias"))}
    assert ran.accuracy == pytest.approx(phase.val_accuracy_after)
