"""How far an image is from all that a file was trained on, told by the file's own scores.

A network that saw only six kinds of tiles calls a shoe one of them, often with a high score. But the scores of the
other classes then are unlike those of any training image. So the file keeps the logarithms of the scores of some
training images; an image whose own are far from the nearest of these is one that the file does not know (Sun et al.
2022, arXiv:2204.06507, with the last layer in place of the features, which exported files do not return). NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import ModelFileError
from edgecls.model_file.metadata import ModelSpec

NAME = "known_images"  # in the metrics of a file
# Training images that are kept, and the most numbers of them: 20 KB.
MOST_IMAGES, MOST_NUMBERS = 256, 2560
# Of images that the network did not learn from, so many count as unknown.
UNKNOWN_FRACTION = 0.01
# Smaller scores are as good as this one.
LEAST_SCORE = 1e-9
Scores = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class KnownImages:
    """What a file knows.

    Attributes:
        points: float32 (P, C), of some training images; see `measure_known`.
        least_score: scores below it count as this.
        distance: from the nearest point; an image that is farther is unknown.
    """

    points: NDArray[np.float32]
    least_score: float
    distance: float

    def distances(self, scores: Scores) -> NDArray[np.float32]:
        """Return the distance of each image from the nearest training image, float32 (N,), of scores (N, C)."""
        places = _place(scores, self.least_score)
        result: NDArray[np.float32] = np.stack([np.linalg.norm(self.points - each, axis=1).min() for each in places])
        return result

    def knows(self, scores: Scores) -> bool:
        """Return False for an image, of scores (C,), that is far from all training images."""
        return bool(self.distances(scores[np.newaxis])[0] <= self.distance)

    def to_metadata(self) -> dict[str, Any]:
        """Return JSON for the file's metrics."""
        points = np.round(self.points.astype(float), 2).tolist()
        return {"points": points, "least_score": self.least_score, "distance": self.distance}


def measure_known(training: Scores, unseen: Scores) -> KnownImages:
    """Return what a file knows, from its scores of training images, (N, C), and of other images, (M, C).

    A point is the logarithm of an image's scores less their mean: the input of softmax, less what all of it shares.
    """
    count = max(1, min(MOST_IMAGES, MOST_NUMBERS // training.shape[1]))
    kept = np.sort(np.random.default_rng(0).permutation(len(training))[:count])
    # Quantized scores have no value between 0 and their first step.
    least = max(LEAST_SCORE, float(training[training > 0].min()) / 2)
    known = KnownImages(np.round(_place(training[kept], least), 2), least, 0.0)
    distance = float(np.quantile(known.distances(unseen), 1 - UNKNOWN_FRACTION, method="higher"))
    return KnownImages(known.points, least, distance)


def read_known(spec: ModelSpec) -> KnownImages | None:
    """Return what a file knows; None for a file that does not say it.

    Raises:
        ModelFileError: what the file says is damaged.
    """
    if (stored := spec.metrics.get(NAME)) is None:
        return None
    try:
        assert isinstance(stored, dict)
        points = np.array(stored["points"], np.float32)
        known = KnownImages(points, float(stored["least_score"]), float(stored["distance"]))
        assert points.ndim == 2 and points.shape[1] == len(spec.labels) and 0 < known.least_score < 1
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError("damaged: what the file says of its training images cannot be read; re-export") from error
    return known


def _place(scores: Scores, least_score: float) -> NDArray[np.float32]:
    logarithms = np.log(np.maximum(scores, least_score).astype(np.float32))
    result: NDArray[np.float32] = logarithms - logarithms.mean(1, keepdims=True)
    return result
