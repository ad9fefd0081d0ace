"""What a finished run reports: run.json, its metrics, warnings and the findings about its images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.versions import tool_versions
from edgecls.config import TrainConfig
from edgecls.evaluate import describe_confusions, score
from edgecls.images.dataset import Dataset, Split
from edgecls.images.depth import advise
from edgecls.images.folders import find_good_class
from edgecls.inspection import count_rates
from edgecls.messages.lists import counted, some
from edgecls.networks.weights import Weights
from edgecls.training.diagnosis.diagnose import NO_PROBLEMS, merge_findings
from edgecls.training.diagnosis.finding import Finding
from edgecls.training.phase_names import phase_name
from edgecls.training.phases import Training
from edgecls.training.run import run_folder


def metrics(scores: dict[str, NDArray[np.float32]], dataset: Dataset, good_class: str = "") -> dict[str, Any]:
    """Return the metrics of run.json.

    All but the first two are of the held-out images: the test images, or the validation images if there is no test.
    """
    results = {"val": score(scores["val"], dataset.val.labels, dataset.classes)}
    if dataset.test is not None:
        results["test"] = score(scores["test"], dataset.test.labels, dataset.classes)
    final, inspection = results.get("test", results["val"]), {}
    if good_class:
        split, held_out = ("test", dataset.test) if dataset.test else ("val", dataset.val)
        index = find_good_class(good_class, dataset.classes)
        good_class = dataset.classes[index]
        rates = count_rates(scores[split], held_out.labels, index)
        inspection = {"good_class": good_class, "threshold": None, "split": split, "held_out": rates.to_json()}
    return {
        "val_accuracy": results["val"].accuracy,
        "test_accuracy": results["test"].accuracy if "test" in results else None,
        "macro_f1": final.macro_f1,
        "per_class": final.to_json()["per_class"],
        "confusions": describe_confusions(final, good_class),
        **({"inspection": inspection} if inspection else {}),
    }


def make_record(config: TrainConfig, weights: Weights | None, dataset: Dataset, data: Path) -> dict[str, Any]:
    """Return run.json without what is known only at the end: metrics, phases, diagnosis, seconds."""
    splits = {"train": dataset.train, "val": dataset.val} | ({"test": dataset.test} if dataset.test else {})
    held_out = "test" if dataset.test else "val"
    return {
        "format_version": 1,
        "arch": config.arch,
        "config": dataclasses.asdict(config),
        "classes": list(dataset.classes),
        "weights": {"source": weights.source if weights else "none", "sha256": weights.sha256 if weights else None},
        "data": str(dataset.root),
        **({"folders": [str(data.resolve()), *config.more_data]} if config.more_data else {}),
        "split": {name: _paths_by_class(split, dataset.classes) for name, split in splits.items()},
        "held_out": {"split": held_out, "sha256": run_folder.images_sha256(splits[held_out].images)},
        "train_sha256": run_folder.images_sha256(dataset.train.images),
        "val_sha256": run_folder.images_sha256(dataset.val.images),
        "skipped": [{"path": path, "reason": reason} for path, reason in dataset.bad],
        "duplicates": [list(group) for group in dataset.duplicates],
        "contradictions": [list(group) for group in dataset.contradictions],
        "layout": list(dataset.notes),
        "left_out": dataset.left_out,
        "versions": tool_versions("tensorflow", "tensorflow-cpu", "keras", "numpy", "pillow", "openvino"),
    }


def _paths_by_class(split: Split, classes: tuple[str, ...]) -> dict[str, list[str]]:
    paths = np.array(split.paths, object)
    return {name: list(paths[split.labels == index]) for index, name in enumerate(classes)}


def warnings(
    dataset: Dataset, weights: Weights | None, training: Training, config: TrainConfig, seconds: float
) -> tuple[str, ...]:
    """Return the warnings of a run that are not in its diagnosis."""
    found = []
    tuned = any(phase.unfreeze for phase in training.phases if phase.kept)
    if weights and weights.source == "none" and not tuned:
        found.append("the frozen backbone has random weights (--weights none), so accuracy will be low")
    found += data_warnings(dataset)
    # Augmented copies, and the fine-tuning of an effort, are tried; a phase that the user asked for deserves a warning.
    tried = {"augmented"} if config.main_effort == "quick" else {"augmented", "fine-tuning", "backbone"}
    asked = [phase for phase in training.phases if phase_name(phase.name) not in tried]
    found += [f"{phase_name(phase.name)}: {phase.reason}" for phase in asked if not phase.kept]
    if config.time_budget_s is not None and seconds > config.time_budget_s:
        found.append(
            f"the run took {seconds:.0f} s, longer than the time budget of {config.time_budget_s:.0f} s: one pass over "
            "the images takes longer; use a smaller --image-size"
        )
    return tuple(found)


def data_warnings(dataset: Dataset) -> list[str]:
    """Return the warnings about the images."""
    bad = counted(len(dataset.bad), "unreadable file was", "unreadable files were")
    skipped = [f"{bad} skipped; run.json lists them"] if dataset.bad else []
    bits = advise(dataset.scales, "--bits")
    return [*skipped, *bits, *dataset.doubts, *_find_copies(dataset), *_find_missing(dataset)]


def add_data_findings(findings: Sequence[Finding], dataset: Dataset) -> tuple[Finding, ...]:
    """Return the diagnosis with the findings about the images; it has no problems only if they have none either."""
    merged = merge_findings(findings, find_contradictions(dataset))
    return () if merged == (NO_PROBLEMS,) and data_warnings(dataset) else merged


def find_contradictions(dataset: Dataset) -> tuple[Finding, ...]:
    """Return a finding if images with the same pixels have different labels."""
    if not (groups := dataset.contradictions):
        return ()
    return (
        Finding(
            "contradictory-labels",
            "warning",
            f"{_count(groups)} with the same pixels have different labels: {_examples(groups)}.",
            'Decide which label is correct and remove the other copies; "contradictions" in run.json lists all.',
        ),
    )


def _find_copies(dataset: Dataset) -> Iterator[str]:
    """Yield which images with the same pixels are there more than once."""
    if groups := dataset.duplicates:
        yield (
            f"{counted(len(groups), 'image is', 'images are')} in two or more splits, so accuracy is "
            f"overstated. Remove all but one copy: {_examples(groups)}; run.json lists all"
        )
    if groups := dataset.repeats:
        yield f"{_count(groups)} repeat another image of their class: {_examples(groups)}. Keep one of each"


def _count(groups: Sequence[Sequence[str]]) -> str:
    return f"{sum(map(len, groups)):,} images ({len(groups):,} different)"


def _examples(groups: Sequence[Sequence[str]]) -> str:
    return some((some(group, 2, " = ") for group in groups), 3, "; ")


def _find_missing(dataset: Dataset) -> Iterator[str]:
    """Yield which classes have no validation or no test image."""
    for part, split in (("val", dataset.val), ("test", dataset.test)):
        if split is not None and len(missing := set(range(len(dataset.classes))) - set(split.labels.tolist())):
            names = some(dataset.classes[index] for index in sorted(missing))
            yield f"{part} has no image of {names}, so its accuracy does not cover that class; add some"
