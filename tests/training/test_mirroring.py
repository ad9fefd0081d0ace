"""Mirrored copies are used only where they help."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_run import SIZE, run_train

from edgecls.config import AugmentConfig, TrainConfig
from edgecls.training import mirroring
from edgecls.training.features.augment import draw_changes, draw_mirrored
from edgecls.training.mirroring import compare_flips

CONFIG = TrainConfig(image_size=SIZE, alpha=0.35, blocks=4, weights="none", effort="quick", augmented_copies=1)


def draw_arrows(root: Path, images: int) -> Path:
    """Two classes that a mirror exchanges: a bright bar at the left or at the right."""
    random = np.random.default_rng(0)
    for name, start in (("left", 0), ("right", SIZE // 2)):
        (root / name).mkdir(parents=True)
        for number in range(images):
            gray = random.normal(60, 20, (SIZE, SIZE))
            gray[:, start : start + SIZE // 2] += random.uniform(60, 120)
            Image.fromarray(np.clip(gray, 0, 255).astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def test_what_a_mirror_makes_another_class_is_not_mirrored(tmp_path: Path) -> None:
    run = run_train(draw_arrows(tmp_path / "arrows", 60), tmp_path / "run", CONFIG)
    errors = run.record["flip_errors"]
    assert errors["none"] < errors["horizontal"]
    assert run.record["config"]["augment"]["flip"] == "none"


def test_a_given_flip_is_obeyed_and_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirroring, "_measure", lambda *_: pytest.fail("nothing has to be measured"))
    augment = AugmentConfig(flip="horizontal")
    arrows = draw_arrows(tmp_path / "arrows", 9)
    run = run_train(arrows, tmp_path / "run", dataclasses.replace(CONFIG, augment=augment))
    assert run.record["flip_errors"] == {} and run.record["config"]["augment"]["flip"] == "horizontal"


def test_with_a_time_budget_copies_are_mirrored(tmp_path: Path) -> None:
    arrows = draw_arrows(tmp_path / "arrows", 9)
    run = run_train(arrows, tmp_path / "run", dataclasses.replace(CONFIG, time_budget_s=600))
    assert run.record["flip_errors"] == {} and run.record["config"]["augment"]["flip"] == "horizontal"


def test_mirrored_copies_are_better_where_they_show_what_the_images_lack() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    # The classifier has to find the one feature that tells the classes apart among much noise.
    images, others = (
        np.concatenate([labels[:, np.newaxis] * 3.0, random.normal(0, 1, (60, 40))], axis=1) for _ in range(2)
    )
    mirrored = np.arange(60) // 2 % 2 == 0
    copies = np.where(mirrored[:, np.newaxis], others, images)
    errors = compare_flips(images, copies, mirrored, labels.astype(np.int64), 2, seed=0)
    assert errors["horizontal"] < errors["none"]


def test_the_copies_that_count_as_mirrored_are_those_that_are() -> None:
    config = AugmentConfig(flip="horizontal", rotation=0, translation=0, zoom=0, brightness=0, contrast=0)
    keys = list(range(50))
    transforms = draw_changes(config, SIZE, keys, 1, seed=3).transforms
    np.testing.assert_array_equal(transforms[:, 0] < 0, draw_mirrored(keys, 1, seed=3))
    assert 10 < draw_mirrored(keys, 1, seed=3).sum() < 40
