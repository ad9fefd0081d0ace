from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecls.config import TrainConfig
from edgecls.images.dataset import Split, load_dataset
from edgecls.sweep import scan as scanning
from edgecls.sweep.scan import scan
from edgecls.training.features.depths import DEPTHS

BASE = TrainConfig(weights="none", alpha=0.35)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The paths of each pass over the images. Deeper networks have better features; these need no network."""
    found: list[tuple[str, ...]] = []

    def features(config: TrainConfig, weights: object, split: Split, **_: Any) -> Iterator[Any]:
        found.append(split.paths)
        random = np.random.default_rng(0)
        for depth, blocks in enumerate(DEPTHS):
            yield blocks, random.normal(0, 20 / (1 + depth), (len(split.labels), 4)) + 9 * np.eye(4)[split.labels]

    monkeypatch.setattr(scanning, "features_of_depths", features)
    return found


def test_every_depth_and_size_is_there_and_test_images_play_no_part(
    tiny_data: Path, tmp_path: Path, passes: list[tuple[str, ...]]
) -> None:
    found = list(scan(tiny_data, tmp_path, BASE, [32, 48]))
    assert [(each.config.image_size, each.config.blocks) for part in found for each in part] == [
        (size, blocks) for size in (32, 48) for blocks in DEPTHS
    ]
    assert found[0][0].accuracy < found[0][-1].accuracy == 1
    dataset = load_dataset(tiny_data, 32, val_fraction=0.15, test_fraction=0.15, seed=0)
    assert dataset.test is not None
    assert set(passes[0]) <= {*dataset.train.paths, *dataset.val.paths}
    assert passes[0] == passes[1] and not set(passes[0]) & set(dataset.test.paths)
    assert len(found[0][0].correct) == len(passes[0])


def test_images_of_several_folders_are_looked_at(
    tiny_data: Path, tmp_path: Path, passes: list[tuple[str, ...]]
) -> None:
    one, other = (Path(shutil.copytree(tiny_data, tmp_path / name)) for name in ("one", "other"))
    for path in other.rglob("*.png"):
        # Each is another picture, as no two images are alike.
        pixels = np.asarray(Image.open(path))
        Image.fromarray(255 - pixels if pixels.dtype == np.uint8 else pixels[::-1]).save(path)
    next(scan(one, tmp_path / "out", replace(BASE, more_data=(str(other),)), [32]))
    assert {path.split("/")[0] for path in passes[0]} == {"one", "other"}


def test_it_continues_where_it_was_interrupted(tiny_data: Path, tmp_path: Path, passes: list[tuple[str, ...]]) -> None:
    first = next(scan(tiny_data, tmp_path, BASE, [32, 48]))
    assert len(passes) == 1
    again = list(scan(tiny_data, tmp_path, BASE, [32, 48]))
    assert len(passes) == 2
    assert all((one.correct == other.correct).all() for one, other in zip(first, again[0], strict=True))


def test_other_images_or_settings_are_scanned_again(
    tiny_data: Path, tmp_path: Path, passes: list[tuple[str, ...]]
) -> None:
    data = Path(shutil.copytree(tiny_data, tmp_path / "images"))
    list(scan(data, tmp_path, BASE, [32]))
    list(scan(data, tmp_path, TrainConfig(weights="none", alpha=0.5), [32]))
    (data / "dark" / passes[0][0].split("/")[-1]).touch()
    list(scan(data, tmp_path, BASE, [32]))
    learned = next(path for path in passes[0] if path.endswith(".png"))
    shutil.copy(data / next(path for path in passes[0] if path != learned), data / learned)
    list(scan(data, tmp_path, BASE, [32]))
    assert len(passes) == 4


def test_images_that_are_alike_count_once(tiny_data: Path, tmp_path: Path, passes: list[tuple[str, ...]]) -> None:
    data = Path(shutil.copytree(tiny_data, tmp_path / "images"))
    list(scan(data, tmp_path, BASE, [32]))
    for number in range(3):
        shutil.copy(data / "dark" / "05.png", data / "dark" / f"copy-{number}.png")
    list(scan(data, tmp_path, BASE, [32]))
    alike = [path for path in passes[1] if path == "dark/05.png" or "copy" in path]
    assert len(alike) <= 1


def test_of_very_many_images_some_are_enough(
    tiny_data: Path, tmp_path: Path, passes: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "MOST_IMAGES", 12)
    list(scan(tiny_data, tmp_path, BASE, [32]))
    assert len(passes[0]) == 12


def test_groups_are_left_out_together_and_are_part_of_the_key(
    tiny_data: Path, tmp_path: Path, passes: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def label(features: Any, labels: Any, class_count: int, groups: Any) -> Any:
        seen.append(groups)
        return labels

    monkeypatch.setattr(scanning, "label_each_from_the_others", label)
    grouped = replace(BASE, group=r"/\d(\d)")
    for config in (BASE, grouped, grouped):
        next(scan(tiny_data, tmp_path, config, [32]))
    assert len(passes) == 2
    assert set(seen[0]) == {""} and seen[-1] == tuple(Path(path).name[1] for path in passes[1])
