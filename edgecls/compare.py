"""Compares two exported files, each in its own runtime, on the same labeled images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecls.errors import DataError
from edgecls.evaluate import SIGNIFICANT_P, Evaluation, mcnemar_p, score, score_images
from edgecls.images.dataset import Split, load_paths
from edgecls.images.depth import warn_of_nearly_black
from edgecls.images.folders import Groups, Sample, check_known, check_root, to_samples
from edgecls.images.layout import FOLDERS, Layout, list_scored
from edgecls.images.leftovers import LeftOut
from edgecls.messages.lists import some
from edgecls.runtime.classifier import Classifier

Progress = Callable[[str, int, int], None]  # stage, done, total
MOST_PICTURES = 500
PICTURE_PIXELS = 160
REJECTED = "rejected"


@dataclass(frozen=True, eq=False)
class Flip:
    """An image that only one of the two files labels correctly.

    Attributes:
        path: of the image.
        label: its class.
        new: the label that the new file gives it; "rejected" if its highest score is below the file's threshold, and
            "(rejected)" if a class is called so.
        old: the label that the old file gives it, likewise.
        picture: the image as the new file sees it, at most 160 pixels wide and high; None after the first 500 flips.
    """

    path: Path
    label: str
    new: str
    old: str
    picture: Image.Image | None

    @property
    def fixed(self) -> bool:
        """Return True if the new file is correct, False if the old one is."""
        return self.new == self.label


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """A new file against an old one.

    Attributes:
        new: metrics of the new file, over the classes of both.
        old: metrics of the old file, over the classes of both.
        flips: images that one file labels correctly and the other does not.
        images: the paths of all images in each folder.
    """

    new: Evaluation
    old: Evaluation
    flips: tuple[Flip, ...]
    images: Mapping[Path, Sequence[str]] = field(default_factory=dict)

    @property
    def fixed(self) -> int:
        """Return the number of images that only the new file labels correctly."""
        return sum(flip.fixed for flip in self.flips)

    @property
    def broken(self) -> int:
        """Return the number of images that only the old file labels correctly."""
        return len(self.flips) - self.fixed

    @property
    def p_value(self) -> float:
        """Return the probability of so unequal flips, or more unequal ones, if both files were equally good."""
        return mcnemar_p(self.broken, self.fixed)

    @property
    def verdict(self) -> str:
        """Return "better" or "worse" if the difference is significant, else "not worse"."""
        if self.p_value >= SIGNIFICANT_P:
            return "not worse"
        return "better" if self.fixed > self.broken else "worse"

    @property
    def worse_classes(self) -> list[str]:
        """Return the classes that are significantly worse, with Bonferroni's correction for their number."""
        found = []
        for label in self.new.per_class:
            fixed = [flip.fixed for flip in self.flips if flip.label == label]
            lost, won = fixed.count(False), fixed.count(True)
            if lost > won and mcnemar_p(lost, won) * len(self.new.per_class) < SIGNIFICANT_P:
                found.append(label)
        return found

    @property
    def least_broken(self) -> int:
        """Return how many broken images, beside the fixed ones, would make the verdict "worse"."""
        broken = self.fixed + 1
        while mcnemar_p(broken, self.fixed) >= SIGNIFICANT_P:
            broken += 1
        return broken

    def to_json(self) -> dict[str, Any]:
        """Return what `compare --json` prints, without the names of the files."""
        return {
            "verdict": self.verdict,
            "images": self.new.images,
            "accuracy": {"new": self.new.accuracy, "old": self.old.accuracy},
            "flips": {"fixed": self.fixed, "broken": self.broken},
            "p_value": self.p_value,
            "worse_classes": self.worse_classes,
            "macro_f1": {"new": self.new.macro_f1, "old": self.old.macro_f1},
            "per_class": {
                label: {"support": new.support, "recall": {"new": new.recall, "old": self.old.per_class[label].recall}}
                for label, new in self.new.per_class.items()
            },
            "flipped_images": [
                {"image": str(flip.path), "label": flip.label, "new": flip.new, "old": flip.old} for flip in self.flips
            ],
        }


def compare_files(
    new: Classifier,
    old: Classifier,
    folders: Sequence[Path | tuple[Path, Groups]],
    *,
    layout: Layout = FOLDERS,
    left_out: LeftOut | None = None,
    report: Callable[[str], object] = lambda note: None,
    progress: Progress | None = None,
) -> ModelComparison:
    """Return how a new file does against an old one on the images that `list_scored` finds in folders.

    Labels are compared by name; a class that one of the files does not know counts as incorrect there. Each file labels
    an image as `predict` does, with its own thresholds; a rejected image counts as incorrect.

    A folder may be given with those of its images, by class, that are meant. `report` is called with each sentence
    about how the images were read.

    Raises:
        DataError: a folder has no class folders that at least one of the files knows, images cannot be read, or an
            image is in two of the folders.
        ModelFileError: a network returned scores that are NaN or infinite.
    """
    classes = (*new.spec.labels, *(label for label in old.spec.labels if label not in new.spec.labels))
    seen: dict[Path, Path] = {}
    images: dict[Path, Sequence[str]] = {}
    decided: list[NDArray[np.int64]] = []
    flips: list[Flip] = []
    for given in folders:
        folder, samples = _list(given, classes, layout, left_out, report)
        splits = _load(folder, samples, (new, old), progress)
        _check_new(folder, splits[0], seen)
        images[folder] = splits[0].paths
        now = _decide(new, splits[0].images, classes, "the new", progress)
        before = _decide(old, splits[1].images, classes, "the old", progress)
        decided.append(np.stack([splits[0].labels, now, before]))
        flips += _find_flips(folder, splits[0], now, before, classes, MOST_PICTURES - len(flips))
    truth, now, before = np.concatenate(decided, axis=1)
    return ModelComparison(_evaluate(now, truth, classes), _evaluate(before, truth, classes), tuple(flips), images)


