from __future__ import annotations

import numpy as np
from random_networks import diverse_images

from edgecls.export.quantization import perturb_images

SIZE = 32


def test_some_of_the_images_change() -> None:
    images = diverse_images(11, SIZE, np.random.default_rng(0))
    before = images.copy()
    result = perturb_images.perturb_some(images, 0.5)
    assert (result.shape, result.dtype.name) == (images.shape, "uint8")
    assert sum(not np.array_equal(old, new) for old, new in zip(images, result, strict=True)) == 5
    assert np.array_equal(images, before)
    assert np.array_equal(result, perturb_images.perturb_some(images, 0.5))
    assert not np.array_equal(result, perturb_images.perturb_some(images, 0.5, seed=1))


def test_a_single_image_stays() -> None:
    image = diverse_images(1, SIZE, np.random.default_rng(0))
    assert np.array_equal(perturb_images.perturb_some(image, 0.5), image)


def test_light_noise_and_focus_are_changed() -> None:
    gray = np.full((64, SIZE, SIZE, 1), 128, np.uint8)
    result = perturb_images.perturb(gray).astype(float)
    means, deviations = result.mean((1, 2, 3)), result.std((1, 2, 3))
    # A fifth of 255 either way, and noise of up to 12 gray levels.
    assert means.min() < 128 - 30
    assert means.max() > 128 + 30
    assert np.abs(means - 128).max() < 55
    assert 8 < deviations.max() < 13
    edge = np.zeros((64, SIZE, SIZE, 1), np.uint8)
    edge[:, :, SIZE // 2 :] = 255
    blurred = perturb_images._blur(edge[0], 2.0)
    assert np.abs(np.diff(blurred[SIZE // 2, :, 0])).max() < 80
