"""The cache of features: what is computed, and what is found."""

from __future__ import annotations

import collections
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_cache import AUGMENT, NETWORK, Counter, all_of, assert_right, compute, expected, random_images
from numpy.typing import NDArray
from pool_jobs import DieOnce

from edgecls.config import AugmentConfig
from edgecls.errors import TrainingError
from edgecls.images.dataset import sha256_of_each
from edgecls.parallel.pool import LocalPool, work_in
from edgecls.parallel.ray import RayPool
from edgecls.training.features import cache as cache_module
from edgecls.training.features.cache import AugmentedCopy, cached_features
from edgecls.training.features.forward import BATCH_SIZE, Forward

# Computed once


def test_a_second_call_computes_nothing_and_asks_for_no_network(tmp_path: Path) -> None:
    images = random_images(70)
    features, forward = compute(tmp_path, images)
    assert forward.images == 70 and forward.asked == 1
    assert_right(features, images)
    again, forward = compute(tmp_path, images)
    assert forward.asked == 0
    assert_right(again, images)


def test_one_new_image_costs_one(tmp_path: Path) -> None:
    images = random_images(50)
    compute(tmp_path, images[:49])
    # In the middle, so that places move.
    mixed = np.concatenate([images[:20], images[49:], images[20:49]])
    features, forward = compute(tmp_path, mixed)
    assert forward.images == 1
    assert_right(features, mixed)


def test_identical_images_are_computed_once(tmp_path: Path) -> None:
    images = random_images(10)[[0, 1, 0, 2, 2, 2, 0]]
    features, forward = compute(tmp_path, images)
    assert forward.images == 3 and len(features) == 7 and len(features.rows) == 3
    assert_right(features, images)


def test_a_part_of_known_images_in_another_order_costs_nothing(tmp_path: Path) -> None:
    images = random_images(40)
    compute(tmp_path, images)
    features, forward = compute(tmp_path, images[30:5:-3])
    assert forward.asked == 0
    assert_right(features, images[30:5:-3])


def test_progress_rises_to_the_number_of_missing_images(tmp_path: Path) -> None:
    images = random_images(75)
    compute(tmp_path, images[:5])
    calls: list[tuple[int, int]] = []
    compute(tmp_path, images, progress=lambda *call: calls.append(call))
    assert calls == [(32, 70), (64, 70), (70, 70)]


