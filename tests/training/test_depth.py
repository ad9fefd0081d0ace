"""The number of blocks that training chooses where nobody says it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.images.dataset import Dataset, Split
from edgecls.networks.weights import Weights
from edgecls.progress import silent
from edgecls.training import depth
from edgecls.training.depth import choose_depth
from edgecls.training.distributed.workers import ALONE

PRETRAINED, RANDOM_WEIGHTS = Weights("file", Path("w.h5"), "ab", "keras"), Weights("none", None, None, "keras")
COUNT = 60
LABELS = np.arange(COUNT) % 2
TRAIN = Split(
    tuple(f"{number}.png" for number in range(COUNT)),
    np.arange(COUNT, dtype=np.uint8).reshape(-1, 1, 1, 1),
    LABELS.astype(np.int64),
)
VAL = Split(("val.png",), np.zeros((1, 1, 1, 1), np.uint8), np.zeros(1, np.int64))
DATASET = Dataset(Path("/data"), ("a", "b"), TRAIN, VAL, VAL, (), ())
CONFIG = TrainConfig(image_size=96)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[int | None]], list[Split]]:
    """Make the features of some depths tell the classes apart; return the splits whose features were asked for."""

    def give(good: set[int | None]) -> list[Split]:
        splits: list[Split] = []

        def features(
            config: TrainConfig, weights: Weights, split: Split, depths: Sequence[int | None], **_: Any
        ) -> Iterator[tuple[int | None, NDArray[np.float16]]]:
            splits.append(split)
            noise = np.random.default_rng(0).normal(0, 1, (len(split.labels), 3))
            for blocks in depths:
                yield blocks, (noise + 9 * split.labels[:, np.newaxis] * (blocks in good)).astype(np.float16)

        monkeypatch.setattr(depth, "features_of_depths", features)
        return splits

    return give


def choose(config: TrainConfig = CONFIG, weights: Weights | None = PRETRAINED, **more: Any) -> tuple[TrainConfig, Any]:
    return choose_depth(config, DATASET, weights, ALONE, silent, **more)


def test_the_depth_with_the_best_features_is_kept(seen: Any) -> None:
    splits = seen({15})
    config, accuracies = choose()
    assert config == dataclasses.replace(CONFIG, blocks=15)
    assert list(accuracies) == ["12", "15", "all"]
    assert accuracies["15"] == 1 and max(value for name, value in accuracies.items() if name != "15") < 0.8
    # Neither validation nor test images have a part in it.
    assert [set(split.paths) for split in splits] == [set(TRAIN.paths)]


def test_of_equally_good_depths_the_smallest_is_kept(seen: Any) -> None:
    seen({1, 15, None})
    assert choose()[0].blocks == 15


@pytest.mark.parametrize(("wrong", "blocks"), [(4, 12), (5, 15)])
def test_a_smaller_depth_is_kept_within_a_standard_error_of_the_best(
    monkeypatch: pytest.MonkeyPatch, seen: Any, wrong: int, blocks: int
) -> None:
    """Of 60 images, 15 blocks label 3 incorrectly: 95 %, whose standard error is 2.8 % or 1.7 images."""
    seen(set())
    errors = iter({"12": wrong, "15": 3, "all": 3}.values())

    def label(features: Any, labels: NDArray[np.int64], *_: Any) -> NDArray[np.int64]:
        return np.where(np.arange(COUNT) < next(errors), 1 - labels, labels)

    monkeypatch.setattr(depth, "label_each_from_the_others", label)
    assert choose()[0].blocks == blocks


def test_all_blocks_are_kept_where_they_are_the_best(seen: Any) -> None:
    seen({None})
    assert choose()[0] == CONFIG


def test_as_many_blocks_are_kept_as_shall_learn(seen: Any) -> None:
    seen({12, 15})
    config, accuracies = choose(dataclasses.replace(CONFIG, unfreeze=13))
    assert config.blocks == 15 and list(accuracies) == ["15", "all"]


def test_all_blocks_are_kept_where_nearly_all_shall_learn(seen: Any) -> None:
    splits, config = seen({12, 15}), dataclasses.replace(CONFIG, unfreeze=16)
    assert choose(config) == (config, {}) and not splits


@pytest.mark.parametrize(
    "settings",
    [{"blocks": 5}, {"choose_blocks": False}, {"head": "flatten"}, {"gray_to_rgb": "random"}, {"arch": "cnn"}],
)
def test_what_is_given_stays(seen: Any, settings: dict[str, Any]) -> None:
    splits, config = seen({15}), dataclasses.replace(CONFIG, **settings)
    assert choose(config) == (config, {}) and not splits


@pytest.mark.parametrize("weights", [None, RANDOM_WEIGHTS])
def test_random_features_choose_nothing(seen: Any, weights: Weights | None) -> None:
    splits = seen({15})
    assert choose(weights=weights) == (CONFIG, {}) and not splits


def test_some_of_many_images_are_looked_at(seen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth, "MOST_IMAGES", 40)
    splits = seen({15})
    choose()
    (split,) = splits
    assert len(split.labels) == 40 and set(split.paths) < set(TRAIN.paths)
    np.testing.assert_array_equal(split.images.ravel() % 2, split.labels)


def test_an_interrupted_run_does_not_choose_again(seen: Any, tmp_path: Path) -> None:
    splits = seen({15})
    first = choose(work=tmp_path, owner="run")
    seen({12})
    assert choose(work=tmp_path, owner="run") == first and len(splits) == 1


def test_groups_stay_together(monkeypatch: pytest.MonkeyPatch, seen: Any) -> None:
    seen({15})
    asked = []

    def label(features: Any, labels: NDArray[np.int64], count: int, groups: list[str]) -> NDArray[np.int64]:
        asked.append(groups)
        return labels

    monkeypatch.setattr(depth, "label_each_from_the_others", label)
    grouped = dataclasses.replace(DATASET, group_of={"3.png": "tile 1", "4.png": "tile 1"})
    choose_depth(CONFIG, grouped, PRETRAINED, ALONE, silent)
    assert asked[0] == ["tile 1" if number in (3, 4) else "" for number in range(COUNT)]
