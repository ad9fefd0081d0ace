from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from random_networks import diverse_images, random_network

from edgecls.export import tflite
from edgecls.export.fuse import FusedModel, fuse
from edgecls.export.graph import with_weights
from edgecls.export.quantization import bias_correction, equalize
from edgecls.export.quantization.layer_error import BEST_DB, LayerNoise, measure_layers, worst_layer

SIZE = 32


@dataclass(frozen=True)
class Networks:
    """`reference` is what int8 files are compared with, `prepared` what they are made from."""

    reference: FusedModel
    prepared: FusedModel
    calibration: np.ndarray
    unseen: np.ndarray

    def measure(self, converted: FusedModel) -> list[LayerNoise]:
        return measure_layers(self.reference, tflite.to_int8(converted, self.calibration), self.unseen)


@pytest.fixture(scope="module")
def networks() -> Networks:
    images = diverse_images(40, SIZE, np.random.default_rng(4))
    calibration = images[:32]
    reference = equalize.equalize(fuse(random_network("keras", SIZE, 0.35, "gap")), calibration)
    return Networks(reference, bias_correction.correct_bias(reference, calibration), calibration, images[32:])


@pytest.fixture(scope="module")
def rows(networks: Networks) -> list[LayerNoise]:
    return networks.measure(networks.prepared)


def test_lists_the_layers_in_order_with_finite_ratios(networks: Networks, rows: list[LayerNoise]) -> None:
    order = [layer.name for layer in networks.reference.core.layers]
    positions = [order.index(row.layer) for row in rows]
    assert positions == sorted(set(positions))
    # Of every block what its convolutions give, a ReLU taken in.
    names = {row.layer for row in rows}
    for block in range(1, 17):
        assert {f"block_{block}_{part}" for part in ("expand_relu", "depthwise_relu", "project")} <= names
    assert np.isfinite([(row.snr_db, row.lost_db) for row in rows]).all()


def test_a_good_file_keeps_the_signal(rows: list[LayerNoise]) -> None:
    assert all(row.snr_db > 30 for row in rows[:5])
    assert all(row.snr_db > 5 for row in rows)
    assert worst_layer(rows).lost_db < 10


def test_a_layer_is_blamed_for_what_it_loses_itself(rows: list[LayerNoise]) -> None:
    for i, row in enumerate(rows):
        before = min([BEST_DB, *(earlier.snr_db for earlier in rows[:i])])
        assert row.lost_db == max(before - row.snr_db, 0)


@pytest.mark.parametrize(
    ("layer", "shown_as"),
    [("block_3_depthwise", "block_3_depthwise_relu"), ("block_6_project", "block_6_project")],
)
def test_a_layer_with_damaged_weights_is_the_worst(
    layer: str, shown_as: str, networks: Networks, rows: list[LayerNoise]
) -> None:
    kernel, bias = networks.prepared.core.get_layer(layer).get_weights()
    noise = np.random.default_rng(0).normal(0, kernel.std(), kernel.shape)
    damaged = FusedModel(with_weights(networks.prepared.core, {layer: [noise, bias]}), networks.prepared.pad_gray)
    found = networks.measure(damaged)
    worst = worst_layer(found)
    assert worst.layer == shown_as and worst.lost_db > 10
    # What runs before it is as it was.
    place = [row.layer for row in found].index(shown_as)
    assert [row.snr_db for row in found[:place]] == pytest.approx([row.snr_db for row in rows[:place]], abs=1)
