from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecls.config import AugmentConfig, ExportConfig, TrainConfig
from edgecls.config.choices import (
    ARCHS,
    BLOCKS,
    CLASSIFIER_LEARNING_RATE,
    FLIPS,
    HEADS,
    NETWORK_LEARNING_RATE,
    SCHEDULES,
)
from edgecls.errors import ConfigError, EdgeclsError

NAN, INF = float("nan"), float("inf")
# Setting -> (values that must pass, values that must not, words of the error).
TRAIN: dict[str, tuple[list[Any], list[Any], str]] = {
    "image_size": ([32, 1024], [31, 1025, 0, -1, NAN], "image size must be 32 to 1024"),
    "bits": ([None, 8, 16], [0, 7, 17], "bits must be 8 to 16"),
    "resize": (["stretch", "crop", "pad"], ["", "fit"], "resize must be one of stretch, crop, pad"),
    "roi": ([None, (0, 0, 1, 1)], [(0, 0, 0, 1), (0, 0, 1), (-1, 0, 1, 1), (0, 0, 70000, 1)], "roi must be left, top"),
    "arch": (list(ARCHS), ["", "resnet", "MLP"], "arch must be one of mobilenet_v2, cnn, mlp"),
    "alpha": ([0.1, 0.35, 2.0], [0.09, 2.01, 0, NAN, INF], "alpha must be 0.1 to 2.0"),
    "blocks": ([None, 1, BLOCKS], [0, -1, BLOCKS + 1], "blocks must be 1 to 17"),
    "head": (list(HEADS), ["", "GAP", "mean"], "head must be one of gap, flatten"),
    "gray_to_rgb": (["copy", "random"], ["", "zero"], "gray_to_rgb must be copy or random"),
    "filters": ([(1,), (4096, 1)], [(0,), (16, 4097)], "filters must be each 1 to 4096"),
    "kernel": ([1, 7], [0, 8], "kernel must be 1 to 7"),
    "conv_dropout": ([0, 0.999], [-0.01, 1, NAN], "conv dropout must be at least 0 and below 1"),
    "hidden": ([(), (1, 4096), None], [(0,), (128, 4097)], "hidden must be each 1 to 4096"),
    "hidden_dropout": ([0, 0.999], [-0.01, 1, NAN], "hidden dropout must be at least 0 and below 1"),
    "solver": ([None, "sgd", "lbfgs"], ["", "adam"], "solver must be one of lbfgs, sgd"),
    "effort": ([None, "quick", "normal", "best"], ["", "worst"], "effort must be one of quick, normal, best"),
    "epochs": ([1, 10**6], [0, -1, NAN], "epochs must be at least 1"),
    "batch_size": ([1, 4096], [0, -1], "batch size must be at least 1"),
    "dropout": ([0, 0.999], [-0.01, 1, NAN], "dropout must be at least 0 and below 1"),
    "augmented_copies": ([0, 100], [-1, 101], "augmented copies must be 0 to 100"),
    "learning_rate": ([1e-9, 0.999], [0, 1, -1e-3, NAN], "learning rate must be above 0 and below 1"),
    "schedule": ([None, *SCHEDULES], ["", "linear"], "schedule must be one of cosine, plateau, constant"),
    "warmup_epochs": ([0, 100], [-1], "warmup epochs must be at least 0"),
    "weight_decay": ([0, 0.999], [-0.01, 1, NAN], "weight decay must be at least 0 and below 1"),
    "l2": ([0, 0.999], [-0.01, 1, NAN], "l2 must be at least 0 and below 1"),
    "label_smoothing": ([0, 0.999], [-0.01, 1, NAN], "label smoothing must be at least 0 and below 1"),
    "clip_norm": ([0, 1e6], [-1, NAN, INF], "clip norm must be at least 0 and finite"),
    "unfreeze": ([0, BLOCKS], [-1, BLOCKS + 1], "unfreeze must be 0 to 17"),
    "fine_epochs": ([1, 10**6], [0, -1, NAN], "fine epochs must be at least 1"),
    "fine_learning_rate": ([None, 1e-9, 0.999], [0, 1, NAN], "fine learning rate must be above 0 and below 1"),
    "time_budget_s": ([None, 0.1, 1e9], [0, -1, NAN, INF], "time budget must be above 0 seconds and finite"),
    "patience": ([1], [0, -1], "patience must be at least 1"),
    "seed": ([0, 2**32 - 1], [-1, 2**32], "seed must be 0 to 4294967295"),
    "val_fraction": ([0.001, 0.499], [0, 0.5, NAN], "val_fraction must be above 0 and below 0.5"),
    "test_fraction": ([0.001, 0.499], [0, 0.5, -0.1], "test_fraction must be above 0 and below 0.5"),
}
# Switches; a name that presets.resolve looks up; a file that find_weights looks for; a class that training looks for
# among those of the images; a record with checks of its own.
UNCHECKED = {"choose_blocks", "joint", "refit", "balance", "batch_norm", "preset", "weights", "good_class", "augment"}
# Read by `images.layout`, which checks them.
LAYOUT = {"labels", "columns", "class_from", "splits", "group", "exclude", "more_data"}
AUGMENT: dict[str, tuple[list[Any], list[Any], str]] = {
    "flip": (list(FLIPS), ["", "both", None], "flip must be one of auto, none, horizontal, vertical"),
    **{
        name: ([0, 0.999], [-0.01, 1, NAN, INF], f"{name} must be at least 0 and below 1")
        for name in ("rotation", "translation", "zoom", "brightness", "contrast")
    },
}
EXPORT: dict[str, tuple[list[Any], list[Any], str]] = {
    "precisions": ([("fp32",), ("fp32", "int8")], [("fp8",), ()], "precision"),
    "formats": ([("onnx",), ("tflite", "onnx")], [("pb",), ()], "format"),
    "input": (["gray"], ["", "bgr"], "input must be one of gray, rgb"),
    "max_drop": ([0, 1], [-0.01, 1.01, NAN], "max drop must be 0 to 1"),
    "max_missed": ([None, 0, 0.999], [-0.01, 1, NAN], "max missed must be at least 0 and below 1"),
    "max_false_alarms": ([None, 0, 0.999], [-0.01, 1, NAN], "max false alarms must be at least 0 and below 1"),
    "prune": ([0, 0.1], [-0.1, NAN, float("inf")], "prune must be 0 (keep all channels) or more"),
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
            received = value[0] if name in ("precisions", "formats") else value
            assert f"received {received!r}" in str(caught.value)


def test_no_more_blocks_are_fine_tuned_than_there_are() -> None:
    assert TrainConfig(blocks=3, unfreeze=3).unfreeze == 3
    with pytest.raises(ConfigError, match="unfreeze must be 0 to 3, the blocks that there are; received 4"):
        TrainConfig(blocks=3, unfreeze=4)


@pytest.mark.parametrize("config", [TrainConfig, AugmentConfig, ExportConfig])
def test_every_setting_has_a_default_and_a_word_in_the_docstring(config: Any) -> None:
    config()
    described = "".join(each.__doc__ or "" for each in config.__mro__)
    for field in dataclasses.fields(config):
        assert f"        {field.name}: " in described


def test_every_setting_with_a_range_is_in_the_tables_above() -> None:
    assert {field.name for field in dataclasses.fields(TrainConfig)} == {*TRAIN, *UNCHECKED, *LAYOUT}
    assert {field.name for field in dataclasses.fields(AugmentConfig)} == set(AUGMENT)
    # Switches; a name that find_target looks up; a class that the gate looks for among those of the run.
    unchecked = {"seed", "golden", "heatmap", "layers", "device", "good_class", "per_tensor"}
    assert {field.name for field in dataclasses.fields(ExportConfig)} == {*EXPORT, *unchecked}


# Settings that depend on each other


def test_rgb_is_for_tflite_without_a_heat_map() -> None:
    assert ExportConfig(formats=("tflite",), input="rgb").input == "rgb"
    with pytest.raises(ConfigError, match=r"formats must be tflite for --input rgb; received \('tflite', 'onnx'\)"):
        ExportConfig(input="rgb")
    for name in ("heatmap", "layers"):
        settings: dict[str, Any] = {"formats": ("tflite",), "input": "rgb", name: True}
        with pytest.raises(ConfigError, match=f"{name} must be left out with --input rgb; received True"):
            ExportConfig(**settings)


@pytest.mark.parametrize("arch", ["cnn", "mlp"])
def test_small_networks_may_be_small_and_have_nothing_to_unfreeze(arch: str) -> None:
    assert TrainConfig(arch=arch, image_size=8, filters=(4,)).image_size == 8
    with pytest.raises(ConfigError, match=f"image size must be 8 to 1024 for {arch}; received 7"):
        TrainConfig(arch=arch, image_size=7, filters=(4,))
    for change in ({"joint": True}, {"unfreeze": 1}, {"blocks": 3}):
        with pytest.raises(ConfigError, match=f"must be left out: {arch} has no backbone"):
            TrainConfig(arch=arch, **change)


@given(size=st.integers(8, 200), kernel=st.integers(1, 7), count=st.integers(0, 8))
def test_convolutions_that_leave_no_picture_are_refused(size: int, kernel: int, count: int) -> None:
    side, fits = size, count > 0
    for _ in range(count):
        side = (side - kernel + 1) // 2
        fits = fits and side > 0
    if fits:
        TrainConfig(arch="cnn", image_size=size, kernel=kernel, filters=(4,) * count)
        return
    with pytest.raises(ConfigError, match=f"filters must be .* for {size} pixels and kernel {kernel}"):
        TrainConfig(arch="cnn", image_size=size, kernel=kernel, filters=(4,) * count)


def test_batch_normalization_of_small_batches_is_refused_with_the_reason() -> None:
    assert TrainConfig(batch_norm=True, batch_size=16).batch_norm and TrainConfig(batch_size=1).batch_size == 1
    with pytest.raises(ConfigError, match=r"batch size must be at least 16 .*too noisy.* leave out --batch-norm"):
        TrainConfig(batch_norm=True, batch_size=15)


@pytest.mark.parametrize(
    ("settings", "units"),
    [
        ({}, ()),
        ({"head": "flatten"}, (32,)),
        ({"arch": "cnn"}, (64,)),
        ({"arch": "mlp"}, (128, 64, 32)),
        ({"arch": "mlp", "hidden": (5,)}, (5,)),
        ({"head": "flatten", "hidden": ()}, ()),
    ],
)
def test_dense_layers_are_the_usual_ones_if_not_given(settings: dict[str, Any], units: tuple[int, ...]) -> None:
    assert TrainConfig(**settings).hidden_units == units


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({}, CLASSIFIER_LEARNING_RATE),
        ({"arch": "cnn"}, NETWORK_LEARNING_RATE),
        ({"arch": "mlp"}, NETWORK_LEARNING_RATE),
        ({"gray_to_rgb": "random"}, NETWORK_LEARNING_RATE),
        ({"learning_rate": 0.02}, 0.02),
        ({"arch": "cnn", "learning_rate": 0.02}, 0.02),
    ],
)
def test_the_learning_rate_suits_what_learns_if_not_given(settings: dict[str, Any], rate: float) -> None:
    assert TrainConfig(**settings).main_learning_rate == rate


