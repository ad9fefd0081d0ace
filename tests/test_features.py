from __future__ import annotations

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecls.config import AugmentConfig
from edgecls.training.features import BATCH_SIZE, compute_features

AUGMENT = AugmentConfig(brightness=0.3)


@pytest.fixture(scope="module")
def trunk() -> keras.Model:
    """A frozen part that gives the picture's four quarters, in gray levels: features that say what came in."""
    image = keras.Input((8, 8, 1), dtype="uint8")
    x = keras.layers.Rescaling(1.0)(image)
    x = keras.layers.AveragePooling2D(4)(x)
    # In training mode this would drop half of them.
    return keras.Model(image, keras.layers.Dropout(0.5)(x))


def random_images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


def quarters(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = images.reshape(-1, 2, 4, 2, 4, 1).mean(axis=(2, 4))
    return means


@pytest.mark.parametrize("count", [1, BATCH_SIZE - 1, BATCH_SIZE, BATCH_SIZE + 1, 3 * BATCH_SIZE])
def test_features_of_any_number_of_images_are_in_order(trunk: keras.Model, count: int) -> None:
    images = random_images(count)
    features = compute_features(trunk, images)
    assert features.shape == (1, count, 2, 2, 1) and features.dtype == np.float32
    np.testing.assert_allclose(features[0], quarters(images), rtol=1e-6)


def test_the_first_view_is_the_image_itself(trunk: keras.Model) -> None:
    images = random_images(40)
    features = compute_features(trunk, images, views=3, augment=AUGMENT)
    assert features.shape == (4, 40, 2, 2, 1) and features.flags.c_contiguous
    np.testing.assert_array_equal(features[0], compute_features(trunk, images)[0])


def test_every_view_is_another_change_of_the_same_image(trunk: keras.Model) -> None:
    # Dark images, then bright ones: brightness alone moves neither to the other.
    images = np.repeat(np.array([50, 200], np.uint8), 20)[:, np.newaxis, np.newaxis, np.newaxis] + np.zeros(
        (1, 8, 8, 1), np.uint8
    )
    features = compute_features(trunk, images, views=3, augment=AugmentConfig("none", 0, 0, 0, 0.2, 0))
    for view in features[1:]:
        assert (view[:20] <= 102).all() and (view[20:] >= 148).all()
    for first in range(4):
        for second in range(first):
            assert (features[first] != features[second]).any(axis=(1, 2, 3)).mean() > 0.8


def test_the_seed_decides_the_views(trunk: keras.Model) -> None:
    images = random_images(33)
    first = compute_features(trunk, images, views=2, augment=AUGMENT, seed=1)
    np.testing.assert_array_equal(compute_features(trunk, images, views=2, augment=AUGMENT, seed=1), first)
    other = compute_features(trunk, images, views=2, augment=AUGMENT, seed=2)
    np.testing.assert_array_equal(other[0], first[0])
    assert (other[1:] != first[1:]).any()


@pytest.mark.parametrize(("views", "augment"), [(0, AUGMENT), (3, None), (0, None)])
def test_without_views_or_changes_there_is_the_image_alone(
    trunk: keras.Model, views: int, augment: AugmentConfig | None
) -> None:
    images = random_images(3)
    features = compute_features(trunk, images, views=views, augment=augment)
    np.testing.assert_array_equal(features, compute_features(trunk, images))


@pytest.mark.parametrize(("count", "views"), [(1, 0), (BATCH_SIZE, 1), (BATCH_SIZE + 1, 2)])
def test_progress_only_rises_and_reaches_the_total(trunk: keras.Model, count: int, views: int) -> None:
    calls: list[tuple[int, int]] = []
    compute_features(
        trunk, random_images(count), views=views, augment=AUGMENT, progress=lambda *call: calls.append(call)
    )
    total = (1 + views) * count
    assert {all_of_it for _, all_of_it in calls} == {total}
    done = [images for images, _ in calls]
    assert done == sorted(set(done)) and done[-1] == total
    assert len(calls) == (1 + views) * -(-count // BATCH_SIZE)


def test_memory_mapped_images_are_read_as_they_are(
    trunk: keras.Model, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("map") / "images.npy"
    np.save(path, random_images(5))
    mapped = np.load(path, mmap_mode="r")
    np.testing.assert_array_equal(compute_features(trunk, mapped), compute_features(trunk, random_images(5)))
