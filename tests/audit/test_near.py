from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgecls.audit import near
from edgecls.audit.align import SIDE, align, refine, shrink
from edgecls.audit.near import COPY, find_near

SIZE = 96


@dataclass
class Fake:
    """Images alone."""

    images: list[NDArray[np.uint8]]
    paths: list[str] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    parts: Sequence[int] = ()
    labels: Sequence[int] = ()

    def __post_init__(self) -> None:
        self.parts = self.parts or [0] * len(self.images)
        self.labels = self.labels or [0] * len(self.images)
        self.paths = [str(number) for number in range(len(self.images))]
        self.digests = [image.tobytes() for image in self.images]

    def each(self) -> list[NDArray[np.uint8]]:
        return self.images

    def pixels(self, index: int) -> NDArray[np.uint8]:
        return self.images[index]

    def take(self, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.stack([shrink(self.images[index])[::4, ::4].ravel() for index in chosen])


def draw_part(seed: int) -> Image.Image:
    """A part of one kind: the same outline and light, a texture and marks of its own."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:240j, -1:1:240j]
    coarse = Image.fromarray(random.normal(0, 1, (60, 60)).astype(np.float32)).resize(
        (240, 240), Image.Resampling.BICUBIC
    )
    gray = 90 + 50 * x + 60 * (np.hypot(x, y) < 0.8) + 14 * np.asarray(coarse)
    for _ in range(6):
        cx, cy = random.uniform(-0.7, 0.7, 2)
        gray -= 60 * (np.hypot(x - cx, y - cy) < random.uniform(0.03, 0.12))
    return Image.fromarray(np.clip(gray, 0, 255).astype(np.uint8))


def compress(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return Image.open(buffer)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "resized": lambda image: image.resize((130, 130)),
    "compressed": compress,
    "brightened": lambda image: image.point(lambda gray: min(255, gray * 1.2 + 10)),
    "flattened": lambda image: image.point(lambda gray: gray * 0.75 + 30),
    "cropped": lambda image: image.crop((6, 4, 235, 237)),
}


def load(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_similar_parts_are_not(change: str) -> None:
    parts = [draw_part(seed) for seed in range(20)]
    images = [load(part) for part in parts] + [load(CHANGES[change](part)) for part in parts[:6]]
    pairs = find_near(Fake(images))  # type: ignore[arg-type]
    assert [(int(one), int(other)) for one, other in pairs[:, :2]] == [(number, 20 + number) for number in range(6)]
    assert (pairs[:, 2] >= COPY).all()
    assert pairs[:, 3].tolist() == [change != "cropped"] * 6


def test_identical_images_are_paired_with_the_first_and_empty_ones_with_no_other() -> None:
    part, black = load(draw_part(0)), np.zeros((SIZE, SIZE), np.uint8)
    nearly_black = black.copy()
    nearly_black[0, 0] = 9
    pairs = find_near(Fake([black, part, black, part, nearly_black, part]))  # type: ignore[arg-type]
    assert pairs.tolist() == [[0, 2, 1.0, 1], [1, 3, 1.0, 1], [1, 5, 1.0, 1]]


def test_of_many_copies_each_is_paired_with_one_in_each_other_split_and_class() -> None:
    part, again = load(draw_part(0)), load(compress(draw_part(0)))
    # Three training images, one of them of another class, and of the test images two and one that was compressed again.
    images, parts, labels = [part] * 5 + [again], [0, 0, 0, 2, 2, 2], [0, 1, 0, 0, 0, 0]
    found = find_near(Fake(images, parts=parts, labels=labels))  # type: ignore[arg-type]
    pairs = {(int(one), int(other)) for one, other in found[:, :2]}
    assert pairs == {(0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3), (0, 4), (1, 4), (3, 4)} | {
        (number, 5) for number in range(5)
    }
    assert found[:, 3].all()


def test_one_image_has_no_duplicate() -> None:
    assert find_near(Fake([load(draw_part(0))])).shape == (0, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize("box", [(24, 0, 240, 228), (12, 12, 228, 228), (0, 20, 221, 240), (3, 0, 240, 226)])
def test_alignment_finds_the_part_that_a_crop_shows(box: tuple[int, int, int, int]) -> None:
    part = draw_part(3)
    whole, cut = (shrink(load(image))[np.newaxis] for image in (part, part.crop(box)))
    found, coarse = align(whole, cut)
    assert coarse[0] > 0.97
    found = refine(whole, cut, found)[0]
    # Where the corners of the crop lie in the whole picture, in pixels of 240.
    half = (SIDE - 1) / 2
    for (scale, shift), ends in zip(found.reshape(2, 2), ((box[0], box[2]), (box[1], box[3])), strict=True):
        corners = [(half + sign * SIDE / 2 * (1 + scale) + shift + 0.5) * 240 / SIDE for sign in (-1, 1)]
        assert np.abs(np.array(corners) - ends).max() < 3


def test_another_shot_of_an_object_is_no_copy() -> None:
    random = np.random.default_rng(0)
    parts = [np.asarray(draw_part(seed)).astype(float) for seed in range(12)]
    shots = [
        Image.fromarray(np.clip(part + random.normal(0, 30, part.shape), 0, 255).astype(np.uint8)) for part in parts
    ]
    pairs = find_near(Fake([load(Image.fromarray(part.astype(np.uint8))) for part in parts] + [load(s) for s in shots]))  # type: ignore[arg-type]
    assert [(int(one), int(other)) for one, other in pairs[:, :2]] == [(number, 12 + number) for number in range(12)]
    assert (pairs[:, 2] >= COPY).all() and not pairs[:, 3].any()


def draw_frames(scene: int, count: int) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(scene)
    still = np.asarray(draw_part(scene).resize((SIZE, SIZE)), np.int16)
    return [np.clip(still + random.integers(-9, 10, still.shape), 0, 255).astype(np.uint8) for _ in range(count)]


def test_frames_of_a_still_scene_are_found_and_are_no_flood_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "MOST_PAIRS", 15)
    images = draw_frames(0, 60) + [load(draw_part(seed)) for seed in range(1, 20)]
    pairs = find_near(Fake(images))  # type: ignore[arg-type]
    assert set(pairs[:, :2].ravel().astype(int)) == set(range(60))
    assert len(pairs) < 60 * 59 / 2


def test_frames_of_several_scenes_are_found_although_they_are_most_of_what_all_images_share() -> None:
    images = [frame for scene in range(12) for frame in draw_frames(scene, 20)]
    pairs = find_near(Fake(images))[:, :2].astype(int)  # type: ignore[arg-type]
    assert set(pairs.ravel()) == set(range(240))
    assert (pairs[:, 0] // 20 == pairs[:, 1] // 20).all()
