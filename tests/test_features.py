"""The cache of features: what is computed, what is found, and what a crash leaves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecls.config import AugmentConfig
from edgecls.errors import TrainingError
from edgecls.files import locked
from edgecls.training import features as features_module
from edgecls.training.features import Features, View, cached_features, prune, sha256_of_each
from edgecls.training.forward import BATCH_SIZE, Forward

NETWORK = {"weights": "abc", "size": 8}
AUGMENT = AugmentConfig("horizontal", 0.1, 0.1, 0.1, 0.2, 0.2)
# Computes slowly, notes each image it computed, and says so when it is done.
COMPUTE = """
import sys, time
from pathlib import Path
import numpy as np
from edgecls.training import features
from edgecls.training.features import View, cached_features, sha256_of_each
from edgecls.training.forward import Forward
features.IMAGES_A_FLUSH = 32
images = np.random.default_rng(300).integers(0, 256, (300, 8, 8, 1), dtype=np.uint8)
def run(batch):
    time.sleep(0.03)
    with open(sys.argv[2], "a") as log:
        log.write(f"{int((batch.any(axis=(1, 2, 3))).sum())}\\n")
    return batch.astype(np.float32).reshape(len(batch), -1)[:, :5]
print("begun", flush=True)
cached_features({}, lambda: Forward("fake", "", run), images, sha256_of_each(images), View(), cache=Path(sys.argv[1]))
print("done")
"""


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
    cache: Path, images: NDArray[np.uint8], view: View | None = None, forward: Counter | None = None, **options: Any
) -> tuple[Features, Counter]:
    forward = forward or Counter()
    network = options.pop("network", NETWORK)
    digests = sha256_of_each(images)
    return cached_features(network, forward, images, digests, view or View(), cache=cache, **options), forward


def all_of(features: Features) -> NDArray[np.float16]:
    return features.take(np.arange(len(features)))


def assert_right(features: Features, images: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(all_of(features), expected(images).astype(np.float16))


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
        {}, lambda: Forward("keras", "", run), images, sha256_of_each(images), View(), cache=tmp_path
    )
    assert isinstance(features.rows, np.memmap) and features.rows.dtype == np.float16
    # Half a unit in the last of 11 bits.
    np.testing.assert_allclose(all_of(features), model(images, training=False), rtol=2**-11, atol=1e-6)


def test_what_float16_cannot_hold_is_refused_and_not_kept(tmp_path: Path) -> None:
    images = random_images(3)
    huge = Forward("fake", "", lambda batch: expected(batch) * np.float32(1e4))
    with pytest.raises(TrainingError, match=r"values beyond float16; use pretrained .*--weights"):
        cached_features(NETWORK, lambda: huge, images, sha256_of_each(images), View(), cache=tmp_path)
    assert compute(tmp_path, images)[1].images == 3


# What belongs to whom


@pytest.mark.parametrize(
    ("network", "view"),
    [
        ({**NETWORK, "weights": "abd"}, View()),
        ({**NETWORK, "size": 9}, View()),
        (NETWORK, View(1, AUGMENT)),
        (NETWORK, View(2, AUGMENT)),
        (NETWORK, View(1, AUGMENT, seed=1)),
        (NETWORK, View(1, AugmentConfig("horizontal", 0.1, 0.1, 0.1, 0.2, 0.21))),
    ],
)
def test_another_network_or_view_has_features_of_its_own(tmp_path: Path, network: dict[str, Any], view: View) -> None:
    images = random_images(5)
    folders = set()
    for each_network, each_view in ((NETWORK, View()), (NETWORK, View(3, AUGMENT)), (network, view)):
        _, forward = compute(tmp_path, images, each_view, network=each_network)
        assert forward.images == 5
        folders = {path.name for path in tmp_path.iterdir()}
    assert len(folders) == 3


@pytest.mark.parametrize("view", [View(0, AUGMENT), View(0, None, seed=5), View(2, None)])
def test_the_image_itself_is_the_same_for_every_augmentation_and_seed(tmp_path: Path, view: View) -> None:
    images = random_images(5)
    compute(tmp_path, images)
    features, forward = compute(tmp_path, images, view)
    assert forward.asked == 0
    assert_right(features, images)


# Views


def test_a_view_follows_from_the_image_and_not_from_its_place(tmp_path: Path) -> None:
    images = random_images(40)
    first, _ = compute(tmp_path / "a", images, View(1, AUGMENT))
    order = np.random.default_rng(1).permutation(40)
    # Other neighbours, other batches, other places.
    second, _ = compute(tmp_path / "b", np.concatenate([random_images(7, seed=1), images[order]]), View(1, AUGMENT))
    np.testing.assert_array_equal(all_of(second)[7:], all_of(first)[order])
    assert (all_of(first) != expected(images).astype(np.float16)).any(axis=(1, 2, 3)).mean() > 0.9


def test_views_and_seeds_differ(tmp_path: Path) -> None:
    images = random_images(30)
    views = [View(1, AUGMENT), View(2, AUGMENT), View(1, AUGMENT, seed=1)]
    found = [all_of(compute(tmp_path, images, view)[0]) for view in views]
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


# Crashes


def cut(path: Path, share: float) -> None:
    with path.open("r+b") as file:
        file.truncate(int(share * path.stat().st_size))


@settings(max_examples=40, deadline=None)
@given(rows=st.floats(0, 1) | st.just(1.0), index=st.floats(0, 1) | st.just(1.0), known=st.integers(1, 70))
def test_files_cut_short_at_any_place_are_mended(
    tmp_path_factory: pytest.TempPathFactory, rows: float, index: float, known: int
) -> None:
    cache, images = tmp_path_factory.mktemp("cut"), random_images(70)
    compute(cache, images[:known])
    (folder,) = cache.iterdir()
    cut(folder / "rows.f16", rows)
    cut(folder / "images.sha256", index)
    left = min((folder / "rows.f16").stat().st_size // 8, (folder / "images.sha256").stat().st_size // 32)
    features, forward = compute(cache, images)
    assert forward.images == 70 - left
    assert_right(features, images)
    assert compute(cache, images)[1].asked == 0
    shutil.rmtree(cache)


@pytest.mark.parametrize("name", ["rows.f16", "images.sha256", "shape.json"])
def test_a_missing_file_makes_all_of_them_anew(tmp_path: Path, name: str) -> None:
    images = random_images(40)
    compute(tmp_path, images)
    (folder,) = tmp_path.iterdir()
    (folder / name).unlink()
    features, forward = compute(tmp_path, images)
    assert forward.images == 40
    assert_right(features, images)


@pytest.mark.parametrize("after", [0, BATCH_SIZE, 3 * BATCH_SIZE])
def test_ctrl_c_keeps_what_was_computed(tmp_path: Path, after: int) -> None:
    images = random_images(150)
    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path, images, forward=Counter(fail_after=after))
    features, forward = compute(tmp_path, images)
    assert forward.images == 150 - after
    assert_right(features, images)


def start_computing(cache: Path, log: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", COMPUTE, cache, log], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def check_computed(cache: Path) -> None:
    images = np.random.default_rng(300).integers(0, 256, (300, 8, 8, 1), dtype=np.uint8)
    none = cached_features({}, lambda: pytest.fail("asked"), images, sha256_of_each(images), View(), cache=cache)
    np.testing.assert_array_equal(all_of(none), images.reshape(300, -1)[:, :5].astype(np.float16))


def test_a_killed_process_leaves_what_it_flushed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for delay in (0.08, 0.15):
        process = start_computing(tmp_path / "cache", log)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert "done" in start_computing(tmp_path / "cache", log).communicate()[0]
    check_computed(tmp_path / "cache")
    computed = sum(map(int, log.read_text().split()))
    # Each kill repeats at most one flush and one batch.
    assert 300 <= computed <= 300 + 2 * 2 * 32


def test_two_processes_at_once_compute_each_image_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [start_computing(tmp_path / "cache", log) for _ in range(2)]
    assert all("done" in process.communicate()[0] for process in processes)
    assert sum(map(int, log.read_text().split())) == 300
    check_computed(tmp_path / "cache")


# No room

Usage = namedtuple("Usage", "total used free")


def test_too_little_room_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(100)
    # Eight bytes an image.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 799, 799))
    with pytest.raises(TrainingError, match=r"features need .* GB and .* free; .*XDG_CACHE_HOME .*--views"):
        compute(tmp_path, images)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 800, 800))
    assert_right(compute(tmp_path, images)[0], images)


class _Full:
    """A file that takes some bytes and then is on a full disk."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> None:
        taken = bytes(data)[: self._room]
        self._file.write(taken)
        self._room -= len(taken)
        if len(taken) < memoryview(data).nbytes:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("full", ["rows", "index"])
