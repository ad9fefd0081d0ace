"""Fine-tuning by effort: how many blocks, that it leaves no trace, and that a resumed run ends alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from phase_run import CONFIG, DATA, SOLVED, Ran, assert_same_weights, build, run, stages_of

from edgecls.config import TrainConfig
from edgecls.errors import ConfigError
from edgecls.networks.split_layer import block_before
from edgecls.training import effort, fine_tuning, phases
from edgecls.training.context import Context
from edgecls.training.effort import describe_next, fine_blocks, fine_settings, whole_settings
from edgecls.training.fit import FitResult
from edgecls.training.history import EpochRecord
from edgecls.training.recipe import Recipe

WHOLE = dataclasses.replace(CONFIG, blocks=None)
# The last blocks of a network that ends early are small.
NORMAL: dict[str, Any] = SOLVED | {"effort": "normal", "blocks": 5, "fine_epochs": 3, "fine_learning_rate": 3e-3}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


Normal = tuple[Ran, list[str], Path]


@pytest.fixture(scope="module")
def normal(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Normal:
    calls: list[tuple[Any, ...]] = []
    work = tmp_path_factory.mktemp("work")
    ran = run(cache, **NORMAL, work=work, owner="a", progress=lambda *call: calls.append(call))
    return ran, stages_of(calls), work


def test_the_trial_decides_and_the_phase_follows(normal: Normal) -> None:
    ran, stages, _ = normal
    # There are five blocks, so not six of them.
    names = [phase.name for phase in ran.training.phases]
    assert names == ["classifier", "augmented", "fine-tuning"]
    assert ran.training.phases[-1].unfreeze == 3 and ran.training.phases[0].unfreeze == 0
    assert "train fine-tuning" in stages and ran.training.phases[-1].epoch_seconds > 0
    assert {epoch.phase for epoch in ran.training.history} == set(names)
    assert [epoch.epoch for epoch in ran.training.history if epoch.phase == "fine-tuning"] == [1, 2, 3]


def test_it_is_the_fine_tuning_that_the_user_may_ask_for(cache: Path, normal: Normal) -> None:
    asked = run(cache, **{**NORMAL, "effort": None}, unfreeze=3)
    assert_same_weights(asked, normal[0])


def test_it_ends_alike_if_it_is_resumed_after_any_phase(cache: Path, normal: Normal, tmp_path: Path) -> None:
    ran, _, work = normal
    files = {path.name for path in work.glob("checkpoint-*.npz")}
    phases_of_run = ("classifier", "augmented", "fine-tuning", "fine-tuning-classifier")
    assert files == {f"checkpoint-{name}.npz" for name in phases_of_run}
    for missing in ("checkpoint-fine-tuning-classifier.npz", "checkpoint-fine-tuning.npz"):
        (work / missing).rename(tmp_path / missing)
        again = run(cache, **NORMAL, work=work, owner="a")
        assert_same_weights(again, ran)


def test_fine_tuning_starts_softer_and_must_beat_the_solved_classifier(normal: Normal) -> None:
    ran, _, _ = normal
    _, augmented, fine = ran.training.phases
    assert fine.val_accuracy_before == augmented.val_accuracy_after
    if fine.kept:
        assert (fine.val_accuracy_after, fine.best_epoch > 0) >= (fine.val_accuracy_before, True)
    else:
        assert fine.best_epoch == 0 and fine.val_accuracy_after == fine.val_accuracy_before


def test_the_classifier_is_solved_again_for_the_fine_tuned_features(
    cache: Path, normal: Normal, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[FitResult, FitResult]] = []

    def watch(context: Context, recipe: Recipe, fitted: FitResult, start: FitResult) -> fine_tuning.Learned:
        learned = fine_tuning.solve_again(context, recipe, fitted, start)
        scores = context.model.predict(context.dataset.val.images, verbose=0)
        assert np.mean(scores.argmax(1) == context.dataset.val.labels) == pytest.approx(learned.fitted.best_accuracy)
        seen.append((fitted, learned.fitted))
        return learned

    monkeypatch.setattr(phases, "solve_again", watch)
    run(cache, **NORMAL)
    ((before, after),) = seen
    assert (after.best_accuracy, -after.best_loss) >= (before.best_accuracy, -before.best_loss)
    assert after.ended == f"{before.ended}, then the classifier was solved by L-BFGS"


@pytest.mark.parametrize(("solved", "kept"), [(0.89, True), (0.8, False)])
def test_a_solution_stays_unless_the_validation_images_show_that_it_is_worse(
    monkeypatch: pytest.MonkeyPatch, solved: float, kept: bool
) -> None:
    images = SimpleNamespace(labels=np.zeros(100, np.int64))
    epoch = EpochRecord("fine-tuning", 1, 0.1, 1, 0.2, 0.9, 1e-4, 0.1, 1.0)
    fitted = FitResult((epoch,), 1, 0.2, 0.9, 0.5, None, "all epochs done")
    monkeypatch.setattr(fine_tuning, "frozen_examples", lambda *_, **__: (images, images))
    found = dataclasses.replace(fitted, best_accuracy=solved)
    monkeypatch.setattr(fine_tuning, "solve", lambda *_, **__: found)
    learned = fine_tuning.solve_again(context(), Recipe("fine-tuning", 1), fitted, fitted)
    # The standard error of 90 % of 100 images is 3 points.
    assert learned.fitted.best_accuracy == (solved if kept else 0.9)
    assert learned.fitted.ended.endswith("solved by L-BFGS") == kept


@pytest.mark.parametrize(
    ("accuracy", "loss", "kept"), [(0.95, 0.3, True), (0.9, 0.1, True), (0.9, 0.3, False), (0.85, 0.1, False)]
)
def test_accuracy_decides_and_then_the_loss(accuracy: float, loss: float, kept: bool) -> None:
    # Without epochs, nothing is solved again.
    fitted, start = FitResult((), 4, loss, accuracy, 0.8, None, ""), FitResult((), 1, 0.2, 0.9, 0.3, None, "")
    found = fine_tuning.solve_again(context(), Recipe("fine-tuning", 1), fitted, start)
    assert (found.fitted.best_epoch, found.fitted.start_accuracy) == (4 if kept else 0, 0.9) and not found.soft


def test_fine_tuning_that_does_not_help_leaves_no_trace(cache: Path) -> None:
    quick = run(cache, **NORMAL | {"effort": "quick"})
    # One epoch at a rate that destroys what was learned.
    ran = run(cache, **NORMAL | {"fine_learning_rate": 0.5, "fine_epochs": 1})
    assert ran.training.phases[-1].name == "fine-tuning" and not ran.training.phases[-1].kept
    assert_same_weights(ran, quick)


def test_best_trains_the_whole_backbone_too(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effort, "WHOLE_EPOCHS", 1)
    ran = run(cache, **NORMAL | {"effort": "best", "blocks": 3})
    last = ran.training.phases[-1]
    assert last.name == "backbone" and last.unfreeze == 3 and last.forward is None
    learned = {layer.name for layer in ran.training.history[-1].layers}
    assert "block_1_expand" in learned and not any("BN" in name for name in learned)


def test_no_time_no_fine_tuning(cache: Path) -> None:
    ran = run(cache, **NORMAL, deadline=0.0)
    assert [phase.name for phase in ran.training.phases] == ["classifier"]


def test_six_blocks_learn_or_three_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fine_blocks(context(effort="normal", blocks=None)) == 6
    assert fine_blocks(context(effort="normal", blocks=5)) == 3
    assert fine_blocks(context(effort="normal", blocks=2)) == 0
    model, images = build(WHOLE), len(DATA.train.labels) + len(DATA.val.labels)
    before_three, before_six = (
        2 * int(np.prod(model.get_layer(block_before(model, blocks)).output.shape[1:])) for blocks in (3, 6)
    )
    assert before_three < before_six
    monkeypatch.setattr(effort, "FEATURE_BYTES", before_three * images)
    assert fine_blocks(context(effort="normal", blocks=None)) == 3
    monkeypatch.setattr(effort, "FEATURE_BYTES", 100)
    assert fine_blocks(context(effort="normal", blocks=None)) == 0


def context(**changes: Any) -> Context:
    config = dataclasses.replace(WHOLE, **changes)
    return Context(build(config), DATA, config)


def test_many_images_have_fewer_epochs_and_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    few = fine_settings(context(effort="normal", fine_epochs=10, augmented_copies=4), 3)
    assert (few.fine_epochs, few.unfreeze, few.augmented_copies, few.main_effort) == (10, 3, 4, "quick")
    monkeypatch.setattr(effort, "FINE_IMAGES", 5 * len(DATA.train.labels))
    # One row of block 13 is one pixel of 56 channels.
    monkeypatch.setattr(effort, "FEATURE_BYTES", (3 * len(DATA.train.labels) + len(DATA.val.labels)) * 56 * 2)
    many = fine_settings(context(effort="normal", fine_epochs=10, augmented_copies=4), 3)
    assert (many.fine_epochs, many.augmented_copies) == (5, 2)
    assert fine_settings(context(effort="normal", fine_epochs=2), 3).fine_epochs == 2
    assert whole_settings(context(effort="best")).unfreeze == 17


def test_the_whole_backbone_learns_more_gently_than_its_last_blocks_unless_a_rate_is_given() -> None:
    config = context(effort="best", fine_learning_rate=None)
    assert fine_settings(config, 3).tuning_learning_rate == 1e-4
    assert whole_settings(config).tuning_learning_rate == 3e-5
    given = context(effort="best", fine_learning_rate=0.01)
    assert fine_settings(given, 3).tuning_learning_rate == whole_settings(given).tuning_learning_rate == 0.01


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "normal"),
        ({"effort": "best"}, "best"),
        ({"unfreeze": 0}, "quick"),
        ({"unfreeze": 3, "effort": "quick"}, "quick"),
        ({"joint": True}, "quick"),
        ({"arch": "cnn"}, "quick"),
        ({"gray_to_rgb": "random"}, "quick"),
    ],
)
def test_who_says_what_is_fine_tuned_gets_that_alone(settings: dict[str, Any], expected: str) -> None:
    assert TrainConfig(**settings).main_effort == expected


@pytest.mark.parametrize("settings", [{"unfreeze": 3}, {"unfreeze": 0}, {"joint": True}, {"arch": "mlp"}])
def test_two_answers_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="effort must be left out"):
        TrainConfig(effort="best", **settings)


def test_the_next_effort_is_described_with_its_cost() -> None:
    config = dataclasses.asdict(TrainConfig())
    split = {"train": {"a": ["x"] * 500, "b": ["y"] * 500}}
    record = {"config": config, "seconds": 100.0, "split": split}
    assert describe_next(record) is None
    phase = {"name": "fine-tuning", "kept": True, "unfreeze": 6, "val_accuracy_before": 0.9, "val_accuracy_after": 0.92}
    phase |= {"epoch_seconds": 10.0}
    # 10 s for an epoch, 2.2 times as much through the whole, 20 of them: 440 s and 100 s.
    cost = "; --effort best, which trains all blocks, would take about 9 min."
    text = describe_next(record | {"phases": [phase]})
    assert text == f"Fine-tuning of 6 blocks gave +2.0 points of validation accuracy{cost}"
    text = describe_next(record | {"phases": [phase | {"kept": False}]})
    assert text == f"Fine-tuning did not help on the validation images{cost}"
    quick = describe_next(record | {"config": config | {"effort": "quick"}})
    assert quick == "--effort normal would take up to 17 min and may be 1 or 2 points better."
    assert describe_next(record | {"config": config | {"effort": "best"}, "phases": [phase]}) is None


@pytest.mark.parametrize(("images", "cost"), [(1000, "about 4 min"), (20_000, "about 2 min")])
def test_the_cost_of_fine_tuning_follows_from_the_time_of_the_features(images: int, cost: str) -> None:
    """Ten times the whole run, with its start and its pictures, was three times too much."""
    phases = [{"name": name, "seconds": 10.0, "forward": "openvino: fast"} for name in ("classifier", "augmented")]
    record = {
        "config": dataclasses.asdict(TrainConfig(effort="quick")),
        "seconds": 75.0,
        "split": {"train": {"a": ["x"] * images}},
        "phases": phases,
    }
    # 75 s and 20 s for each of 1 + 0.6 x 10 epochs, or 3 epochs of many images.
    assert describe_next(record) == f"--effort normal would take {cost} and may be 1 or 2 points better."
    # Features from the cache say nothing.
    cached = record | {"phases": [phase | {"forward": None} for phase in phases]}
    assert "would take up to 12 min" in str(describe_next(cached))
