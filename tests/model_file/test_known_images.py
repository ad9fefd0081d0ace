"""A file tells images that are far from all that it was trained on."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from tiny import LABELS, make_spec

from edgecls.errors import ModelFileError
from edgecls.model_file.known_images import MOST_IMAGES, MOST_NUMBERS, NAME, measure_known, read_known

CLASSES = len(LABELS)


def draw_scores(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    logits = 8 * np.eye(CLASSES)[random.integers(0, CLASSES, count)] + random.normal(0, 0.5, (count, CLASSES))
    # The other classes do not share one score, as they do for the training images.
    logits[:, 0] += shift
    powers = np.exp(logits)
    scores: np.ndarray = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    return scores


def test_one_image_in_a_hundred_of_the_same_kind_is_unknown_and_most_others_are() -> None:
    known = measure_known(draw_scores(300, 0), draw_scores(400, 1))
    same, others = (known.distances(draw_scores(400, 2, shift)) > known.distance for shift in (0.0, 16.0))
    assert same.mean() < 0.05 and others.mean() > 0.9
    assert known.knows(draw_scores(300, 0)[0])


def test_the_file_holds_it_and_not_too_much_of_it() -> None:
    known = measure_known(draw_scores(2000, 0), draw_scores(100, 1))
    spec = make_spec()
    spec = dataclasses.replace(spec, metrics=spec.metrics | {NAME: json.loads(json.dumps(known.to_metadata()))})
    read = read_known(spec)
    assert read is not None and len(read.points) <= min(MOST_IMAGES, MOST_NUMBERS // CLASSES)
    scores = draw_scores(50, 3)
    np.testing.assert_allclose(read.distances(scores), known.distances(scores), atol=1e-5)
    assert read.distance == known.distance


def test_the_first_step_of_quantized_scores_is_no_abyss() -> None:
    quantized = np.round(draw_scores(200, 0) * 256) / 256
    known = measure_known(quantized, np.round(draw_scores(200, 1) * 256) / 256)
    assert known.least_score == pytest.approx(1 / 512)
    assert (known.distances(np.round(draw_scores(200, 2) * 256) / 256) <= known.distance).mean() > 0.9


def test_a_file_that_does_not_say_it_knows_nothing_of_it_and_a_damaged_one_is_refused() -> None:
    spec = make_spec()
    assert read_known(spec) is None
    for damaged in (7, {}, {"points": [[1.0]], "least_score": 0.1, "distance": 1}, {"points": "a", "least_score": 1}):
        with pytest.raises(ModelFileError, match="re-export"):
            read_known(dataclasses.replace(spec, metrics=spec.metrics | {NAME: damaged}))
