"""A linear classifier's view of a data set: accuracy with and without the leak, and labels that are likely wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecls.audit.material import TEST, TRAIN, Material
from edgecls.audit.nearest import blocks_of_nearest, project
from edgecls.progress import Progress, silent
from edgecls.training.linear import L2_STRENGTHS, cross_entropy, fit_linear

FOLDS = 5
# The strength of the L2 penalty is chosen on the training images, of at most so many.
MOST_TO_CHOOSE = 4000
# A classifier learns from at most so many; of 56,000 images, one took 92 s of processor time.
MOST_LEARNED = 20_000
# Images whose labels say what an image is, by the nearest features in so many principal components, and how much more
# the nearest one counts; and how many more are looked at because of copies.
NEIGHBORS, COMPONENTS, SHARPNESS, SPARE = 15, 128, 10.0, 20
SMALLEST_MEAN = 1e-6
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Accuracies:
    """Accuracy of a linear classifier on the features, 0..1, on the same images.

    Attributes:
        images: number of test images; of the validation images if there is no test.
        part: "test" or "validation".
        with_leak: trained on all training images.
        without_copies: trained without copies of test images, which is the accuracy without the leak; None if nothing
            can be learned without them.
        copies: number of training images that are such copies.
        without_near_duplicates: trained without any near duplicates of test images, such as other shots of the same
            object; None if nothing can be learned without them.
        near_duplicates: number of training images that are near duplicates, copies among them.
    """

    images: int
    part: str
    with_leak: float
    without_copies: float | None
    copies: int
    without_near_duplicates: float | None
    near_duplicates: int


def choose_l2(material: Material, units: Sequence[object]) -> float:
    """Return the strength of the L2 penalty with the least loss on a fifth of the training images.

    `units` are those of `score_out_of_fold`.
    """
    train = np.flatnonzero(material.parts == TRAIN)
    if len(train) > MOST_TO_CHOOSE:
        train = np.sort(np.random.default_rng(0).permutation(train)[:MOST_TO_CHOOSE])
    labels, count = _dense(material.labels[train])
    fold = _divide(labels, [units[index] for index in train.tolist()])
    features, inside, outside = material.take(train), fold != 0, fold == 0
    # A class may have all its images in one fold.
    outside &= np.isin(labels, labels[inside])
    inner, inner_count = _dense(labels[inside])
    if inner_count < 2 or not outside.any():
        return L2_STRENGTHS[len(L2_STRENGTHS) // 2]
    judged = np.searchsorted(np.unique(labels[inside]), labels[outside])

    def loss(l2: float) -> float:
        return cross_entropy(
            fit_linear([features[inside]], inner, inner_count, l2=l2).predict(features[outside]), judged
        )

    return min(L2_STRENGTHS, key=loss)


def measure_leak(material: Material, pairs: NDArray[np.float64], l2: float) -> Accuracies:
    """Return the accuracy with and without the training images that are near duplicates of test images."""
    has_test = bool((material.parts == TEST).any())
    judged = np.flatnonzero(material.parts == (TEST if has_test else material.parts.max()))
    learned = np.flatnonzero(material.parts < material.parts[judged[0]])

    def find_leak(chosen: NDArray[np.float64]) -> Indices:
        ones, others = chosen[:, 0].astype(np.int64), chosen[:, 1].astype(np.int64)
        torn = np.isin(ones, learned) & np.isin(others, judged)
        # A copy of a copy leaks too.
        return np.intersect1d(learned, _reach(np.unique(others[torn]), ones, others))

    near = find_leak(pairs)
    used = np.union1d(_sample(np.setdiff1d(learned, near)), near)
    before = _accuracy(material, used, judged, l2)

    def measure(chosen: NDArray[np.float64]) -> tuple[float | None, int]:
        leak = find_leak(chosen)
        if not len(leak):
            return before, 0
        clean = np.setdiff1d(used, leak)
        enough = len(np.unique(material.labels[clean])) > 1
        return _accuracy(material, clean, judged, l2) if enough else None, len(leak)

    copies, others = measure(pairs[pairs[:, 3] > 0]), measure(pairs)
    return Accuracies(len(judged), "test" if has_test else "validation", before, *copies, *others)


def _sample(chosen: Indices) -> Indices:
    """Return at most `MOST_LEARNED` of the images, in order."""
    return np.sort(np.random.default_rng(0).permutation(chosen)[:MOST_LEARNED])


def _reach(start: Indices, ones: Indices, others: Indices) -> Indices:
    """Return the images that are near duplicates of those in `start`."""
    return np.unique(np.concatenate([start, ones[np.isin(others, start)], others[np.isin(ones, start)]]))


def _accuracy(material: Material, learned: Indices, judged: Indices, l2: float) -> float:
    labels, count = _dense(material.labels[learned])
    known = np.unique(material.labels[learned])
    fit = fit_linear([material.take(learned)], labels, count, l2=l2)
    predicted = known[fit.predict(material.take(judged)).argmax(1)]
    return float(np.mean(predicted == material.labels[judged]))


def _dense(labels: Indices) -> tuple[Indices, int]:
    """Return the labels counted from 0 without gaps, and how many there are."""
    known, dense = np.unique(labels, return_inverse=True)
    return dense.astype(np.int64), len(known)


def score_out_of_fold(
    material: Material, units: Sequence[object], l2: float, progress: Progress = silent
) -> NDArray[np.float32]:
    """Return scores, float32 (N, C), of each image by a classifier that saw no image of the same unit.

    Args:
        material: images of all splits.
        units: what each image belongs to: a cluster of copies, or a group.
        l2: of `choose_l2`.
        progress: called at each fold.
    """
    fold_of = _divide(material.labels, units)
    scores = np.zeros((len(material.labels), len(material.dataset.classes)), np.float32)
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        inside = _sample(inside)
        labels, count = _dense(material.labels[inside])
        if not len(outside) or count < 2:
            continue
        fit = fit_linear([material.take(inside)], labels, count, l2=l2)
        scores[np.ix_(outside, np.unique(material.labels[inside]))] = fit.predict(material.take(outside))
        progress("check the labels", fold + 1, FOLDS)
    return scores


def _divide(labels: Indices, units: Sequence[object]) -> Indices:
    """Return the fold of each image: units stay whole, and the units of each class are spread evenly."""
    known, unit = np.unique(np.array([str(each) for each in units]), return_inverse=True)
    label_of = np.zeros(len(known), np.int64)
    label_of[unit] = labels
    order = np.random.default_rng(0).permutation(len(known))
    order = order[np.argsort(label_of[order], kind="stable")]
    fold = np.empty(len(known), np.int64)
    fold[order] = np.arange(len(known)) % FOLDS
    return fold[unit]


def score_by_neighbors(material: Material, units: Sequence[object]) -> NDArray[np.float32]:
    """Return the weighted labels, float32 (N, C), of the images with the nearest features; rows add up to 1 or 0.

    Unlike a linear classifier, they show a wrong label within a part of a class. `units` are those of
    `score_out_of_fold`: images of the same unit do not count.
    """
    _, unit_of = np.unique(np.array([str(each) for each in units]), return_inverse=True)
    every = np.arange(len(material.labels))
    result = np.zeros((len(every), len(material.dataset.classes)), np.float32)
    for start, alike, nearest in blocks_of_nearest(project(material.take(every), COMPONENTS), NEIGHBORS + SPARE):
        rows = start + np.arange(len(nearest))
        other = unit_of[nearest] != unit_of[rows, np.newaxis]
        used = other & (other.cumsum(1) <= NEIGHBORS)
        weights = np.exp(SHARPNESS * (np.take_along_axis(alike, nearest, 1) - 1)) * used
        np.add.at(result, (rows[:, np.newaxis], material.labels[nearest]), weights)
    result /= np.maximum(result.sum(1, keepdims=True), np.finfo(np.float32).tiny)
    return result


def add_votes(scores: NDArray[np.float32], labels: Indices, pairs: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the scores, float32 (N, C), averaged with the labels of each image's near duplicates.

    What another shot of the same object is labeled says as much of the object as the classifier does.
    """
    total, count = scores.copy(), np.ones(len(labels), np.float32)
    for own, other in ((pairs[:, 0], pairs[:, 1]), (pairs[:, 1], pairs[:, 0])):
        index = own.astype(np.int64)
        np.add.at(total, (index, labels[other.astype(np.int64)]), 1)
        np.add.at(count, index, 1)
    result: NDArray[np.float32] = total / count[:, None]
    return result