def test_features_are_mapped_and_close_to_what_the_network_gives(tmp_path: Path) -> None:
    import keras

    image = keras.Input((8, 8, 1), dtype="uint8")
    x = keras.layers.Conv2D(16, 3, activation="relu")(keras.layers.Rescaling(1 / 127.5, -1)(image))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    images = random_images(40)

    def run(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(model(batch, training=False))

    features = cached_features(
        {}, lambda: Forward("keras", "", run), images, sha256_of_each(images), AugmentedCopy(), cache=tmp_path
    )
    assert isinstance(features.rows, np.memmap) and features.rows.dtype == np.float16
    # Half a unit in the last of 11 bits.
    np.testing.assert_allclose(all_of(features), model(images, training=False), rtol=2**-11, atol=1e-6)


def test_what_float16_cannot_hold_is_refused_and_not_kept(tmp_path: Path) -> None:
    images = random_images(3)
    huge = Forward("fake", "", lambda batch: expected(batch) * np.float32(1e4))
    with pytest.raises(TrainingError, match=r"features beyond float16; use pretrained .*--weights"):
        cached_features(NETWORK, lambda: huge, images, sha256_of_each(images), AugmentedCopy(), cache=tmp_path)
    assert compute(tmp_path, images)[1].images == 3


# What belongs to whom


@pytest.mark.parametrize(
    ("network", "copy"),
    [
        ({**NETWORK, "weights": "abd"}, AugmentedCopy()),
        ({**NETWORK, "size": 9}, AugmentedCopy()),
        (NETWORK, AugmentedCopy(1, AUGMENT)),
        (NETWORK, AugmentedCopy(2, AUGMENT)),
        (NETWORK, AugmentedCopy(1, AUGMENT, seed=1)),
        (NETWORK, AugmentedCopy(1, AugmentConfig("horizontal", 0.1, 0.1, 0.1, 0.2, 0.21))),
    ],
)
def test_another_network_or_view_has_features_of_its_own(
    tmp_path: Path, network: dict[str, Any], copy: AugmentedCopy
) -> None:
    images = random_images(5)
    folders = set()
    for each_network, each_copy in ((NETWORK, AugmentedCopy()), (NETWORK, AugmentedCopy(3, AUGMENT)), (network, copy)):
        _, forward = compute(tmp_path, images, each_copy, network=each_network)
        assert forward.images == 5
        folders = {path.name for path in tmp_path.iterdir()}
    assert len(folders) == 3


@pytest.mark.parametrize("copy", [AugmentedCopy(0, AUGMENT), AugmentedCopy(0, None, seed=5), AugmentedCopy(2, None)])
def test_the_image_itself_is_the_same_for_every_augmentation_and_seed(tmp_path: Path, copy: AugmentedCopy) -> None:
    images = random_images(5)
    compute(tmp_path, images)
    features, forward = compute(tmp_path, images, copy)
    assert forward.asked == 0
    assert_right(features, images)


# Augmented copies


def test_a_view_follows_from_the_image_and_not_from_its_place(tmp_path: Path) -> None:
    images = random_images(40)
    first, _ = compute(tmp_path / "a", images, AugmentedCopy(1, AUGMENT))
    order = np.random.default_rng(1).permutation(40)
    # Other neighbors, other batches, other places.
    second, _ = compute(
        tmp_path / "b", np.concatenate([random_images(7, seed=1), images[order]]), AugmentedCopy(1, AUGMENT)
    )
    np.testing.assert_array_equal(all_of(second)[7:], all_of(first)[order])
    assert (all_of(first) != expected(images).astype(np.float16)).any(axis=(1, 2, 3)).mean() > 0.9


def test_copies_and_seeds_differ(tmp_path: Path) -> None:
    images = random_images(30)
    copies = [AugmentedCopy(1, AUGMENT), AugmentedCopy(2, AUGMENT), AugmentedCopy(1, AUGMENT, seed=1)]
    found = [all_of(compute(tmp_path, images, copy)[0]) for copy in copies]
    for i, first in enumerate(found):
        for second in found[:i]:
            assert (first != second).any(axis=(1, 2, 3)).mean() > 0.9


def test_the_digest_is_of_the_pixels() -> None:
    images = random_images(3)
    digests = sha256_of_each(images)
    assert len(set(digests)) == 3 and {len(digest) for digest in digests} == {32}
    assert sha256_of_each(np.asfortranarray(images[::-1])) == digests[::-1]
    images[1, 2, 2] ^= 1
    assert [a == b for a, b in zip(digests, sha256_of_each(images), strict=True)] == [True, False, True]


def test_the_users_cache_is_the_default(own_cache: Path) -> None:
    images = random_images(2, seed=77)
    network = {"only": "here"}
    cached_features(network, Counter(), images, sha256_of_each(images), AugmentedCopy())
    folder = own_cache / "features" / cache_module._key(network, AugmentedCopy())
    assert json.loads((folder / "shape.json").read_text()) == [2, 2, 1]


# On a cluster


def files_of(cache: Path) -> dict[str, bytes]:
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


@pytest.mark.parametrize("copy", [AugmentedCopy(), AugmentedCopy(2, AUGMENT)])
def test_a_cluster_writes_the_same_files(tmp_path: Path, copy: AugmentedCopy, ray_pool_2: RayPool) -> None:
    images = random_images(300)[np.r_[:300, 20:40]]
    compute(tmp_path / "here", images[:50], copy)
    compute(tmp_path / "there", images[:50], copy)
    compute(tmp_path / "here", images, copy)
    with work_in(ray_pool_2):
        compute(tmp_path / "there", images, copy)
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")


def test_a_killed_worker_changes_no_byte_and_repeats_its_batch_alone(tmp_path: Path, ray_pool_2: RayPool) -> None:
    images = np.arange(8 * BATCH_SIZE, dtype=np.uint8).repeat(64).reshape(-1, 8, 8, 1)
    fatal = 3 * BATCH_SIZE
    for name, pool, first in (("here", LocalPool(), -1), ("there", ray_pool_2, fatal)):
        forward = functools.partial(Forward, "fake", "", DieOnce(tmp_path / f"{name}.log", first))
        with work_in(pool):
            cached_features({}, forward, images, sha256_of_each(images), AugmentedCopy(), cache=tmp_path / name)
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")
    begun = collections.Counter((tmp_path / "there.log").read_text().split())
    assert begun == collections.Counter((tmp_path / "here.log").read_text().split()) + collections.Counter([str(fatal)])
