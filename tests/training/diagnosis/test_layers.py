from __future__ import annotations

import math

import pytest
from fit_records import LAYERS, diagnosed, layer, normal_epochs, with_layers

from edgecls.training.history import Divergence


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_heads_on_frozen_features_have_no_deep_problem(layers: int) -> None:
    records = with_layers(*(layer(index, 10.0 ** (4 * index - 6)) for index in range(layers)), phase="classifier")
    assert diagnosed(records) == {}


def test_vanishing_names_the_layers() -> None:
    bad = with_layers(*(layer(index, 10.0 ** (index - 6), 10.0 ** (index - 9)) for index in range(LAYERS)))
    finding = diagnosed(bad)["vanishing-gradients"]
    assert finding.severity == "error"
    assert "1e-06 in layer_0" in finding.text and "0.1 in layer_5" in finding.text
    assert "ReLU" in finding.remedy and "--batch-norm" in finding.remedy


def test_one_odd_layer_does_not_vanish() -> None:
    norms = [1.0, 1e-5, 1.0, 1.0, 1.0, 1.0]
    assert diagnosed(with_layers(*(layer(index, norm) for index, norm in enumerate(norms)))) == {}


def test_updates_alone_show_vanishing() -> None:
    bad = with_layers(*(layer(index, 1.0, 10.0 ** (index - 8)) for index in range(LAYERS)))
    assert "vanishing-gradients" in diagnosed(bad)


def test_dead_layers_are_not_called_vanishing() -> None:
    bad = with_layers(*(layer(index, 10.0 ** (index - 8), dead_share=0.999 if index == 4 else 0) for index in range(6)))
    found = diagnosed(bad)
    assert "vanishing-gradients" not in found
    assert found["dead-relus"].severity == "error" and "layer_4 (100 %)" in found["dead-relus"].text


@pytest.mark.parametrize(("share", "severity"), [(0.6, None), (0.85, "warning"), (1.0, "error"), (None, None)])
def test_dead_relus(share: float | None, severity: str | None) -> None:
    found = diagnosed(with_layers(layer(0), layer(1, dead_share=share), layer(2)))
    assert (found["dead-relus"].severity if "dead-relus" in found else None) == severity


@pytest.mark.parametrize(
    ("norms", "text"),
    [
        ([1, 1, 2, 5, 1e4, 1e9], "was 1.7e+09 in epoch 6"),
        ([0.1, 0.3, 1, 3, 10, 30], "grew from 0.17 to 52"),
        ([math.inf] * 6, "was 1.7e+30"),
    ],
)
def test_growing_gradients_explode(norms: list[float], text: str) -> None:
    layers = [tuple(layer(index, norm) for index in range(3)) for norm in norms]
    finding = diagnosed(normal_epochs(6, layers=layers))["exploding-gradients"]
    assert finding.severity == "error" and text in finding.text and "--clip-norm" in finding.remedy


def test_gradients_that_grow_towards_the_image_explode() -> None:
    bad = with_layers(*(layer(index, 10.0 ** (2 - index)) for index in range(LAYERS)))
    assert "towards the image, from 0.001 to 1e+02" in diagnosed(bad)["exploding-gradients"].text
    # The same slope far below harms nothing: the network has learned what there is.
    quiet = with_layers(*(layer(index, 10.0 ** (-3 - index)) for index in range(LAYERS)))
    assert diagnosed(quiet) == {}


def test_nan_later_names_layer_and_step_and_is_an_explosion() -> None:
    found = diagnosed(normal_epochs(3), divergence=Divergence("network", 4, 17, "gradient", "layer_2"))
    assert list(found)[:2] == ["not-finite", "exploding-gradients"]
    assert "epoch 4, step 17" in found["not-finite"].text and "gradient of layer layer_2" in found["not-finite"].text


def test_nan_in_the_first_epoch_needs_no_record() -> None:
    assert list(diagnosed([], divergence=Divergence("network", 1, 3, "loss", None))) == [
        "not-finite",
        "exploding-gradients",
    ]
    # At the very first step nothing had been trained yet.
    found = diagnosed([], divergence=Divergence("network", 1, 0, "loss", "layer_0"))
    assert list(found) == ["not-finite"] and "--weights" in found["not-finite"].remedy
    # An epoch of one step that spoils the weights is training's own doing.
    spoilt = diagnosed([], divergence=Divergence("network", 1, 0, "weights", "layer_0"))
    assert list(spoilt) == ["not-finite", "exploding-gradients"]
    assert "the weights of layer layer_0 became NaN" in spoilt["not-finite"].text