def find_wrong_labels(
    scores: NDArray[np.float32], labels: Indices, votes: NDArray[np.float32] | None = None
) -> list[tuple[int, int, float]]:
    """Return (image, likely class, margin) of images whose label is likely wrong, the most likely first.

    By confident learning (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068): an image counts as one of another class
    if its score there reaches the mean score of the images that are labeled so, and is its highest. As many images as
    that are returned: those with the lowest score of their label, as a part of the mean score of images labeled so. The
    margin is the difference between the likely class's score and the label's, 0..1.

    Args:
        scores: by classifiers that did not see the image, whose means are reached.
        labels: of the images.
        votes: of `add_votes`, which are ranked; None ranks the scores.
    """
    judged = scores if votes is None else votes
    count, rows = scores.shape[1], np.arange(len(labels))
    means = np.array(
        [scores[labels == k, k].mean() if (labels == k).any() else np.inf for k in range(count)], np.float32
    )
    confident = np.where(judged >= means, judged, -1)
    number = int(((confident.max(1) > 0) & (confident.argmax(1) != labels)).sum())
    likely, own = judged.argmax(1), judged[rows, labels]
    doubted = np.flatnonzero(likely != labels)
    order = np.argsort((own / np.maximum(means[labels], SMALLEST_MEAN))[doubted], kind="stable")
    wrong = doubted[order][:number]
    return [(int(i), int(likely[i]), float(judged[i, likely[i]] - own[i])) for i in wrong]
