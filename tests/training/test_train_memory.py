"""Training takes no more memory for more images: they and their features stay in files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SIZE, FEATURES = 96, 1280
# Trains on so many images made up on the spot, and prints the most memory that this process ever held.
TRAIN = """
import json, resource, sys
from pathlib import Path
import numpy as np
from edgecls.images import memmap
memmap.MOST_BYTES_IN_MEMORY, memmap.CHUNK_BYTES = 2**20, 2**22
from edgecls.config import TrainConfig
from edgecls.images.dataset import Dataset, Split
from edgecls.networks.model import build_model
from edgecls.training.phases import Setting, run_phases
from edgecls.networks.weights import Weights

count, settings = int(sys.argv[1]), json.loads(sys.argv[2])
random = np.random.default_rng(0)
def draw(count):
    images, labels = memmap.new_array((count, 96, 96, 1), np.uint8), np.arange(count) % 3
    for start in range(0, count, 100):
        part = images[start : start + 100]
        noise = random.integers(0, 60, part.shape, dtype=np.uint8)
        part[...] = noise + 60 * labels[start : start + 100].astype(np.uint8)[:, None, None, None]
    memmap.forget_pages(images)
    return Split(tuple(map(str, range(count))), images, labels)
dataset = Dataset(Path("/none"), ("a", "b", "c"), draw(count), draw(200), None, (), ())
config = TrainConfig(image_size=96, alpha=0.35, weights="none", epochs=2, augmented_copies=1, **settings)
model = build_model(config, 3, Weights("none", None, None, "keras") if config.uses_backbone else None)
training = run_phases(Setting(model, dataset, config))
assert len(training.history) == 2, training
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak_bytes(count: int, settings: dict[str, object], cache: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(count), json.dumps(settings)],
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "row_bytes"),
    [({}, SIZE * SIZE + 2 * 2 * FEATURES), ({"arch": "cnn", "filters": [4, 4], "hidden": [8]}, SIZE * SIZE)],
    ids=["cached features", "live images"],
)
def test_peak_memory_does_not_grow_with_the_images(tmp_path: Path, settings: dict[str, object], row_bytes: int) -> None:
    few, many = (peak_bytes(count, settings, tmp_path) for count in (3_000, 15_000))
    assert many < 1.15 * few
    # Most of a process is TensorFlow: what the other images take must itself be little.
    assert many - few < 0.5 * 12_000 * row_bytes