def test_a_disk_that_fills_up_meanwhile_is_said_and_costs_nothing_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    images = random_images(100)
    real = features_module._Writer

    def writer(rows: Any, index: Any) -> Any:
        return real(_Full(rows, 601), index) if full == "rows" else real(rows, _Full(index, 33))

    with monkeypatch.context() as patch:
        patch.setattr(features_module, "_Writer", writer)
        with pytest.raises(TrainingError, match=r"cannot be kept in .*: No space left.*XDG_CACHE_HOME .*--views"):
            compute(tmp_path, images)
    features, forward = compute(tmp_path, images)
    assert forward.images == {"rows": 100 - 2 * BATCH_SIZE, "index": 99}[full]
    assert_right(features, images)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"cannot be kept in .*file/cache.*: Not a directory; .*XDG_CACHE_HOME"):
        compute(tmp_path / "file" / "cache", random_images(1))


# Pruning


def fill(cache: Path, sizes: Sequence[int]) -> list[Path]:
    """Make folders of these sizes, the first used longest ago."""
    folders = []
    for number, size in enumerate(sizes):
        folder = cache / f"{number:032x}"
        folder.mkdir(parents=True)
        (folder / "rows.f16").write_bytes(bytes(size))
        os.utime(folder, (1000 + number, 1000 + number))
        folders.append(folder)
    return folders