def _list(
    given: Path | tuple[Path, Groups],
    classes: Sequence[str],
    layout: Layout,
    left_out: LeftOut | None,
    report: Callable[[str], object],
) -> tuple[Path, list[Sample]]:
    """Return a folder and its images that are meant; `report` is called with how they were read."""
    if isinstance(given, Path):
        found = list_scored(given, classes, layout, left_out)
        for note in found.notes:
            report(note)
        return check_root(given), found.samples
    root, groups = check_root(given[0]), given[1]
    check_known(groups, classes, f"the classes of the held-out images in {root}", "rename classes")
    return root, to_samples(groups, classes)


def _load(
    folder: Path, samples: Sequence[Sample], classifiers: tuple[Classifier, Classifier], progress: Progress | None
) -> list[Split]:
    """Return the images of a folder as each of the two files takes them, in the same order."""
    paths, labels = [path for path, _ in samples], [label for _, label in samples]
    splits: dict[tuple[Any, ...], Split] = {}
    wanted = [(each.spec.height, each.spec.width, each.spec.preprocessing) for each in classifiers]
    for height, width, preprocessing in dict.fromkeys(wanted):
        report = None if progress is None else lambda done, total: progress(f"read {folder}", done, total)
        splits[height, width, preprocessing] = load_paths(
            folder, paths, labels, height, width, preprocessing=preprocessing, progress=report
        )
        warn_of_nearly_black(splits[height, width, preprocessing].scales)
    return [splits[each] for each in wanted]


def _check_new(folder: Path, split: Split, seen: dict[Path, Path]) -> None:
    """Add the images to `seen`; raise DataError for one that another folder brought."""
    for path in split.paths:
        image = (folder / path).resolve()
        if image in seen:
            raise DataError(
                f"{image} is in {seen[image]} and in {folder}: it would count twice; name each folder of images once"
            )
        seen[image] = folder


def _decide(
    classifier: Classifier, images: NDArray[np.uint8], classes: Sequence[str], name: str, progress: Progress | None
) -> NDArray[np.int64]:
    """Return the index in `classes` of the label of each image, int64 (N,); `len(classes)` for a rejected one."""
    report = None if progress is None else lambda done, total: progress(f"score with {name} file", done, total)
    scores = score_images(classifier, images, report)
    place = np.array([classes.index(label) for label in classifier.spec.labels], np.int64)
    decided = place[[classifier.spec.decide(row)[0] for row in scores]]
    if classifier.threshold is not None:
        decided[scores.max(1) < classifier.threshold] = len(classes)
    return decided


def _evaluate(decided: NDArray[np.int64], truth: NDArray[np.int64], classes: Sequence[str]) -> Evaluation:
    """Return the metrics of labels, as `_decide` returns them."""
    with_rejected = _with_rejected(classes)
    found = score(np.eye(len(with_rejected), dtype=np.float32)[decided], truth, with_rejected)
    per_class = {label: found.per_class[label] for label in classes}
    return replace(found, per_class=per_class, confusion=found.confusion[:-1, :-1])


def _with_rejected(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the labels of `_decide`; a class may be called "rejected" itself."""
    name = REJECTED
    while name in classes:
        name = f"({name})"
    return (*classes, name)


def _find_flips(
    folder: Path,
    split: Split,
    new: NDArray[np.int64],
    old: NDArray[np.int64],
    classes: Sequence[str],
    most_pictures: int,
) -> Iterator[Flip]:
    names = _with_rejected(classes)
    flipped = np.flatnonzero((new == split.labels) != (old == split.labels))
    for count, index in enumerate(flipped):
        truth, now, before = (names[table[index]] for table in (split.labels, new, old))
        picture = _shrink(split.images[index]) if count < most_pictures else None
        yield Flip(folder / split.paths[index], truth, now, before, picture)


def _shrink(image: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(image[:, :, 0])
    picture.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
    return picture


def describe_unknown(new: Classifier, old: Classifier) -> list[str]:
    """Return a sentence for each of the two files that does not know all classes of the other."""
    sentences = []
    for name, known, other in (("new", new.spec.labels, old.spec.labels), ("old", old.spec.labels, new.spec.labels)):
        if unknown := [label for label in other if label not in known]:
            sentences.append(f"The {name} file does not know {some(unknown)}: it labels their images incorrectly.")
    return sentences
