"""What settings may be chosen from, and the bounds and defaults that several modules need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WEIGHT_SOURCES = ("auto", "imagenet", "imagenet-torch", "none")
ARCHS = ("mobilenet_v2", "cnn", "mlp")
HEADS = ("gap", "flatten")
SCHEDULES = ("cosine", "plateau", "constant")
SOLVERS = ("lbfgs", "sgd")
EFFORTS = ("quick", "normal", "best")
FLIPS = ("auto", "none", "horizontal", "vertical", "horizontal_and_vertical")
# Settings of learning in steps; whoever changes one wants a classifier that learns so.
CLASSIFIER_STEPS = ("epochs", "learning_rate", "hidden", "batch_norm")
ALL_STEPS = (
    *("batch_size", "dropout", "schedule", "warmup_epochs", "weight_decay", "l2", "label_smoothing", "clip_norm"),
    "patience",
)
# Widths for which keras.applications publishes MobileNetV2 weights; other widths can be trained from none.
KERAS_ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
# Five stride-2 stages: below 32 pixels the last feature map would be empty.
MIN_IMAGE_SIZE = 32
MIN_SMALL_IMAGE_SIZE = 8
# Inverted residual blocks of MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381, table 2).
BLOCKS = 17
# What `--blocks` takes for all of them and the 1x1 convolution after them.
ALL_BLOCKS = "all"
# Below, batch statistics cost accuracy (Wu and He 2018, arXiv:1803.08494, figure 1).
MIN_BATCH_NORM_BATCH = 16
# Adam's initial learning rate for a classifier on frozen features, for whole networks, and for --unfreeze and --joint.
CLASSIFIER_LEARNING_RATE, NETWORK_LEARNING_RATE, FINE_LEARNING_RATE = 5e-3, 1e-3, 1e-4
# For phases whose number of epochs is known beforehand.
USUAL_SCHEDULE = "cosine"
# Settings that run.json of an older version calls otherwise: old name -> name.
_RENAMED_SETTINGS = {"views": "augmented_copies"}
# What settings were in a version that did not have them, if not what they usually are now.
_BEFORE_SETTINGS: dict[str, Any] = {"choose_blocks": False}


def name_settings(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in run.json of any version under their names of now, with what an older one did not say."""
    return _BEFORE_SETTINGS | {_RENAMED_SETTINGS.get(name, name): value for name, value in saved.items()}
