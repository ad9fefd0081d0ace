"""Measures which images a written file knows: its scores of training images, and how far away others may be."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgecls.evaluate import score_images
from edgecls.export.calibration import ExportSamples
from edgecls.model_file.known_images import MOST_IMAGES, NAME
from edgecls.model_file.known_images import measure_known as measure
from edgecls.runtime.classifier import Classifier

# Enough to tell the distance that one image in a hundred exceeds.
MOST_VALIDATION_IMAGES = 500


def measure_known(samples: ExportSamples, classifier: Classifier) -> dict[str, Any]:
    """Return what to add to the metrics of a written file, measured with some training and validation images."""
    random = np.random.default_rng(0)
    training, unseen = (
        score_images(classifier, part.images[np.sort(random.permutation(len(part.labels))[:most])])
        for part, most in ((samples.calibration, MOST_IMAGES), (samples.validation, MOST_VALIDATION_IMAGES))
    )
    return {NAME: measure(training, unseen).to_metadata()}
