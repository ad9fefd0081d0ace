"""Many threads share one Classifier: correct answers, steady memory."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import HEIGHT, WIDTH

from edgecls.runtime.classifier import Classifier, load

THREADS = 8
FILES = pytest.mark.parametrize(
    ("fixture", "engine"),
    [
        ("tiny_tflite", "litert"),
        ("tiny_tflite_fp32", "litert"),
        ("tiny_onnx", "onnxruntime"),
        ("tiny_onnx", "openvino"),
    ],
)
IMAGES = np.random.default_rng(0).integers(0, 256, (40, HEIGHT, WIDTH, 1), np.uint8)


@pytest.fixture
def classifier(fixture: str, engine: str, request: pytest.FixtureRequest) -> Classifier:
    pytest.importorskip({"litert": "ai_edge_litert"}.get(engine, engine))
    return load(request.getfixturevalue(fixture), engine=engine, threads=1)


@pytest.fixture(autouse=True)
def hurried_threads() -> Iterator[None]:
    """Threads take turns every 10 microseconds, so that a missing lock shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def incorrect_answers(classifier: Classifier, expected: np.ndarray, count: int) -> int:
    """How many of `count` predictions, spread over the threads, are not as expected."""

    def work(seed: int) -> int:
        order = np.random.default_rng(seed).integers(0, len(IMAGES), count // THREADS)
        return sum(not np.array_equal(classifier.predict(IMAGES[i]).scores, expected[i]) for i in order)

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(work, range(THREADS)))


@FILES
def test_eight_threads_get_correct_answers(classifier: Classifier) -> None:
    expected = classifier.scores(IMAGES)
    assert len({scores.tobytes() for scores in expected}) > len(IMAGES) // 2
    assert incorrect_answers(classifier, expected, 1600) == 0


def resident_mb() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.slow
@FILES
def test_a_hundred_thousand_predictions_in_steady_memory(classifier: Classifier) -> None:
    expected = classifier.scores(IMAGES)
    # Threads' stacks and allocator arenas come with the first ones.
    assert incorrect_answers(classifier, expected, 20_000) == 0
    before = resident_mb()
    assert incorrect_answers(classifier, expected, 100_000) == 0
    # A leak of 50 bytes a prediction would be 5 MB.
    assert resident_mb() - before < 4


@pytest.mark.slow
def test_decoding_ten_thousand_files_in_steady_memory(tiny_tflite: Path, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)).save(path)
    classifier = load(tiny_tflite, threads=1)

    def classify(count: int) -> set[bytes]:
        return {found.scores.tobytes() for _, found in classifier.predict_iter([path] * count)}  # type: ignore[union-attr]

    first = classify(2_000)
    before = resident_mb()
    assert classify(10_000) == first and len(first) == 1
    assert resident_mb() - before < 4
