"""The last step of a run: its solved classifier learns from the validation images too, once all is chosen on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgecls.images.dataset import Split
from edgecls.networks.model import FEATURES_LAYER
from edgecls.networks.split_layer import split_at
from edgecls.training.context import Context
from edgecls.training.distributed.workers import ALONE
from edgecls.training.features.cache import Features, joined
from edgecls.training.features.frozen import FeatureExtractor, frozen_examples
from edgecls.training.linear import fit_linear
from edgecls.training.recipe import make_recipe

if TYPE_CHECKING:
    import keras


def refit(context: Context, l2: float | None) -> int:
    """Return how many images the classifier of `context.model` was solved for again; 0 if it stays as it is.

    It stays where it was not solved, where the validation images are the held-out images, and where no time is left.

    Args:
        context: of the run.
        l2: strength of the penalty with which the classifier was solved; None if it was not.
    """
    # The first worker solves for all, and the others have ended.
    context = dataclasses.replace(context, workers=ALONE)
    data, config = context.dataset, context.config
    if l2 is None or not config.refit or data.test is None or context.workers.is_late(context.deadline):
        return 0
    extractor, classifier = split_at(context.model, FEATURES_LAYER)
    train, val = (_copies(part, extractor, context) for part in (data.train, data.val))
    labels = np.concatenate([data.train.labels, data.val.labels])
    recipe = make_recipe("augmented", config, labels)
    solved = fit_linear(
        # With a time budget, there may be fewer copies of one.
        [joined(*pair) for pair in zip(train, val, strict=False)],
        labels,
        len(data.classes),
        class_weights=recipe.class_weights,
        l2=l2,
        seed=recipe.seed,
    )
    classifier.layers[-1].set_weights([solved.kernel, solved.bias])
    return len(labels)


def _copies(part: Split, extractor: keras.Model, context: Context) -> Sequence[Features]:
    """Return the features of a part's images and of each augmented copy of them."""
    context = dataclasses.replace(context, dataset=dataclasses.replace(context.dataset, train=part))
    return frozen_examples("refit", extractor, FEATURES_LAYER, context, FeatureExtractor())[0].copies
