"""Checks which class each output of a model stands for, on labeled training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import ConfigError, DataError
from edgecls.evaluate import SIGNIFICANT_P, count_flips, mcnemar_p, wilson_interval
from edgecls.imported.assignment import assign
from edgecls.messages.lists import some
from edgecls.messages.numbers import percent

# Standard errors of the intervals, and the p-value of the comparison: stricter than usual, as the best of all orders is
# compared with one.
STRICT_Z = 3.3
STRICT_P = 1e-3
SHOWN_CLASSES = 20


@dataclass(frozen=True)
class ClassOrder:
    """The class of each output.

    Attributes:
        classes: names in the order of the outputs.
        accuracy: on the training images, 0..1.
        images: how many.
        text: what was found, as a sentence.
        doubt: why the order may be wrong, or "".
    """

    classes: tuple[str, ...]
    accuracy: float
    images: int
    text: str
    doubt: str = ""


def parse_classes(text: str, folders: Sequence[str]) -> tuple[str, ...]:
    """Return the names in "A,B": those of all class folders, in the order of the model's outputs.

    Raises:
        ConfigError: they are not.
    """
    names = tuple(name.strip() for name in text.split(","))
    if sorted(names) != sorted(folders):
        raise ConfigError(
            f"--classes must name every class folder once, in the order of the model's outputs: "
            f"{some(sorted(folders), SHOWN_CLASSES)}; received {some(names, SHOWN_CLASSES)}"
        )
    return names


def check_count(outputs: int, folders: Sequence[str]) -> None:
    """Raise DataError if a model has more or fewer outputs than there are class folders."""
    if outputs != len(folders):
        raise DataError(
            f"the model tells {outputs} classes apart, and the data has {len(folders)} class folders "
            f"({some(folders, SHOWN_CLASSES)}). Give a folder of images for each of its classes"
        )


def check_order(
    scores: NDArray[np.float32], labels: NDArray[np.int64], folders: Sequence[str], given: Sequence[str] | None
) -> ClassOrder:
    """Return the class of each output: `given`, or the alphabetical order of the folders if the images confirm it.

    Args:
        scores: float32 (N, C) on training images.
        labels: int64 (N,), index into `folders`.
        folders: the class names in alphabetical order, as Keras numbers them.
        given: the names that the user gave for the outputs, or None.

    Raises:
        DataError: the images do not confirm the order.
    """
    names = tuple(given or folders)
    outputs = np.array([names.index(name) for name in folders])
    best, predicted = assign(scores, labels), scores.argmax(1)
    hits, best_hits = outputs[labels] == predicted, best[labels] == predicted
    accuracy, best_accuracy, count = float(hits.mean()), float(best_hits.mean()), len(labels)
    order = ",".join(np.array(folders)[np.argsort(best)].tolist())
    lost, won = count_flips(best_hits, hits)
    p_value = mcnemar_p(won, lost) if lost > won else 1.0
    is_worse = p_value < STRICT_P
    chance = _chance(outputs[labels], predicted)
    is_known = wilson_interval(int(hits.sum()), count, STRICT_Z)[0] > chance
    figures, best_figure = f"{percent(accuracy)} of {count} training images", percent(best_accuracy)
    other = (
        f"as {some(names, SHOWN_CLASSES)} they label {figures} correctly, as {order} {best_figure}. "
        f"If the model was trained in that order, give --classes {order}"
    )
    if is_worse and best_accuracy > (1 + 1 / len(folders)) / 2:
        raise DataError(f"the outputs are in another order: {other}")
    problem = f"the outputs may be in another order: {other}" if p_value < SIGNIFICANT_P else ""
    if is_worse or not is_known:
        better = f" ({best_figure} in the order {order})" if is_worse else ""
        problem = _describe_doubt(f"{figures} correctly{better}", chance)
        if given is None:
            raise DataError(f"{problem}. To import it anyway, give --scaling and --classes")
    where = "as given" if given else f"alphabetical order {'assumed' if problem else 'confirmed'}"
    return ClassOrder(names, accuracy, count, f"{where}: {figures} correct", problem)


def _describe_doubt(found: str, chance: float) -> str:
    return (
        f"the model labels only {found}, and {percent(chance)} would be correct by chance, so the images do not "
        "confirm its classes. It may have been trained on other classes, or with other preprocessing: for standardized "
        "images give --scaling SCALE,OFFSET (pixel * SCALE + OFFSET), for inverted ones such as --scaling -0.00392,1"
    )


def _chance(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Return the accuracy of predictions with these frequencies that do not look at the images, as in Cohen's kappa.

    With frequent and rare classes, always answering the frequent one is often correct and confirms nothing.
    """
    values = np.unique(truth)
    return float(sum((truth == value).mean() * (predicted == value).mean() for value in values))
