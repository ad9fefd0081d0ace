"""The image size that training chooses where nobody says it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecls.config import TrainConfig
from edgecls.training.image_size import usual_image_size

RANDOM = np.random.default_rng(0)


def make(root: Path, sizes: Sequence[tuple[int, int]]) -> Path:
    """Return a folder of two classes that have images of these sizes, width and height."""
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number, (width, height) in enumerate(sizes):
            pixels = RANDOM.integers(0, 256, (height, width), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(28, 28)] * 8, 96),
        ([(64, 64)] * 8, 96),
        ([(65, 65)] * 8, 224),
        ([(28, 65)] * 8, 224),
        ([(65, 28)] * 8, 224),
        # The median image decides.
        ([(28, 28)] * 5 + [(640, 480)] * 4, 96),
        ([(28, 28)] * 4 + [(640, 480)] * 5, 224),
    ],
)
def test_small_images_get_a_small_network(tmp_path: Path, sizes: list[tuple[int, int]], expected: int) -> None:
    # With splits of their own, all of these images are for training.
    make(tmp_path / "data" / "train", sizes)
    make(tmp_path / "data" / "test", [(300, 300)] * 3)
    assert usual_image_size(tmp_path / "data", TrainConfig()) == expected


def test_the_part_that_the_network_gets_counts(tmp_path: Path) -> None:
    data = make(tmp_path / "data", [(200, 60)] * 8)
    assert usual_image_size(data, TrainConfig()) == 224
    assert usual_image_size(data, TrainConfig(resize="crop")) == 96
    assert usual_image_size(data, TrainConfig(roi=(0, 0, 40, 50))) == 96
    assert usual_image_size(data, TrainConfig(roi=(0, 0, 100, 50))) == 224


def test_a_smaller_size_of_the_settings_and_other_networks_stay(tmp_path: Path) -> None:
    data = make(tmp_path / "data", [(28, 28)] * 8)
    assert usual_image_size(data, TrainConfig(image_size=64)) == 64
    assert usual_image_size(data, TrainConfig(arch="cnn", image_size=128)) == 128


def test_what_cannot_be_read_is_left_to_training(tmp_path: Path) -> None:
    data = make(tmp_path / "data", [(28, 28)] * 8)
    for number in range(4):
        (data / "a" / f"{number}.png").write_bytes(b"not a picture")
    assert usual_image_size(data, TrainConfig()) == 96
    assert usual_image_size(tmp_path / "nowhere", TrainConfig()) == 224
