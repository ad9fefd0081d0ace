"""Finds on labeled training images how a model's images were scaled and resized, and which class each output is."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import DataError
from edgecls.export.calibration import choose_stratified
from edgecls.images.dataset import Dataset, Split
from edgecls.images.layout import FOLDERS, Layout
from edgecls.imported.build import Source
from edgecls.imported.class_order import ClassOrder, check_order, parse_classes
from edgecls.imported.outputs import Loss, describe_outputs, ends_linearly, judge_values, limit_scores
from edgecls.imported.resizing import Resizing, compare_resizing, load_as_notebooks
from edgecls.imported.scaling import (
    CLEAR,
    ROUNDS,
    Predict,
    Scaling,
    ScalingTrial,
    choose_scaling,
    describe_trials,
    find_unusual,
    parse_scaling,
    try_scalings,
    usual_scalings,
)
from edgecls.messages.numbers import percent
from edgecls.networks.imported import BOTH_CLASSES
from edgecls.progress import Progress

if TYPE_CHECKING:
    import keras

BATCH_SIZE = 32


@dataclass(frozen=True)
class ImportConfig:
    """Settings of one import.

    Attributes:
        scaling: its name or "SCALE,OFFSET", or None to find it.
        classes: "A,B": the class folder of each output, or None for alphabetical order.
        image_size: side in pixels, for a model that takes images of any size.
        layout: what the folders of the images do not say.
        bits: of `load_gray`.
        seed: of the split of the images and of the choice of those that are measured on.
        refit: adapt the classifier and the BatchNorm statistics to the pixel path of edgecls, if that is better.
    """

    scaling: str | None = None
    classes: str | None = None
    image_size: int | None = None
    layout: Layout = FOLDERS
    bits: int | None = None
    seed: int = 0
    refit: bool = False


@dataclass(frozen=True, eq=False)
class Measured:
    """What training images show of a model.

    Attributes:
        scaling: of its images.
        trials: the scalings that were tried, the best first.
        order: the class of each output.
        accuracy: with the pixel path of edgecls on `images`, 0..1.
        resizing: with the ways in which notebooks resize.
        images: the first ones that were measured, uint8 (N, S, S, 1), and `scores` theirs, float32 (N, C).
        warnings: what the user should know.
    """

    scaling: Scaling
    trials: tuple[ScalingTrial, ...]
    order: ClassOrder
    accuracy: float
    resizing: tuple[Resizing, ...]
    images: NDArray[np.uint8]
    scores: NDArray[np.float32]
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Scores:
    """The scores of the first images with each scaling, each computed once."""

    compute: Predict
    known: dict[Scaling, NDArray[np.float32]] = field(default_factory=dict)

    def __call__(self, images: NDArray[np.uint8], scaling: Scaling) -> NDArray[np.float32]:
        known = self.known.get(scaling)
        if known is None:
            known = self.compute(images, scaling)
        elif len(known) < len(images):
            known = np.concatenate([known, self.compute(images[len(known) :], scaling)])
        self.known[scaling] = known
        return known[: len(images)]


def measure(model: keras.Model, source: Source, dataset: Dataset, config: ImportConfig, progress: Progress) -> Measured:
    """Return what the training images of `dataset` show.

    Args:
        model: what `build_float` returned for `source`.
        source: the imported model.
        dataset: images of its classes.
        config: what the user gave.
        progress: called at each stage.

    Raises:
        DataError: they do not show the scaling or the order of the classes.
        ConfigError: the given scaling is unknown, or the given classes are others.
    """
    split = _choose(dataset.train, config.seed)
    predict = _Scores(functools.partial(_predict, model, source.channels, progress))
    classes = parse_classes(config.classes, dataset.classes) if config.classes else None
    given = parse_scaling(config.scaling, source.channels) if config.scaling else None
    candidates = dict.fromkeys((*usual_scalings(source.channels), *([given] if given else [])))
    has_one = any(layer.name == BOTH_CLASSES for layer in model.layers)
    judged: Predict = functools.partial(_limited, predict, source.loss)
    if ends_linearly(source.graph):
        few = split.images[: ROUNDS[0]], split.labels[: ROUNDS[0]]
        judged = judge_values(judged, tuple(candidates), *few, source.loss, has_one)
    trials = try_scalings(tuple(candidates), split.images, split.labels, judged)
    images, labels = split.images[: ROUNDS[1]], split.labels[: ROUNDS[1]]
    unusual = find_unusual(images, labels, trials[0].scaling, judged)
    if unusual and not given:
        raise DataError(f"{unusual}; to import it anyway, --scaling {trials[0].scaling.name}")
    chosen = given or choose_scaling(trials, scales_itself=source.scales_itself)
    scores = predict(images, chosen)
    order = check_order(scores, labels, dataset.classes, classes)
    outputs = np.array([order.classes.index(name) for name in dataset.classes])[labels]
    hits = scores.argmax(1) == outputs
    ways = load_as_notebooks(dataset.root, split.paths[: len(images)], images.shape[1], config.bits)
    resizing = compare_resizing(ways, lambda pixels: predict.compute(pixels, chosen).argmax(1) == outputs, hits)
    accuracy = float(hits.mean())
    about_scores = describe_outputs(source.graph, 1 if has_one else scores.shape[1], source.loss)
    notes = [*_doubt_scaling(given, trials), unusual, order.doubt, about_scores, *_doubt_resizing(accuracy, resizing)]
    return Measured(chosen, trials, order, accuracy, resizing, images, scores, tuple(filter(None, notes)))


def _choose(train: Split, seed: int) -> Split:
    """Return training images, the classes mixed."""
    chosen = choose_stratified(train.labels.tolist(), ROUNDS[-1], seed)
    return Split(tuple(train.paths[i] for i in chosen), train.images[chosen], train.labels[chosen])


def _predict(
    model: keras.Model, channels: int, progress: Progress, images: NDArray[np.uint8], scaling: Scaling
) -> NDArray[np.float32]:
    parts = []
    for start in range(0, len(images), BATCH_SIZE):
        batch = images[start : start + BATCH_SIZE]
        # Always full, because TensorFlow compiles the model again for each size.
        full = np.concatenate([batch, np.repeat(batch[-1:], BATCH_SIZE - len(batch), 0)])
        scores = np.asarray(model.predict_on_batch(scaling.apply(full, channels)), np.float32)
        parts.append(scores[: len(batch)])
        progress(f"try scaling {scaling.name}", start + len(batch), len(images))
    return np.nan_to_num(np.concatenate(parts))


def _limited(predict: Predict, loss: Loss, images: NDArray[np.uint8], scaling: Scaling) -> NDArray[np.float32]:
    return limit_scores(predict(images, scaling), loss)


def _doubt_scaling(given: Scaling | None, trials: tuple[ScalingTrial, ...]) -> Iterator[str]:
    lead = next((trial.lead for trial in trials if trial.scaling == given), 0.0)
    if given and lead >= CLEAR:
        yield (
            f"another scaling fits the training images better than {given.name}: {describe_trials(trials)}; "
            f"leave out --scaling, or give --scaling {trials[0].scaling.name}"
        )


def _doubt_resizing(accuracy: float, resizing: tuple[Resizing, ...]) -> Iterator[str]:
    best = max(resizing, key=lambda way: way.accuracy)
    if best.is_better_than(accuracy):
        yield (
            f"with Keras' resizing ({best.name}, without antialiasing) {percent(best.accuracy)} of the training "
            f"images are correct, with that of edgecls {percent(accuracy)}. --refit adapts the model to it"
        )
