"""Finds how the notebook scaled its images: each usual scaling is tried on labeled training images."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import ConfigError, DataError
from edgecls.evaluate import count_flips, mcnemar_p
from edgecls.imported.assignment import assign
from edgecls.imported.class_order import STRICT_P
from edgecls.messages.numbers import percent

# Mean and standard deviation of ImageNet in R, G, B, as PyTorch's networks and keras.applications' DenseNet take them.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# keras.applications' VGG16 and ResNet50 take B, G, R less these.
_MEAN_BGR = (103.939, 116.779, 123.68)
RAW = "0..255"
# Images of each round; a scaling that is clearly worse than the best is not tried in the next one.
ROUNDS = (64, 512, 2048)
# Standard errors by which the best must lead: p = 0.0003 for each rival.
CLEAR = 3.6
SCORE_RANGE = (1e-3, 0.9)

# What a notebook may do to each image by its own values -> what to do then.
_RETRAIN = "train it again with a fixed scaling, such as division by 255"
EACH = {
    "standardized by its own mean and deviation": "let the model do it, save keras.Model(image, model("
    "keras.layers.LayerNormalization(axis=[1, 2, 3], center=False, scale=False)(image))) with image = "
    "keras.Input(model.input_shape[1:])",
    "divided by its own largest value": _RETRAIN,
    "stretched from its own smallest to its largest value": _RETRAIN,
}


@dataclass(frozen=True)
class Scaling:
    """What the notebook made of a pixel, 0..255, in each channel: pixel * scale + offset."""

    name: str
    scale: tuple[float, ...]
    offset: tuple[float, ...]

    def apply(self, images: NDArray[np.uint8], channels: int) -> NDArray[np.float32]:
        """Return gray images, uint8 (N, S, S, 1), as the model takes them: float32 (N, S, S, channels)."""
        repeated = np.repeat(images.astype(np.float32), channels, -1)
        return repeated * np.array(self.scale, np.float32) + np.array(self.offset, np.float32)


# From gray images, uint8 (N, S, S, 1), and a scaling to scores, float32 (N, C), 0..1.
Predict = Callable[[NDArray[np.uint8], Scaling], NDArray[np.float32]]


@dataclass(frozen=True)
class ScalingOfEach(Scaling):
    """A scaling of each image by its own values; its name is in EACH."""

    def apply(self, images: NDArray[np.uint8], channels: int) -> NDArray[np.float32]:
        """Return what `Scaling.apply` returns."""
        pixels = images.astype(np.float32)
        mean, low, high = (find(pixels, axis=(1, 2, 3), keepdims=True) for find in (np.mean, np.min, np.max))
        if self.name.startswith("standardized"):
            # As tf.image.per_image_standardization bounds it.
            least = 1 / math.sqrt(pixels[0].size)
            pixels = (pixels - mean) / np.maximum(pixels.std((1, 2, 3), keepdims=True), least)
        elif self.name.startswith("divided"):
            pixels /= np.maximum(high, 1)
        else:
            pixels = (pixels - low) / np.maximum(high - low, 1)
        return np.repeat(pixels, channels, -1)


@dataclass(frozen=True)
class ScalingTrial:
    """A scaling and its result on `images` training images.

    Attributes:
        accuracy: with the outputs assigned to classes as fits best, 0..1.
        lead: by how many standard errors the best is ahead; 0 for the best itself.
    """

    scaling: Scaling
    accuracy: float
    images: int
    lead: float


def usual_scalings(channels: int) -> tuple[Scaling, ...]:
    """Return the scalings that notebooks use, for images of 1 or 3 channels."""
    plain = [
        _uniform(RAW, 1.0, 0.0, channels),
        _uniform("0..1", 1 / 255, 0.0, channels),
        _uniform("-1..1", 1 / 127.5, -1.0, channels),
    ]
    if channels == 1:
        return tuple(plain)
    scale = tuple(1 / (255 * deviation) for deviation in _DEVIATION)
    offset = tuple(-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True))
    plain += [
        Scaling("imagenet-rgb", scale, offset),
        Scaling("imagenet-bgr", scale[::-1], offset[::-1]),
        Scaling("mean-bgr", (1.0,) * 3, tuple(-mean for mean in _MEAN_BGR)),
        Scaling("mean-rgb", (1.0,) * 3, tuple(-mean for mean in _MEAN_BGR[::-1])),
    ]
    return tuple(plain)


def _uniform(name: str, scale: float, offset: float, channels: int) -> Scaling:
    return Scaling(name, (scale,) * channels, (offset,) * channels)


def parse_scaling(text: str, channels: int) -> Scaling:
    """Return the scaling of this name, or of numbers such as "0.0078,-1": pixel * scale + offset.

    Raises:
        ConfigError: it is neither.
    """
    known = {scaling.name: scaling for scaling in usual_scalings(channels)}
    if text in known:
        return known[text]
    number = r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?"
    if re.fullmatch(f"{number},{number}", text):
        scale, offset = map(float, text.split(","))
        if math.isfinite(scale) and math.isfinite(offset) and scale:
            return _uniform(text, scale, offset, channels)
    raise ConfigError(
        f"scaling must be one of {', '.join(known)}, or two numbers SCALE,OFFSET such as 0.0078,-1; received "
        f"{text!r:.80}"
    )


def try_scalings(
    scalings: Sequence[Scaling], images: NDArray[np.uint8], labels: NDArray[np.int64], predict: Predict
) -> tuple[ScalingTrial, ...]:
    """Return the result of each scaling, the best first.

    Two scalings are compared by the mean difference of the logarithms of what the model gives each image's class, over
    its standard error.

    Args:
        scalings: to try.
        images: uint8 (N, S, S, 1), 0..255, the classes mixed.
        labels: int64 (N,).
        predict: the model; it is asked again for the same first images and more.
    """
    done: dict[str, ScalingTrial] = {}
    left = list(scalings)
    for limit in ROUNDS:
        count = min(limit, len(images))
        scores = {scaling.name: predict(images[:count], scaling) for scaling in left}
        hits = {name: _class_scores(found, labels[:count]) for name, found in scores.items()}
        best = max(left, key=lambda scaling: float(hits[scaling.name].mean()))
        for scaling in left:
            accuracy = _accuracy(scores[scaling.name], labels[:count])
            lead = _lead(hits[best.name], hits[scaling.name])
            done[scaling.name] = ScalingTrial(scaling, accuracy, count, lead)
        left = [scaling for scaling in left if done[scaling.name].lead < CLEAR]
        # Class order and accuracy need more images than the first round has.
        if count == len(images) or (len(left) == 1 and limit > ROUNDS[0]):
            break
    return tuple(sorted(done.values(), key=lambda trial: (trial.lead, -trial.accuracy)))


def choose_scaling(trials: Sequence[ScalingTrial], *, scales_itself: bool) -> Scaling:
    """Return the scaling of the clear winner.

    Args:
        trials: what `try_scalings` returned.
        scales_itself: True for a model that scales 0..255 inside; that then needs no clear lead.

    Raises:
        DataError: there is none.
    """
    best, *others = trials
    if all(trial.lead >= CLEAR for trial in others):
        return best.scaling
    tied = [trial.scaling.name for trial in trials if trial.lead < CLEAR]
    if scales_itself and RAW in tied:
        return next(trial.scaling for trial in trials if trial.scaling.name == RAW)
    raise DataError(
        f"the scaling of the notebook's images cannot be told from {best.images} training images: "
        f"{describe_trials(trials)}. Not clearly different: {', '.join(tied)}. Give the one that the notebook used"
        f"{' (0..1 is division by 255)' if '0..1' in tied else ''}: --scaling {' or --scaling '.join(tied)}; for "
        "images standardized with a mean m and a deviation d, --scaling with the numbers 1/d,-m/d"
    )


def find_unusual(images: NDArray[np.uint8], labels: NDArray[np.int64], best: Scaling, predict: Predict) -> str:
    """Return what else the notebook did to its images, if that fits clearly better than `best`, as a sentence, or "".

    They may have been standardized by their own mean and deviation, inverted, or scaled one by one.

    Args:
        images: uint8 (N, S, S, 1), 0..255, the classes mixed.
        labels: int64 (N,).
        best: of the scalings that were tried.
        predict: the model.
    """
    deviation, channels = max(float(images.std()), 1.0), len(best.scale)
    kinds = {f"{1 / deviation:.4g},{-float(images.mean()) / deviation:.4g}": "standardized", "-0.003922,1": "inverted"}
    fixed = [parse_scaling(name, channels) for name in kinds]
    each = [ScalingOfEach(name, (1.0,) * channels, (0.0,) * channels) for name in EACH]
    # What a model that has learned nothing reaches tells nothing of the scaling.
    chance = float(np.bincount(labels).max()) / len(labels)
    for candidates in ((best, *fixed, *each), (best, *fixed)):
        first, *others = try_scalings(candidates, images, labels, predict)
        known = next((trial for trial in others if trial.scaling == best), first)
        is_better = known.lead >= CLEAR and first.accuracy >= known.accuracy and first.accuracy > chance
        if is_better and first.scaling in each:
            # A model is often surer, and not more accurate: most images have almost white and black pixels.
            is_better = _is_more_accurate(predict(images, first.scaling), predict(images, best), labels)
        if is_better:
            return _describe_unusual(first, known, kinds.get(first.scaling.name, ""))
    return ""


def _is_more_accurate(new: NDArray[np.float32], old: NDArray[np.float32], labels: NDArray[np.int64]) -> bool:
    """Return whether scores, float32 (N, C), label clearly more images correctly than others do (McNemar)."""
    lost, won = count_flips(_hits(old, labels), _hits(new, labels))
    return won > lost and mcnemar_p(lost, won) < STRICT_P


def _describe_unusual(first: ScalingTrial, known: ScalingTrial, kind: str) -> str:
    name = first.scaling.name
    figures = (
        f"{percent(first.accuracy)} of {first.images} training images are correct and the scores are better, with "
        f"{known.scaling.name} {percent(known.accuracy)}"
    )
    if kind:
        return (
            f"the notebook's images were probably {kind}: with pixel * SCALE + OFFSET of {name}, {figures}. Give the "
            f"numbers of the notebook, or --scaling {name}"
        )
    return (
        f"each of the notebook's images was probably {name}: so {figures}. An exported file scales all images alike: "
        f"{EACH[name]}"
    )


def describe_trials(trials: Sequence[ScalingTrial]) -> str:
    """Return the accuracies as text."""
    return ", ".join(f"{trial.scaling.name} {percent(trial.accuracy)}" for trial in trials)


def _class_scores(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the logarithm of the score of each image's own class, with the outputs assigned to classes as fits best.

    Scores above the ceiling count alike: too large a scale makes a network too sure, and so better on images that it
    overfitted to.
    """
    own = scores[np.arange(len(labels)), assign(scores, labels)[labels]].astype(np.float64)
    return np.asarray(np.log(np.clip(own, *SCORE_RANGE)))


def _accuracy(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    return float(_hits(scores, labels).mean())


def _hits(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which images are labeled correctly, with the outputs assigned to classes as fits best."""
    return np.asarray(assign(scores, labels)[labels] == scores.argmax(1))


def _lead(best: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    difference = best - other
    error = difference.std(ddof=1) / math.sqrt(len(difference))
    if not error:
        return math.inf if difference.mean() > 0 else 0.0
    return float(difference.mean() / error)
