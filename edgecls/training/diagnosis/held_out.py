"""Rules about what the validation and test images prove: whether there are enough, what they say, and if they agree.

Imports numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.evaluate import calibration_error, wilson_interval
from edgecls.messages.numbers import percent
from edgecls.training.diagnosis.evidence import Evidence
from edgecls.training.diagnosis.finding import Problem, Scored

# Of an accuracy: if the 95 % interval is wider, a good network cannot be told from a poor one.
WIDEST_INTERVAL = 0.2
# From this fraction of the way from chance to 1 on, mean recall shows that a network tells classes apart, even if its
# accuracy is that of the largest class.
USEFUL_RECALL = 0.5
# Calibration errors below are no problem; above, so many draws decide whether chance explains them.
# Scores that are too low mislead nobody, so that dropout and few epochs are forgiven more.
LEAST_ECE, LEAST_ECE_TOO_LOW, DRAWS = 0.1, 0.25, 200
# MobileNetV2 divides the side by 32, and its published weights are of images of 96 to 224 pixels.
LEAST_SIDE, USUAL_SIDE, STRIDE = 96, 128, 32
# Fewer mistakes leave nothing to gain.
FEW_MISTAKES = 0.05


def check_majority(run: Evidence) -> Iterator[Problem]:
    """Yield that the network answers no better than one that always names the largest class."""
    parts = [part for part in (run.val, run.test) if part is not None and _is_enough(part)]
    if not parts:
        return
    confusion = np.sum([part.confusion for part in parts], axis=0)
    support, images, hits = confusion.sum(axis=1), int(confusion.sum()), int(confusion.trace())
    largest = int(support.argmax())
    low, high = wilson_interval(hits, images)
    if low > support[largest] / images:
        return
    known = support > 0
    recall, chance = float((confusion.diagonal()[known] / support[known]).mean()), 1 / int(known.sum())
    yield (
        "warning" if recall - chance >= USEFUL_RECALL * (1 - chance) else "error",
        f"The network is no better than always answering {run.classes[largest]}: {hits} of {images} "
        f"{' and '.join(part.part for part in parts)} images are correct ({percent(hits / images)}, 95 % interval "
        f"{percent(low)} to {percent(high)}), and {percent(support[largest] / images)} of them are "
        f"{run.classes[largest]}. The mean recall of the classes is {percent(recall, 0)}; by chance it is "
        f"{percent(chance, 0)}.",
        *_majority_remedy(run),
    )


def _majority_remedy(run: Evidence) -> tuple[str, dict[str, Any]]:
    config, look = run.config, "and look at the images: can a person tell the classes apart?"
    if run.is_short:
        return f"{run.more_epochs}: training ended before it could settle.", {}
    if config.preset:
        return f"Leave out --preset: the default starts from a trained network; {look}", {}
    if not config.uses_backbone:
        return f"--arch mobilenet_v2, which starts from a trained network; {look}", {}
    if not config.balance:
        return f"--balance, or --unfreeze 3; {look}", {"balance": True}
    return f"--unfreeze 3; {look}", {}


def check_enough(part: Scored | None, run: Evidence) -> Iterator[Problem]:
    """Yield that a split has too few images for its accuracy to mean anything."""
    if part is None or _is_enough(part):
        return
    kept = ""
    if part.part == "validation":
        kept = " They also decide which epoch and which phase is kept, which is left to chance with so few."
    yield (
        "warning",
        f"There are too few {part.part} images to judge the network: {_result(part)}.{kept}",
        _more_images(part, run),
    )


def _more_images(part: Scored, run: Evidence) -> str:
    config = run.config
    # What would be held out if neither folders nor groups stood against it.
    other = round(config.val_fraction * len(run.labels))
    if part.part == "validation" and other >= 2 * len(part.labels):
        if config.group:
            return (
                "Give a --group that makes more groups, or remove the folder val if there is one: then about "
                f"{other} of the training images are held out. Or add images."
            )
        # A table says the splits, or groups of its own.
        if not (config.labels or config.class_from):
            return (
                f"Remove the folder val: then {other} of the training images are held out instead. Or add images to it."
            )
    return f"Add {part.part} images: with 100 of them the interval is at most 20 points wide."


def check_agreement(run: Evidence) -> Iterator[Problem]:
    """Yield that the test images contradict the validation images."""
    val, test = run.val, run.test
    if val is None or test is None:
        return
    if _interval(test)[1] < _interval(val)[0]:
        yield (
            "warning",
            f"Accuracy on the test images is much lower than on the validation images: {_result(test)}, but "
            f"{_result(val)}.",
            "Rely on the test images. Make sure that the images of all splits show the same things, and that their "
            "labels are correct.",
        )


def check_reverse(run: Evidence) -> Iterator[Problem]:
    """Yield that the validation images are harder than the test images, although they chose the weights."""
    val, test = run.val, run.test
    if val is not None and test is not None and _interval(val)[1] < _interval(test)[0]:
        yield (
            "warning",
            f"Accuracy on the validation images is much lower than on the test images: {_result(val)}, but "
            f"{_result(test)}.",
            "Rely on the lower one. Look for test images that are also in train, and make sure that all splits show "
            "the same things.",
        )


def check_calibration(run: Evidence) -> Iterator[Problem]:
    """Yield that scores are far from the fraction of correct predictions, and chance does not explain it."""
    parts = [part for part in (run.val, run.test) if part is not None]
    if not parts:
        return
    highest = np.concatenate([part.copies[0].max(axis=1) for part in parts])
    correct = np.concatenate([part.copies[0].argmax(axis=1) == part.labels for part in parts])
    error = calibration_error(highest, correct)
    mean, accuracy = float(highest.mean()), float(correct.mean())
    least = LEAST_ECE if mean > accuracy else LEAST_ECE_TOO_LOW
    if error < least or error <= _by_chance(highest):
        return
    yield (
        "warning",
        f"The scores are too {'high' if mean > accuracy else 'low'}: they are {percent(mean, 0)} on average, but "
        f"{percent(accuracy, 0)} of the {len(correct)} {' and '.join(part.part for part in parts)} images are correct "
        f"(calibration error {error:.2f}). A threshold on a score does not mean what it says.",
        *_calibration_remedy(run.config, too_high=mean > accuracy),
    )


def _by_chance(highest: NDArray[np.floating[Any]]) -> float:
    """Return the calibration error that perfectly calibrated scores exceed once in 100 times.

    Consistency resampling: Broecker and Smith 2007, "Increasing the Reliability of Reliability Diagrams", Weather and
    Forecasting 22, p. 651-661.
    """
    random = np.random.default_rng(0)
    draws = [calibration_error(highest, random.random(len(highest)) < highest) for _ in range(DRAWS)]
    return float(np.quantile(draws, 0.99))


def _calibration_remedy(config: TrainConfig, *, too_high: bool) -> tuple[str, dict[str, Any]]:
    if too_high and not config.label_smoothing:
        return "--label-smoothing 0.1, or more images.", {"label_smoothing": 0.1}
    if not too_high and config.label_smoothing:
        return "--label-smoothing 0, or more epochs.", {"label_smoothing": 0.0}
    return ("More images, or less training (--epochs)." if too_high else "More --epochs, or less --dropout."), {}


def check_side(run: Evidence) -> Iterator[Problem]:
    """Yield that the backbone sees images that are too small for it, and makes mistakes."""
    side, parts = run.config.image_size, [part for part in (run.val, run.test) if part is not None]
    if not run.config.uses_backbone or side >= LEAST_SIDE or not parts:
        return
    images = sum(len(part.labels) for part in parts)
    wrong = images - sum(int(part.confusion.trace()) for part in parts)
    if wrong <= FEW_MISTAKES * images:
        return
    cells = -(-side // STRIDE)
    yield (
        "warning",
        f"The images are very small for MobileNetV2: of {side} x {side} pixels, its last layers see {cells} x {cells} "
        f"places. {wrong} of {images} held-out images are incorrect.",
        f"--image-size {USUAL_SIDE}, which takes longer.",
    )


def _is_enough(part: Scored) -> bool:
    low, high = _interval(part)
    return high - low <= WIDEST_INTERVAL


def _interval(part: Scored) -> tuple[float, float]:
    return wilson_interval(int(part.confusion.trace()), len(part.labels))


def _result(part: Scored) -> str:
    low, high = _interval(part)
    correct = f"{part.confusion.trace()} of {len(part.labels)} {part.part} images are correct"
    return f"{correct} (95 % interval {percent(low, 0)} to {percent(high, 0)})"
