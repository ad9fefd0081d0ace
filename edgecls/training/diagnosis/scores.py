"""What the trained network's scores say of the images: labels that look wrong, classes it confuses, too few images.

Imports numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.evaluate import wilson_interval
from edgecls.messages.lists import some
from edgecls.training.diagnosis.finding import Finding, Scored, likely_range

# A suspect's other class scores at least this, and at least what that class's own images score on average (the
# thresholds of confident learning: Northcutt et al. 2021, arXiv:1911.00068, section 3.1).
SUSPECT_SCORE = 0.9
# Share of training images from which on suspects are told, and are an illness: a network trained on sound labels
# contradicts up to one in a hundred (Fashion-MNIST), with 5 % of them changed one in fifty. Validation images
# cannot decide it: an overconfident network is wrong about one in 25 of them at this score, whatever their labels.
TOLD_SHARE, WRONG_SHARE, MIN_SUSPECTS = 0.005, 0.02, 3
# Accuracy from guessing (0) to no mistake (1) below which the network's opinion of an image is worth nothing.
MIN_SKILL = 0.5
# Of a class's images, with 99 % certainty.
CONFUSED_SHARE = 0.1
# Frozen ImageNet features need a few tens of images a class, networks trained from the start some hundreds.
FEW_FROZEN, FEW_TRAINED = 20, 100
# Largest class against smallest.
IMBALANCE = 4.0
# Of an accuracy: if the 95 % interval is wider, a good network cannot be told from a poor one.
WIDEST_INTERVAL = 0.3
# Names in one sentence.
_LISTED = 5


@dataclass(frozen=True)
class Suspect:
    """An image whose given label the network contradicts, sure of itself.

    Attributes:
        part: "training" or "validation".
        index: of the image in that part.
        path: of the image, or "".
        given: its label.
        predicted: the label that the network gives it.
        score: of that label, mean over all looks, 0..1.
    """

    part: str
    index: int
    path: str
    given: str
    predicted: str
    score: float


def find_suspects(scored: Scored, classes: Sequence[str]) -> tuple[Suspect, ...]:
    """Return the images whose labels look wrong, the surest first.

    A suspect is a confident mistake: the same wrong class in every look at it, scored as high as that class's own
    images are. A network that knows its training images by heart repeats their wrong labels: few are found then.
    """
    looks, labels = scored.looks, scored.labels
    if not len(labels):
        return ()
    scores = looks.mean(axis=0)
    predicted, certainty = scores.argmax(axis=1), scores.max(axis=1)
    members = [scores[labels == index, index] for index in range(len(classes))]
    own = np.array([values.mean() if len(values) else 1 for values in members])
    stable = (looks.argmax(axis=2) == predicted).all(axis=0)
    wrong = (predicted != labels) & stable & (certainty >= np.maximum(SUSPECT_SCORE, own[predicted]))
    order = sorted(np.flatnonzero(wrong).tolist(), key=lambda index: -certainty[index])
    return tuple(
        Suspect(
            scored.part,
            index,
            scored.paths[index] if scored.paths else "",
            classes[labels[index]],
            classes[predicted[index]],
            float(certainty[index]),
        )
        for index in order
    )


def score_findings(
    config: TrainConfig,
    classes: Sequence[str],
    train: Scored | None,
    val: Scored | None,
    train_labels: NDArray[np.integer[Any]],
) -> Iterator[Finding]:
    """Yield what the scores and labels show; each part may be missing."""
    if val is not None and len(val.labels) and _has_learned(val, len(classes)):
        yield from _confused(val, classes)
    if train is not None and len(train.labels):
        yield from _wrong_labels(train, val, classes)
    if len(train_labels):
        counts = np.bincount(train_labels, minlength=len(classes))
        yield from _few_images(counts, config, classes)
        if val is not None and len(val.labels):
            yield from _imbalance(counts, val, config, classes)


def _has_learned(scored: Scored, class_count: int) -> bool:
    return (scored.accuracy - 1 / class_count) / (1 - 1 / class_count) >= MIN_SKILL


def _wrong_labels(train: Scored, val: Scored | None, classes: Sequence[str]) -> Iterator[Finding]:
    suspects = find_suspects(train, classes)
    count, share = len(suspects), len(suspects) / len(train.labels)
    if count < MIN_SUSPECTS or share < TOLD_SHARE or not _has_learned(train, len(classes)):
        return
    text = f"{count} of {len(train.labels)} training images"
    if val is not None:
        held = find_suspects(val, classes)
        text += f" and {len(held)} of {len(val.labels)} validation images"
        suspects = (*suspects, *held)
    shown = some(
        (
            f"{suspect.path or f'{suspect.part} image {suspect.index}'} is called {suspect.given} but looks like "
            f"{suspect.predicted} ({suspect.score:.0%})"
            for suspect in suspects
        ),
        _LISTED,
    )
    yield Finding(
        "wrong-labels",
        "warning" if share >= WRONG_SHARE else "note",
        f"{text} contradict their labels although the network is sure of them: {shown}.",
        "Look at them: move wrongly labelled images into the right class folder, and train again.",
    )


def held_out_findings(val: Scored | None, test: Scored | None) -> Iterator[Finding]:
    """Yield that there are too few held-out images to prove anything, or that the test images contradict the others."""
    ranges = {}
    for scored in (val, test):
        if scored is None or not len(scored.labels):
            continue
        hits, images = int((scored.predicted == scored.labels).sum()), len(scored.labels)
        low, high = wilson_interval(hits, images)
        text = f"{hits} of {images} {scored.part} images are correct"
        ranges[scored.part] = (low, high, f"{text} (95 % interval {low:.0%} to {high:.0%})")
        if high - low > WIDEST_INTERVAL:
            yield Finding(
                f"too-few-{scored.part}-images",
                "warning",
                f"So few {scored.part} images prove nothing: {text}, so the accuracy is somewhere between {low:.0%} "
                f"and {high:.0%} (95 % interval).",
                f"Add {scored.part} images: with 100 of them the interval is at most 20 points wide.",
            )
    if len(ranges) == 2 and ranges["test"][1] < ranges["validation"][0]:
        yield Finding(
            "test-below-validation",
            "warning",
            f"The test images contradict the validation images: {ranges['test'][2]}, but {ranges['validation'][2]}.",
            "Believe the test images. Make sure that the images of all splits show the same things, and that their "
            "labels are correct.",
        )


def _confused(val: Scored, classes: Sequence[str]) -> Iterator[Finding]:
    counts = _confusion(val, len(classes))
    support = counts.sum(axis=1)
    rates = counts / np.maximum(support, 1)[:, np.newaxis]
    pairs = [
        (rates[given, other], given, other)
        for given, other in zip(*np.nonzero(counts), strict=True)
        if given != other and likely_range(int(counts[given, other]), int(support[given]))[0] > CONFUSED_SHARE
    ]
    if pairs:
        told = "; ".join(
            f"{classes[given]} taken for {classes[other]} in {counts[given, other]} of {support[given]} images "
            f"({rate:.0%})"
            for rate, given, other in sorted(pairs, reverse=True)[:_LISTED]
        )
        yield Finding(
            "confused-classes",
            "note",
            f"Classes that the network confuses: {told}.",
            "More images of these classes, a larger --image-size if they differ in details, --unfreeze 3; or make one "
            "class of them if you need not tell them apart.",
        )


def _confusion(scored: Scored, class_count: int) -> NDArray[np.int64]:
    counts = np.zeros((class_count, class_count), np.int64)
    np.add.at(counts, (scored.labels, scored.predicted), 1)
    return counts


def _few_images(counts: NDArray[np.int64], config: TrainConfig, classes: Sequence[str]) -> Iterator[Finding]:
    enough = FEW_FROZEN if config.arch == "mobilenet_v2" else FEW_TRAINED
    few = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if count < enough]
    if few:
        yield Finding(
            "too-few-images",
            "note",
            f"Classes with fewer than {enough} training images: {some(few)}.",
            "Take more pictures of them"
            + ("" if config.arch == "mobilenet_v2" else "; --arch mobilenet_v2 needs fewer")
            + ("." if config.augment else "; --augment."),
        )


def _imbalance(
    counts: NDArray[np.int64], val: Scored, config: TrainConfig, classes: Sequence[str]
) -> Iterator[Finding]:
    """Imbalance is an illness only where the small class pays for it."""
    confusion = _confusion(val, len(classes))
    hits, support = confusion.diagonal(), confusion.sum(axis=1)
    small = [
        index
        for index in range(len(classes))
        if counts[index] * IMBALANCE <= counts.max()
        and support[index]
        and likely_range(int(hits[index]), int(support[index]))[1] < val.accuracy
    ]
    if small:
        told = some(
            f"{classes[index]} ({counts[index]} training images, {hits[index]} of {support[index]} recognised)"
            for index in small
        )
        yield Finding(
            "imbalance",
            "warning",
            f"Small classes that the network neglects: {told}; the largest class has {counts.max()} training images, "
            f"and {val.accuracy:.0%} of all validation images are right.",
            "More images of the small classes" + ("." if config.balance else ", or --balance."),
        )
