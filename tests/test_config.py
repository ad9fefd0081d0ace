from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecls.config import FLIPS, HEADS, AugmentConfig, ExportConfig, TrainConfig
from edgecls.errors import ConfigError, EdgeclsError

NAN, INF = float("nan"), float("inf")
# Setting -> (values that must pass, values that must not, words of the error).
TRAIN: dict[str, tuple[list[Any], list[Any], str]] = {
    "image_size": ([32, 1024], [31, 1025, 0, -1, NAN], "image size must be 32 to 1024"),
    "alpha": ([0.1, 0.35, 2.0], [0.09, 2.01, 0, NAN, INF], "alpha must be 0.1 to 2.0"),
    "head": (list(HEADS), ["", "GAP", "mean"], "head must be one of gap, flatten"),
    "epochs": ([1, 10**6], [0, -1, NAN], "epochs must be at least 1"),
    "batch_size": ([1, 4096], [0, -1], "batch size must be at least 1"),
    "dropout": ([0, 0.999], [-0.01, 1, NAN], "dropout must be at least 0 and below 1"),
    "views": ([0, 100], [-1, 101], "views must be 0 to 100"),
    "learning_rate": ([1e-9, 0.999], [0, 1, -1e-3, NAN], "learning rate must be above 0 and below 1"),
    "patience": ([1], [0, -1], "patience must be at least 1"),
    "seed": ([0, 2**32 - 1], [-1, 2**32], "seed must be 0 to 4294967295"),
    "val_fraction": ([0.001, 0.499], [0, 0.5, NAN], "val_fraction must be above 0 and below 0.5"),
    "test_fraction": ([0.001, 0.499], [0, 0.5, -0.1], "test_fraction must be above 0 and below 0.5"),
}
AUGMENT: dict[str, tuple[list[Any], list[Any], str]] = {
    "flip": (list(FLIPS), ["", "both", None], "flip must be one of none, horizontal, vertical"),
    **{
        name: ([0, 0.999], [-0.01, 1, NAN, INF], f"{name} must be at least 0 and below 1")
        for name in ("rotation", "translation", "zoom", "brightness", "contrast")
    },
}
EXPORT: dict[str, tuple[list[Any], list[Any], str]] = {
    "precisions": ([("fp32",), ("fp32", "int8")], [("fp8",), ()], "precision"),
    "formats": ([("onnx",), ("tflite", "onnx")], [("pb",), ()], "format"),
    "max_drop": ([0, 1], [-0.01, 1.01, NAN], "max drop must be 0 to 1"),
    "calibration_images": ([1], [0, -1], "calibration images must be at least 1"),
}
CASES = [
    (config, name, *values)
    for config, table in ((TrainConfig, TRAIN), (AugmentConfig, AUGMENT), (ExportConfig, EXPORT))
    for name, values in table.items()
]


@pytest.mark.parametrize(("config", "name", "good", "bad", "words"), CASES, ids=lambda value: str(value)[:30])
def test_every_range_is_checked_at_its_ends(
    config: Any, name: str, good: list[Any], bad: list[Any], words: str
) -> None:
    for value in good:
        assert getattr(config(**{name: value}), name) == value
    for value in bad:
        with pytest.raises(ConfigError) as caught:
            config(**{name: value})
        assert words in str(caught.value)
        if value != ():
            received = value[0] if isinstance(value, tuple) else value
            assert f"received {received!r}" in str(caught.value)


@pytest.mark.parametrize("config", [TrainConfig, AugmentConfig, ExportConfig])
def test_every_setting_has_a_default_and_a_word_in_the_docstring(config: Any) -> None:
    config()
    for field in dataclasses.fields(config):
        assert f"        {field.name}: " in config.__doc__


def test_every_setting_with_a_range_is_in_the_tables_above() -> None:
    # weights names a file as well, which find_weights looks for; augment holds a record of its own.
    assert {field.name for field in dataclasses.fields(TrainConfig)} == {*TRAIN, "weights", "augment"}
    assert {field.name for field in dataclasses.fields(AugmentConfig)} == set(AUGMENT)
    # golden and layers are switches; device is a name that find_target looks up.
    assert {field.name for field in dataclasses.fields(ExportConfig)} == {*EXPORT, "seed", "golden", "layers", "device"}


def test_the_error_is_both_ours_and_a_value_error() -> None:
    for kind in (EdgeclsError, ValueError):
        with pytest.raises(kind):
            TrainConfig(epochs=0)


def test_a_config_cannot_be_changed_past_its_checks() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().epochs = 0  # type: ignore[misc]


@given(st.integers(32, 1024), st.floats(0, 1, exclude_max=True), st.none() | st.sampled_from(FLIPS))
def test_what_run_json_stores_gives_the_same_config_again(size: int, dropout: float, flip: str | None) -> None:
    augment = AugmentConfig(flip=flip) if flip else None
    config = TrainConfig(image_size=size, dropout=dropout, augment=augment)
    stored = json.loads(json.dumps(dataclasses.asdict(config)))
    again = {**stored, "augment": AugmentConfig(**stored["augment"]) if stored["augment"] else None}
    assert TrainConfig(**again) == config