def test_only_a_head_alone_waits_for_plateaus_if_not_told() -> None:
    found = [TrainConfig(), TrainConfig(gray_to_rgb="random"), TrainConfig(arch="cnn")]
    assert [config.main_schedule for config in found] == ["plateau", "cosine", "cosine"]
    assert {config.fine_schedule for config in found} == {"cosine"}
    reported = TrainConfig(schedule="constant")
    assert (reported.main_schedule, reported.fine_schedule) == ("constant", "constant")


def test_the_backbone_belongs_to_one_network() -> None:
    assert [TrainConfig(arch=arch).uses_backbone for arch in ARCHS] == [True, False, False]


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
    again |= {name: tuple(stored[name]) for name in ("filters", "labels", "more_data")}  # JSON has no tuples
    assert TrainConfig(**again) == config


@pytest.mark.parametrize(
    ("settings", "solver"),
    [
        ({}, "lbfgs"),
        ({"balance": True, "unfreeze": 3, "image_size": 96}, "lbfgs"),
        ({"solver": "sgd"}, "sgd"),
        ({"epochs": 10}, "sgd"),
        ({"dropout": 0.0}, "sgd"),
        ({"hidden": (64,)}, "sgd"),
        ({"head": "flatten"}, "sgd"),
        ({"gray_to_rgb": "random"}, "sgd"),
        ({"arch": "cnn"}, "sgd"),
        ({"solver": "lbfgs", "unfreeze": 2, "weight_decay": 1e-3}, "lbfgs"),
    ],
)
def test_the_solver_follows_the_settings(settings: dict[str, Any], solver: str) -> None:
    assert TrainConfig(**settings).classifier_solver == solver


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 10},
        {"hidden": (64,)},
        {"arch": "mlp"},
        {"head": "flatten"},
        {"batch_norm": True},
        {"weight_decay": 1e-3, "effort": "quick"},
        {"unfreeze": 3, "learning_rate": 0.1},
    ],
)
def test_lbfgs_is_refused_where_it_would_be_ignored(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="solver must be sgd"):
        TrainConfig(solver="lbfgs", **settings)
    with pytest.raises(ConfigError, match="solver must be one of lbfgs, sgd"):
        TrainConfig(solver="newton")
