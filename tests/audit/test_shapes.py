"""Tests of edgecls.audit.shapes, with the pixels themselves as features."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from edgecls.audit import shapes
from edgecls.audit.material import Material
from edgecls.audit.shapes import describe_shapes, measure_shapes
from edgecls.config import TrainConfig
from edgecls.images.dataset import Split, load_dataset
from edgecls.messages.numbers import percent
from edgecls.training.features.cache import Features

SIZE = 32


def pixel_features(splits: list[Split], *_: object) -> tuple[Features, ...]:
    tables = [split.images[:, ::2, ::2, 0].reshape(len(split.labels), -1).astype(np.float16) / 255 for split in splits]
    return tuple(Features(table, np.arange(len(table))) for table in tables)  # type: ignore[arg-type]


@pytest.fixture
def material(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Material, Any]]:
    """Circles and ellipses twice as wide, in pictures of many shapes: stretched, they look alike."""
    monkeypatch.setattr(shapes, "compute_features", pixel_features)

    def make(widest: float) -> tuple[Material, Any]:
        random = np.random.default_rng(0)
        for name, factor in (("oval", 2), ("round", 1)):
            (tmp_path / name).mkdir()
            for number in range(100):
                ratio = widest ** random.uniform(-1, 1)
                height, width = round(64 / ratio**0.5), round(64 * ratio**0.5)
                picture, radius = Image.new("L", (width, height), 20), 0.22 * min(width, height)
                box = [
                    width / 2 - factor * radius,
                    height / 2 - radius,
                    width / 2 + factor * radius,
                    height / 2 + radius,
                ]
                ImageDraw.Draw(picture).ellipse(box, int(random.integers(90, 250)))
                picture.save(tmp_path / name / f"{number}.png")
        dataset = load_dataset(tmp_path, SIZE, val_fraction=0.2, test_fraction=0.2, seed=0)
        splits = [dataset.train, dataset.val, dataset.test or dataset.val]
        paths = tuple(path for split in splits for path in split.paths)
        labels = np.concatenate([split.labels for split in splits])
        parts = np.repeat(np.arange(3), [len(split.labels) for split in splits])
        sizes = [Image.open(tmp_path / path).size for path in paths]
        ratios = np.array([width / height for width, height in sizes])
        return Material(dataset, paths, labels, parts, (b"",) * len(paths), pixel_features(splits), {}), ratios

    return make


def test_another_resize_is_named_where_it_is_better(material: Callable[..., tuple[Material, Any]]) -> None:
    found, ratios = material(2.5)
    result = measure_shapes(found, TrainConfig(image_size=SIZE), ratios, range(len(found.paths)), 0.001)
    assert result is not None and result.images == len(found.paths) // 2 and result.better == "crop"
    assert result.narrow < 0.6 and result.wide > 1.7 and result.accuracy["crop"] > result.accuracy["stretch"] + 0.04
    text = describe_shapes(result)
    assert f"{percent(result.accuracy['crop'])} with --resize crop" in text and ": use --resize crop (p = " in text
    again = measure_shapes(found, TrainConfig(image_size=SIZE, resize="crop"), ratios, range(len(found.paths)), 0.001)
    assert again is not None and again.accuracy == result.accuracy and again.better == ""
    assert describe_shapes(again).endswith("no other is significantly better than crop.")


def test_images_of_one_shape_and_regions_are_not_measured(material: Callable[..., tuple[Material, Any]]) -> None:
    found, ratios = material(1.1)
    config = TrainConfig(image_size=SIZE)
    assert measure_shapes(found, config, ratios, range(len(found.paths)), 0.001) is None
    spread = np.linspace(0.5, 2, len(ratios))
    assert measure_shapes(found, config, np.full(len(ratios), np.nan), range(len(found.paths)), 0.001) is None
    assert measure_shapes(found, config, spread, range(len(found.paths)), 0.001) is not None
    cut = dataclasses.replace(config, roi=(0, 0, 8, 8))
    assert measure_shapes(found, cut, spread, range(len(found.paths)), 0.001) is None
