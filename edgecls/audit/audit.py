"""The audit of a data set: near duplicates, labels, faults, classes and groups, and what they do to the accuracy."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.audit.judge import (
    Accuracies,
    add_votes,
    choose_l2,
    find_wrong_labels,
    measure_leak,
    score_by_neighbors,
    score_out_of_fold,
)
from edgecls.audit.material import Material, read_material
from edgecls.audit.names import clusters, propose_group
from edgecls.audit.near import find_near
from edgecls.audit.shapes import Shapes, measure_shapes
from edgecls.audit.single import Fault, find_faults, read_sizes
from edgecls.boards.versions import tool_versions
from edgecls.config import TrainConfig
from edgecls.images.layout import match_paths
from edgecls.images.parts import PARTS
from edgecls.progress import Progress, silent

FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    Attributes:
        material: the images.
        pairs: near duplicates: indices of two images and their correlation.
        wrong: image, likely class and margin of labels that are likely wrong, the most likely first.
        faults: of single images.
        accuracies: with and without the leak.
        random_accuracy: out of fold, copies kept together; None without groups.
        group_accuracy: out of fold, groups kept together; None without groups.
        group: the proposed or given pattern of groups, or the table of them; "" for none and for those of --labels.
        torn: groups that stand in two splits.
        shapes: what other ways to resize would give; None if the images have nearly one shape.
    """

    material: Material
    pairs: tuple[tuple[int, int, float], ...]
    wrong: tuple[tuple[int, int, float], ...]
    faults: tuple[Fault, ...]
    accuracies: Accuracies
    random_accuracy: float | None
    group_accuracy: float | None
    group: str
    torn: tuple[str, ...]
    shapes: Shapes | None

    def part(self, index: int) -> str:
        """Return "train", "val" or "test"."""
        return PARTS[int(self.material.parts[index])]

    def label(self, index: int) -> str:
        """Return the class of an image."""
        return self.material.dataset.classes[int(self.material.labels[index])]

    def across(self) -> list[tuple[int, int, float]]:
        """Return the near duplicates that stand in two splits."""
        return [pair for pair in self.pairs if self.part(pair[0]) != self.part(pair[1])]

    def contradictory(self) -> list[tuple[int, int, float]]:
        """Return the near duplicates with two labels."""
        return [pair for pair in self.pairs if self.label(pair[0]) != self.label(pair[1])]


def audit(data: Path, config: TrainConfig, progress: Progress = silent) -> Audit:
    """Return what is wrong with a data set, judged by its features from the frozen backbone.

    Args:
        data: as of `train`.
        config: settings; those of the data, the image size, the split and the weights are used.
        progress: called at each stage.

    Raises:
        DataError: the images cannot be used. WeightsError: there are no weights.
    """
    from threadpoolctl import threadpool_limits

    material = read_material(data, config, progress)
    # As of the solver: several threads wait for each other after each product on a busy machine.
    with threadpool_limits(1, user_api="blas"):
        pairs = find_near(material, progress)
    indices = [(int(one), int(other)) for one, other in pairs[:, :2]]
    # Other shots of one object have labels of their own: only copies must not judge each other.
    copies = [pair for pair, is_copy in zip(indices, pairs[:, 3], strict=True) if is_copy]
    cluster_of = clusters(len(material.paths), copies)
    l2 = choose_l2(material, cluster_of)
    scores = score_out_of_fold(material, cluster_of, l2, progress)
    group, group_of = _find_groups(material, config.group, indices)
    sizes = read_sizes(material)
    ratios = np.array([width / height if height else np.nan for width, height, _ in sizes])
    judged = ((scores + score_by_neighbors(material, cluster_of)) / 2).astype(np.float32)
    return Audit(
        material,
        tuple((one, other, float(value)) for (one, other), value in zip(indices, pairs[:, 2], strict=True)),
        tuple(find_wrong_labels(judged, material.labels, add_votes(judged, material.labels, pairs))),
        tuple(find_faults(material, sizes)),
        measure_leak(material, pairs, l2),
        _accuracy(scores, material) if group_of else None,
        _accuracy(_score_by_group(material, group_of, cluster_of, l2, progress), material) if group_of else None,
        group,
        _find_torn(material, group_of),
        measure_shapes(material, config, ratios, cluster_of, l2, progress),
    )


def _find_groups(material: Material, group: str, near: Sequence[tuple[int, int]]) -> tuple[str, Mapping[str, str]]:
    """Return the option that makes groups, and the group of each path; proposed if neither user nor table says them."""
    if group or material.group_of:
        return group, material.group_of
    group = propose_group(material.paths, near, material.dataset.classes)
    return group, match_paths(material.paths, group, "--group") if group else {}


def _score_by_group(
    material: Material, group_of: Mapping[str, str], cluster_of: Sequence[int], l2: float, progress: Progress
) -> NDArray[np.float32]:
    """Return scores out of fold with the images of a group, or else the copies of an image, in one fold."""
    units = [group_of.get(path) or f"\0{cluster}" for path, cluster in zip(material.paths, cluster_of, strict=True)]
    return score_out_of_fold(material, units, l2, progress)


def _accuracy(scores: NDArray[np.float32], material: Material) -> float:
    return float(np.mean(scores.argmax(1) == material.labels))


def _find_torn(material: Material, group_of: Mapping[str, str]) -> tuple[str, ...]:
    parts: dict[str, set[int]] = {}
    for path, part in zip(material.paths, material.parts.tolist(), strict=True):
        if group := group_of.get(path):
            parts.setdefault(group, set()).add(part)
    return tuple(sorted(group for group, found in parts.items() if len(found) > 1))


def to_json(found: Audit) -> dict[str, Any]:
    """Return audit.json."""
    material, paths = found.material, found.material.paths
    return {
        "format_version": FORMAT_VERSION,
        "data": str(material.dataset.root),
        "layout": list(material.dataset.notes),
        "left_out": material.dataset.left_out,
        "unreadable": [{"image": path, "reason": reason} for path, reason in material.dataset.bad],
        "images": len(paths),
        "classes": {
            name: {part: count for part, count in zip(PARTS, counts, strict=True) if count}
            for name, counts in list_counts(found)
        },
        "accuracy": dataclasses.asdict(found.accuracies),
        "near_duplicates": [
            {
                "images": [paths[i] for i in pair],
                "splits": [found.part(i) for i in pair],
                "labels": [found.label(i) for i in pair],
                "correlation": round(value, 4),
                "same_pixels": len({material.digests[i] for i in pair}) == 1,
            }
            for *pair, value in found.pairs
        ],
        "likely_wrong_labels": [
            {"image": paths[i], "label": found.label(i), "likely": material.dataset.classes[k], "margin": round(m, 4)}
            for i, k, m in found.wrong
        ],
        "faults": [{"image": paths[f.index], "kind": f.kind, "text": f.text} for f in found.faults],
        "shapes": dataclasses.asdict(found.shapes) if found.shapes else None,
        "groups": {
            "pattern": found.group,
            "in_several_splits": list(found.torn),
            "accuracy_of_random_folds": found.random_accuracy,
            "accuracy_of_folds_by_group": found.group_accuracy,
        },
        "versions": tool_versions("numpy", "pillow", "scipy", "tensorflow", "keras"),
    }


def list_counts(found: Audit) -> list[tuple[str, list[int]]]:
    """Return each class and its number of training, validation and test images."""
    table = Counter(zip(found.material.labels.tolist(), found.material.parts.tolist(), strict=True))
    return [
        (name, [table[index, part] for part in range(len(PARTS))])
        for index, name in enumerate(found.material.dataset.classes)
    ]
