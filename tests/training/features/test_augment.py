from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecls.config import AugmentConfig
from edgecls.config.choices import FLIPS
from edgecls.training.features.augment import change_images, describe_augmentation, draw_changes, find_borders

OFF = AugmentConfig("none", 0, 0, 0, 0, 0)
ALONE: dict[str, Any] = {
    "flip": "horizontal_and_vertical",
    "rotation": 0.1,
    "translation": 0.2,
    "zoom": 0.2,
    "brightness": 0.2,
    "contrast": 0.3,
}
# Smooth, so that no change of place can be mistaken for noise, and unlike its own mirror images.
GRADIENT = np.add.outer(np.arange(16) * 10, np.arange(16) * 5).astype(np.uint8)[np.newaxis, :, :, np.newaxis]
SIXTEEN = np.repeat(GRADIENT, 16, axis=0)


def augment(config: AugmentConfig, images: NDArray[np.uint8], seed: int = 0) -> NDArray[np.uint8]:
    changed = change_images(images, draw_changes(config, images.shape[1], range(len(images)), 1, seed))
    assert changed.shape == images.shape and changed.dtype == np.uint8
    return np.asarray(changed)


def test_everything_off_changes_nothing() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1), dtype=np.uint8)
    np.testing.assert_array_equal(augment(OFF, images), images)


@pytest.mark.parametrize("name", ALONE)
def test_each_change_can_be_switched_on_alone(name: str) -> None:
    changed = augment(dataclasses.replace(OFF, **{name: ALONE[name]}), SIXTEEN)
    assert (changed != SIXTEEN).any()
    assert set(ALONE) == {field.name for field in dataclasses.fields(AugmentConfig)}


@pytest.mark.parametrize("name", ALONE)
def test_each_change_can_be_switched_off_alone(name: str) -> None:
    # The others keep their own seeds, so one more or less changes the result.
    every = AugmentConfig(**ALONE)
    others = dataclasses.replace(every, **{name: getattr(OFF, name)})
    assert (augment(others, SIXTEEN) != augment(every, SIXTEEN)).any()


@pytest.mark.parametrize("name", ALONE)
def test_images_of_a_batch_are_changed_differently(name: str) -> None:
    changed = augment(dataclasses.replace(OFF, **{name: ALONE[name]}), SIXTEEN)
    different = {image.tobytes() for image in changed}
    # Two flips have four results, and 16 draws may well miss one of them.
    assert len(different) >= (3 if name == "flip" else 12)


def test_the_same_seed_gives_the_same_images_and_another_others() -> None:
    config = AugmentConfig(**ALONE)
    first = augment(config, SIXTEEN, seed=7)
    np.testing.assert_array_equal(augment(config, SIXTEEN, seed=7), first)
    assert (augment(config, SIXTEEN, seed=8) != first).any()


def test_every_view_is_another_one() -> None:
    first, second = (change_images(SIXTEEN, draw_changes(AugmentConfig(), 16, range(16), copy, 0)) for copy in (1, 2))
    assert (first != second).any()


def test_a_change_follows_from_the_image_and_not_from_its_place_in_the_batch() -> None:
    config = AugmentConfig(**ALONE)
    together = augment(config, SIXTEEN)
    for place, key in enumerate([5, 11]):
        alone = change_images(SIXTEEN[:2], draw_changes(config, 16, [5, 11], 1, 0))[place]
        np.testing.assert_array_equal(alone, together[key])


def test_the_largest_seed_works() -> None:
    assert (augment(AugmentConfig(**ALONE), SIXTEEN, seed=2**32 - 1) != SIXTEEN).any()