@pytest.mark.parametrize(("most", "left"), [(60, [0, 1, 2]), (59, [1, 2]), (50, [1, 2]), (49, [2]), (29, [])])
def test_the_longest_unused_go_until_the_rest_is_small_enough(tmp_path: Path, most: int, left: list[int]) -> None:
    folders = fill(tmp_path, [10, 20, 30])
    prune(tmp_path, most)
    assert [number for number, folder in enumerate(folders) if folder.exists()] == left


def test_use_makes_a_folder_young(tmp_path: Path) -> None:
    images = random_images(3)
    compute(tmp_path, images)
    (used,) = (path for path in tmp_path.iterdir() if path.is_dir())
    os.utime(used, (1, 1))
    (other,) = fill(tmp_path, [1000])
    compute(tmp_path, images)
    prune(tmp_path, 500)
    assert used.exists() and not other.exists()


def test_a_folder_that_is_being_filled_stays(tmp_path: Path) -> None:
    first, second = fill(tmp_path, [10, 10])
    with locked(first / "lock"):
        prune(tmp_path, 5)
    assert first.exists() and not second.exists()


def test_without_a_cache_there_is_nothing_to_prune(tmp_path: Path) -> None:
    prune(tmp_path / "none")
    assert not any(tmp_path.iterdir())


def test_the_users_cache_is_the_default(own_cache: Path) -> None:
    images = random_images(2, seed=77)
    network = {"only": "here"}
    cached_features(network, Counter(), images, sha256_of_each(images), View())
    folder = own_cache / "features" / features_module._key(network, View())
    assert json.loads((folder / "shape.json").read_text()) == [2, 2, 1]
