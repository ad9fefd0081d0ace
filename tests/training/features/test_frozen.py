"""Features of a frozen network, computed from the images or from the cached features of its lower part."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from phase_run import CONFIG, DATA, build

from edgecls.networks.model import FEATURES_LAYER
from edgecls.networks.split_layer import split_at
from edgecls.training.context import Context
from edgecls.training.features import frozen
from edgecls.training.features.forward import Forward, fastest_forward
from edgecls.training.features.frozen import FeatureExtractor, frozen_examples

LOWER = "block_2_add"


def features(cache: Path, through: str | None) -> list[np.ndarray]:
    """Return the features of the training images, of their augmented copies and of the validation images."""
    context = Context(build(CONFIG), DATA, CONFIG, cache=cache)
    extractor, _ = split_at(context.model, FEATURES_LAYER)
    train, val = frozen_examples("phase", extractor, FEATURES_LAYER, context, FeatureExtractor(), through=through)
    parts = [*train.copies, *val.copies]
    assert len(parts) == 3
    return [part.take(np.arange(len(part))) for part in parts]


def test_features_computed_from_those_below_are_the_same(tmp_path: Path) -> None:
    whole, above = features(tmp_path / "a", None), features(tmp_path / "b", LOWER)
    for one, other in zip(whole, above, strict=True):
        assert one.shape == other.shape
        # The features below are float16.
        np.testing.assert_allclose(other, one, atol=2e-3 * np.abs(one).max())
    assert (whole[0] != whole[1]).any(), "the copy is augmented, once"


def test_cached_features_spare_the_lower_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = Context(build(CONFIG), DATA, CONFIG, cache=tmp_path)
    lower, _ = split_at(context.model, LOWER)
    frozen_examples("fine-tuning", lower, LOWER, context, FeatureExtractor())
    ran: list[tuple[int, ...]] = []

    def choose(model: keras.Model, sample: np.ndarray, images: int) -> Forward:
        ran.append(model.input.shape[1:])
        return fastest_forward(model, sample, images)

    monkeypatch.setattr(frozen, "fastest_forward", choose)
    features(tmp_path, LOWER)
    assert ran == [tuple(lower.output.shape[1:])]
    # All are cached now, so that nothing is computed.
    features(tmp_path, None)
    assert len(ran) == 1
