from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tiny import HEIGHT, WIDTH, make_spec

from edgecls.errors import ConfigError, DataError, ModelFileError
from edgecls.runtime.classifier import Classifier, load

WAIT_S = 20


class MeanEngine:
    """Scores an image by its mean, so that every image has an answer of its own."""

    name = version = "mean"
    device = "cpu"
    threads = 1

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.array([image.mean() / 255, 0, 0], np.float32)

    def run_with_heatmap(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.run(image), np.zeros((2, 2, 3), np.float32)


@pytest.fixture
def classifier() -> Classifier:
    return Classifier(make_spec(), MeanEngine())


def gray(value: int) -> NDArray[np.uint8]:
    return np.full((30, 20), value, np.uint8)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.integers(0, 255), st.none()), max_size=30), st.integers(1, 4))
def test_every_source_gets_its_own_answer(classifier: Classifier, values: list[int | None], workers: int) -> None:
    sources: list[Any] = [b"no image" if value is None else gray(value) for value in values]
    results = list(classifier.predict_iter(sources, workers=workers))
    assert len(results) == len(values)
    for source, value, (returned, found) in zip(sources, values, results, strict=True):
        assert returned is source
        if value is None:
            assert isinstance(found, DataError)
        else:
            assert not isinstance(found, DataError)
            assert found.score == pytest.approx(value / 255)


def test_agrees_with_predict_on_files(tiny_tflite: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (25, 31, 3), np.uint8)).save(path)
    paths.insert(5, tmp_path / "gone.png")
    classifier = load(tiny_tflite)
    results = list(classifier.predict_iter(iter(paths)))
    assert [path for path, _ in results] == paths
    with pytest.raises(DataError) as error:
        classifier.predict(paths[5])
    assert isinstance(results[5][1], DataError) and str(results[5][1]) == str(error.value)
    for path, found in results[:5] + results[6:]:
        assert not isinstance(found, DataError)
        np.testing.assert_array_equal(found.scores, classifier.predict(path).scores)


def test_a_frame_is_answered_before_the_next_one_comes(classifier: Classifier) -> None:
    answered = threading.Event()

    def camera() -> Iterator[NDArray[np.uint8]]:
        yield gray(10)
        assert answered.wait(WAIT_S)
        yield gray(20)

    results = classifier.predict_iter(camera())
    next(results)
    answered.set()
    assert len(list(results)) == 1


def test_frames_of_a_color_camera(classifier: Classifier) -> None:
    red_bgr = np.zeros((30, 20, 3), np.uint8)
    red_bgr[:, :, 2] = 255
    ((_, found),) = classifier.predict_iter([red_bgr], channel_order="bgr")
    assert not isinstance(found, DataError)
    # Luma takes 29.9 % of red.
    assert found.score == pytest.approx(0.299, abs=0.003)


def test_a_wrong_call_is_no_bad_image(classifier: Classifier) -> None:
    with pytest.raises(ConfigError, match="channel_order"):
        list(classifier.predict_iter([np.zeros((30, 20, 3), np.uint8)]))
    with pytest.raises(ConfigError, match="workers must be a whole number from 1 to 1024; received 0"):
        list(classifier.predict_iter([], workers=0))
    classifier.close()
    with pytest.raises(ConfigError, match="closed"):
        list(classifier.predict_iter([gray(1)]))


def test_a_network_gone_wrong_is_no_bad_image(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier.engine, "run", lambda _: np.full(3, np.nan, np.float32))
    with pytest.raises(ModelFileError, match="NaN"):
        list(classifier.predict_iter([gray(1)]))


def test_decoding_goes_on_while_the_network_runs(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second image is decoded while the first is in the network, which waits for just that."""
    decoded = threading.Event()

    class Watched(bytes):
        pass

    def read(source: Any, height: int, width: int, *_: Any) -> NDArray[np.uint8]:
        if isinstance(source, Watched):
            decoded.set()
        return np.zeros((height, width, 1), np.uint8)

    monkeypatch.setattr("edgecls.runtime.classifier.load_gray", read)
    answers: list[bool] = []

    def run(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        answers.append(decoded.wait(WAIT_S))
        return np.ones(3, np.float32)

    monkeypatch.setattr(classifier.engine, "run", run)
    assert len(list(classifier.predict_iter([b"first", Watched(b"second")], workers=1))) == 2
    assert answers == [True, True]


def test_ready_images_pass(classifier: Classifier) -> None:
    ready = np.full((HEIGHT, WIDTH, 1), 51, np.uint8)
    ((_, found),) = classifier.predict_iter([ready])
    assert not isinstance(found, DataError) and found.score == pytest.approx(0.2)
