"""Images, a frozen network that counts them, and their features in a cache, for the tests of the features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.config import AugmentConfig
from edgecls.images.dataset import sha256_of_each
from edgecls.training.features.cache import AugmentedCopy, Features, cached_features
from edgecls.training.features.forward import Forward

NETWORK = {"weights": "abc", "size": 8}
AUGMENT = AugmentConfig("horizontal", 0.1, 0.1, 0.1, 0.2, 0.2)


def random_images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng([seed, count]).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


def expected(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return features that say what came in: the means of the quarters, float32 (N, 2, 2, 1)."""
    return np.asarray(images.reshape(-1, 2, 4, 2, 4, 1).mean(axis=(2, 4)), np.float32)


class Counter:
    """A frozen network that counts the images it is shown."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.images = self.asked = 0
        self.fail_after = fail_after

    def __call__(self) -> Forward:
        self.asked += 1
        return Forward("fake", "", self.run)

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.fail_after is not None and self.images >= self.fail_after:
            raise KeyboardInterrupt
        # Padding is black; no random image is.
        self.images += int(batch.any(axis=(1, 2, 3)).sum())
        return expected(batch)


def compute(
    cache: Path,
    images: NDArray[np.uint8],
    copy: AugmentedCopy | None = None,
    forward: Counter | None = None,
    **options: Any,
) -> tuple[Features, Counter]:
    forward = forward or Counter()
    network = options.pop("network", NETWORK)
    digests = sha256_of_each(images)
    return cached_features(network, forward, images, digests, copy or AugmentedCopy(), cache=cache, **options), forward


def all_of(features: Features) -> NDArray[np.float16]:
    return features.take(np.arange(len(features)))


def assert_right(features: Features, images: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(all_of(features), expected(images).astype(np.float16))
