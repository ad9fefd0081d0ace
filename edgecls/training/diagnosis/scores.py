"""Rules about the scores and labels of the images: labels that look wrong, confused classes, small classes.

Imports numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecls.config import TrainConfig
from edgecls.messages.lists import MOST_NAMES, counted, some
from edgecls.messages.numbers import percent
from edgecls.training.diagnosis.evidence import Evidence
from edgecls.training.diagnosis.finding import Problem, Scored, confidence_interval

# A suspect's predicted class scores at least this, and at least what that class's own images score on average (the
# thresholds of confident learning: Northcutt et al. 2021, arXiv:1911.00068, section 3.1).
SUSPECT_SCORE = 0.9
# Fraction of training images from which on suspects are reported, and are a warning: a network trained on correct
# labels contradicts up to one in a hundred (Fashion-MNIST), with 5 % of them changed one in fifty. Validation images
# cannot decide it: an overconfident network is wrong about one in 25 of them at this score, whatever their labels.
REPORTED_SHARE, WARNED_SHARE, MIN_SUSPECTS = 0.005, 0.02, 3
# Of normalized accuracy: below it, the network's scores say nothing about a label.
MIN_LEARNED = 0.5
CONFUSED_SHARE = 0.1  # of a class's images, with 99 % certainty
# Frozen ImageNet features need a few tens of images a class, networks trained from the start some hundreds.
FEW_FROZEN, FEW_TRAINED = 20, 100
# Pixels: with a larger input, doubling it helps less than it costs.
LARGEST_DOUBLED = 128
# Of recall below the accuracy of all, beyond chance: of several small classes one is often a little below it.
LEAST_LOSS = 0.05
IMBALANCE = 4.0  # largest class against smallest


@dataclass(frozen=True)
class Suspect:
    """An image whose given label the network contradicts; `score` is the mean of all its copies, 0..1."""

    index: int
    path: str
    given: str
    predicted: str
    score: float


def find_suspects(scored: Scored, classes: Sequence[str]) -> tuple[Suspect, ...]:
    """Return the images whose labels look wrong, the highest score first.

    Every augmented copy of a suspect is given the same wrong class, with a score as high as that class's own images
    have. An overfitting network repeats wrong labels of its training images, so that few are found.
    """
    labels = scored.labels
    if not len(labels):
        return ()
    scores = scored.copies.mean(axis=0)
    predicted, certainty = scores.argmax(axis=1), scores.max(axis=1)
    members = [scores[labels == index, index] for index in range(len(classes))]
    own = np.array([values.mean() if len(values) else 1 for values in members])
    stable = (scored.copies.argmax(axis=2) == predicted).all(axis=0)
    wrong = (predicted != labels) & stable & (certainty >= np.maximum(SUSPECT_SCORE, own[predicted]))
    return tuple(
        Suspect(
            index,
            scored.paths[index] if scored.paths else f"{scored.part} image {index}",
            classes[labels[index]],
            classes[predicted[index]],
            float(certainty[index]),
        )
        for index in sorted(np.flatnonzero(wrong).tolist(), key=lambda index: -certainty[index])
    )


def _has_learned(scored: Scored) -> bool:
    baseline = 1 / scored.scores.shape[-1]
    return bool((scored.accuracy - baseline) / (1 - baseline) >= MIN_LEARNED)


def check_labels(run: Evidence) -> Iterator[Problem]:
    """Yield that many images contradict their labels."""
    if run.train is None:
        return
    suspects = find_suspects(run.train, run.classes)
    count, images = len(suspects), len(run.train.labels)
    if count < MIN_SUSPECTS or count / images < REPORTED_SHARE or not _has_learned(run.train):
        return
    text = f"{count} of {images} training images"
    if run.val:
        held = find_suspects(run.val, run.classes)
        text += f" and {len(held)} of {len(run.val.labels)} validation images"
        suspects = (*suspects, *held)
    shown = some(
        (f"{s.path} is labeled {s.given} but looks like {s.predicted} ({percent(s.score, 0)})" for s in suspects), 5
    )
    yield (
        "warning" if count / images >= WARNED_SHARE else "note",
        f"The network contradicts the labels of {text}, with high scores: {shown}.",
        "Look at them: move wrongly labeled images into the right class folder, and train again.",
    )


def check_confusion(run: Evidence) -> Iterator[Problem]:
    """Yield the pairs of classes of which one is often taken for the other."""
    if run.val is None or not _has_learned(run.val):
        return
    counts, classes = run.val.confusion, run.classes
    support = counts.sum(axis=1)
    pairs = [
        (counts[given, other] / support[given], given, other)
        for given, other in np.argwhere(counts).tolist()
        if given != other and confidence_interval(int(counts[given, other]), int(support[given]))[0] > CONFUSED_SHARE
    ]
    if pairs:
        listed = "; ".join(
            f"{classes[given]} taken for {classes[other]} in {counts[given, other]} of "
            f"{counted(support[given], 'image')} ({percent(rate, 0)})"
            for rate, given, other in sorted(pairs, reverse=True)[:MOST_NAMES]
        )
        yield (
            "note",
            f"The network confuses classes: {listed}.",
            _confusion_remedy(run.config),
        )


def _confusion_remedy(config: TrainConfig) -> str:
    options = ["--arch mobilenet_v2"]
    if config.uses_backbone:
        options = [] if config.unfreeze else ["--unfreeze 3"]
        options += [f"--image-size {2 * max(config.image_size, 64)}"] if config.image_size <= LARGEST_DOUBLED else []
    text = ", or ".join([*options, "more images of these classes, or merge them if you need not tell them apart."])
    return text if options else text.capitalize()


def check_class_sizes(run: Evidence) -> Iterator[Problem]:
    """Yield the classes with few training images."""
    if not len(run.labels):
        return
    backbone = run.config.arch == "mobilenet_v2"
    enough = FEW_FROZEN if backbone else FEW_TRAINED
    counts = zip(run.classes, run.counts, strict=True)
    few = [(name, count) for name, count in counts if count < enough]
    if few:
        text = f"{few[0][0]} has {counted(few[0][1], 'training image')}"
        if len(few) > 1:
            text = f"{len(few)} classes have few training images: {some(f'{name} ({count})' for name, count in few)}"
        remedy = "Take more pictures of these classes" + ("" if backbone else "; --arch mobilenet_v2 needs fewer")
        remedy += "." if run.config.augment else "; --augment."
        yield "note", f"{text}; {enough} or more are needed for a reliable class.", remedy


def check_balance(run: Evidence) -> Iterator[Problem]:
    """Yield small classes whose recall is below the accuracy of all: only there imbalance is a problem."""
    if not len(run.labels) or run.val is None:
        return
    counts, confusion = run.counts, run.val.confusion
    hits, support = confusion.diagonal(), confusion.sum(axis=1)
    small = [index for index in range(len(run.classes)) if counts[index] * IMBALANCE <= counts.max() and support[index]]
    small = [
        index
        for index in small
        if confidence_interval(int(hits[index]), int(support[index]), len(small))[1] < run.val.accuracy - LEAST_LOSS
    ]
    if small:
        listed = some(
            f"{run.classes[index]} ({counted(counts[index], 'training image')}, {hits[index]} of {support[index]} "
            "correct)"
            for index in small
        )
        yield (
            "warning",
            f"Small classes are less accurate: {listed}; the largest class has {counts.max()} training images, and "
            f"{percent(run.val.accuracy, 0)} of all validation images are correct.",
            *_balance_remedy(run.config),
        )


def _balance_remedy(config: TrainConfig) -> tuple[str, dict[str, Any]]:
    """Return the remedy and the settings of its option."""
    if config.balance:
        return "More images of the small classes.", {}
    return "--balance, or more images of the small classes.", {"balance": True}
