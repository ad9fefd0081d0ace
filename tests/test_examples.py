"""What an epoch shows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecls.config import AugmentConfig
from edgecls.images import memmap
from edgecls.training.features.cache import Features
from edgecls.training.features.examples import FeatureExamples, LiveExamples

COUNT = 1000
LABELS = np.arange(COUNT) % 7


def numbered(copies: int, count: int = COUNT) -> list[Features]:
    """Return features that say which copy of which image they are of; rows lie in another order than images."""
    order = np.random.default_rng(copies).permutation(count)
    found = []
    for copy in range(1 + copies):
        rows = np.empty((count, 2), np.float16)
        rows[order] = np.stack([np.full(count, copy), np.arange(count)], 1)
        found.append(Features(rows, order))
    return found


def show(examples: FeatureExamples, epoch: int, size: int = 64) -> NDArray[np.int64]:
    """Return (copy, image) of all that an epoch shows, int64 (N, 2)."""
    count = len(examples.labels)
    parts = [np.arange(start, min(start + size, count)) for start in range(0, count, size)]
    return np.concatenate([examples.batch(epoch, part) for part in parts]).astype(np.int64)


# Features


@pytest.mark.parametrize("copies", [0, 1, 3])
def test_half_of_what_an_epoch_shows_is_changed_and_every_view_comes(copies: int) -> None:
    examples = FeatureExamples(numbered(copies), LABELS)
    copy, image = show(examples, 1).T
    np.testing.assert_array_equal(image, np.arange(COUNT))
    assert set(copy) == set(range(1 + copies))
    assert (copy > 0).mean() == pytest.approx(0.5 if copies else 0, abs=0.06)


def test_validation_sees_the_images_themselves() -> None:
    assert not show(FeatureExamples(numbered(3), LABELS), 0)[:, 0].any()


def test_epochs_and_seeds_choose_other_copies() -> None:
    def copies(epoch: int, seed: int = 0) -> bytes:
        return show(FeatureExamples(numbered(3), LABELS, seed), epoch)[:, 0].tobytes()

    assert copies(1) == copies(1)
    assert len({copies(1), copies(2), copies(1, seed=1)}) == 3


@settings(max_examples=30)
@given(chosen=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=20), epochs=st.permutations([0, 1, 2, 1]))
def test_what_is_shown_depends_on_nothing_that_was_shown_before(chosen: list[int], epochs: list[int]) -> None:
    # Or a resumed run would not go on like an uninterrupted one.
    examples = FeatureExamples(numbered(2), LABELS)
    for epoch in epochs:
        fresh = FeatureExamples(numbered(2), LABELS).batch(epoch, np.array(chosen))
        np.testing.assert_array_equal(examples.batch(epoch, np.array(chosen)), fresh)
        assert fresh.dtype == np.float16


def test_features_of_any_shape_are_shown() -> None:
    rows = np.arange(5 * 2 * 3 * 4).reshape(5, 2, 3, 4).astype(np.float16)
    examples = FeatureExamples([Features(rows, np.arange(5))], np.zeros(5, np.int64))
    np.testing.assert_array_equal(examples.batch(3, np.array([4, 0])), rows[[4, 0]])


# Images

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), dtype=np.uint8)


def live(augment: AugmentConfig | None = AugmentConfig(brightness=0.3), seed: int = 0) -> LiveExamples:  # noqa: B008
    return LiveExamples(IMAGES, np.zeros(9, np.int64), augment, seed)


def test_images_are_changed_again_in_every_epoch_and_never_for_validation() -> None:
    chosen = np.array([5, 2])
    np.testing.assert_array_equal(live().batch(0, chosen), IMAGES[chosen])
    first, second = live().batch(1, chosen), live().batch(2, chosen)
    assert all((first != other).any() for other in (IMAGES[chosen], second, live(seed=1).batch(1, chosen)))
    # Whatever else is in the batch.
    np.testing.assert_array_equal(live().batch(1, np.array([2, 8, 5]))[[2, 0]], first)


def test_without_augmentation_every_epoch_shows_the_images_themselves() -> None:
    np.testing.assert_array_equal(live(None).batch(3, np.arange(9)), IMAGES)


def test_mapped_images_are_given_back_after_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memmap, "MOST_BYTES_IN_MEMORY", 1)
    images = memmap.new_array(IMAGES.shape, np.uint8)
    images[...] = IMAGES
    advised = []

    class Spy:
        def madvise(self, advice: int) -> None:
            advised.append(advice)

    monkeypatch.setattr(images, "_mmap", Spy())
    batch = LiveExamples(images, np.zeros(9, np.int64), None, 0).batch(1, np.arange(9))
    np.testing.assert_array_equal(batch, IMAGES)
    assert len(advised) == 1 and not isinstance(batch, np.memmap)
