from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from edgecls.config import TrainConfig
from edgecls.images.dataset import Split
from edgecls.networks.model import FEATURES_LAYER, build_mobilenet_v2
from edgecls.networks.weights import Weights
from edgecls.training.features import depths
from edgecls.training.features.depths import DEPTHS, features_of_depths

CONFIG = TrainConfig(image_size=32, alpha=0.35)
NONE = Weights("none", None, None, "keras")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 1), dtype=np.uint8)
SPLIT = Split(tuple("abcde"), IMAGES, np.zeros(5, np.int64))


def test_one_pass_gives_the_features_of_every_shorter_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = dict(features_of_depths(CONFIG, NONE, SPLIT, cache=tmp_path))
    assert tuple(found) == DEPTHS
    for blocks in (1, 9, 17, None):
        config = TrainConfig(image_size=32, alpha=0.35, blocks=blocks)
        model = build_mobilenet_v2(config, 2, NONE)
        expected = keras.Model(model.input, model.get_layer(FEATURES_LAYER).output)(IMAGES, training=False)
        # They are kept in 16 bits.
        np.testing.assert_allclose(found[blocks], expected, rtol=2e-3, atol=1e-4)
    monkeypatch.setattr(depths, "fastest_forward", lambda *_: pytest.fail("ran the backbone again"))
    again = dict(features_of_depths(CONFIG, NONE, SPLIT, cache=tmp_path))
    assert all((again[blocks] == found[blocks]).all() for blocks in DEPTHS)
    some = dict(features_of_depths(CONFIG, NONE, SPLIT, depths=(None, 9), cache=tmp_path))
    assert list(some) == [9, None] and all((some[blocks] == found[blocks]).all() for blocks in some)