@pytest.mark.parametrize("flip", FLIPS)
def test_a_flip_gives_exact_mirror_images_and_only_the_allowed_ones(flip: str) -> None:
    image = GRADIENT[0]
    mirrors = {"none": {image.tobytes()}}
    mirrors["horizontal"] = {image.tobytes(), image[:, ::-1].tobytes()}
    mirrors["auto"] = mirrors["horizontal"]
    mirrors["vertical"] = {image.tobytes(), image[::-1].tobytes()}
    mirrors["horizontal_and_vertical"] = mirrors["horizontal"] | mirrors["vertical"] | {image[::-1, ::-1].tobytes()}
    found = {each.tobytes() for each in augment(dataclasses.replace(OFF, flip=flip), np.repeat(GRADIENT, 64, axis=0))}
    assert found == mirrors[flip]


@pytest.mark.parametrize("name", ["rotation", "translation", "zoom"])
def test_no_black_comes_in_at_the_borders(name: str) -> None:
    white = np.full((8, 16, 16, 1), 255, np.uint8)
    np.testing.assert_array_equal(augment(dataclasses.replace(OFF, **{name: ALONE[name]}), white), white)


def test_brightness_shifts_by_its_fraction_of_255_at_most() -> None:
    gray = np.full((64, 4, 4, 1), 128, np.uint8)
    shifts = augment(dataclasses.replace(OFF, brightness=0.1), gray).astype(int)[:, 0, 0, 0] - 128
    assert shifts.min() < -12 and shifts.max() > 12  # 64 draws come near both ends of 25.5
    assert np.abs(shifts).max() <= 26


def test_contrast_leaves_the_mean_of_a_picture() -> None:
    changed = augment(dataclasses.replace(OFF, contrast=0.3), SIXTEEN // 2 + 60)
    np.testing.assert_allclose(changed.mean(axis=(1, 2)), (SIXTEEN // 2 + 60).mean(), atol=1)
    spreads = changed.std(axis=(1, 2))
    assert spreads.max() > 1.1 * spreads.min()


@settings(max_examples=15)
@given(
    flip=st.sampled_from(FLIPS),
    amounts=st.lists(st.floats(0, 0.99), min_size=5, max_size=5),
    level=st.sampled_from([0, 255]) | st.integers(0, 255),
    side=st.integers(1, 20),
)
def test_any_setting_keeps_shape_type_and_range(flip: str, amounts: list[float], level: int, side: int) -> None:
    images = np.random.default_rng(side).integers(0, 256, (3, side, side, 1), dtype=np.uint8)
    images[0] = level
    changed = augment(AugmentConfig(flip, *amounts), images)
    # A plain picture stays plain: whatever wraps around from 255 to 0 would show.
    assert np.ptp(changed[0].astype(int)) <= 1


def test_borders_lie_where_the_image_ends() -> None:
    """The image has a bright frame of its own, which the copy must show along the border that is found."""
    size = 64
    image = np.full((1, size, size, 1), 40, np.uint8)
    image[:, [0, -1]] = image[:, :, [0, -1]] = 240
    config = AugmentConfig(rotation=0.05, translation=0.1, zoom=0.1, brightness=0, contrast=0)
    for copy in range(1, 6):
        changes = draw_changes(config, size, [7], copy, 0)
        changed, (corners,) = change_images(image, changes)[0, :, :, 0], find_borders(changes, size)
        on = np.concatenate([np.linspace(a, b, 200) for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)])
        inside = on[((on > 0.03) & (on < 0.97)).all(1)]
        x, y = np.clip((inside * size).astype(int), 0, size - 1).T
        assert len(inside) > 50 and (changed[y, x] > 100).mean() > 0.95
    still = dataclasses.replace(config, flip="none", rotation=0, translation=0, zoom=0)
    whole = find_borders(draw_changes(still, size, [7], 1, 0), size)
    assert whole[0] == pytest.approx(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]))


def test_the_settings_in_words_are_those_that_are_used() -> None:
    assert describe_augmentation(AugmentConfig(flip="none", rotation=0, zoom=0.1, contrast=0)) == (
        "--translation 0.04 (of the side), --zoom 0.1, --brightness 0.04 (of white)"
    )
