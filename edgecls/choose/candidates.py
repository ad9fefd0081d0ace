"""Lists all ways to run a trained network here: each file in each engine, on each device, with each thread count.

A way that cannot run or may not be shipped is a candidate too, with the reason.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.compatibility import check_file
from edgecls.boards.cpus import default_threads
from edgecls.boards.edgetpu_compiler import compiled_path, is_compiled_from
from edgecls.boards.install import install_line, packages_of
from edgecls.boards.profiles import Profile, find_wheel
from edgecls.boards.rule_result import reasons_against
from edgecls.errors import EdgeclsError, ModelFileError
from edgecls.evaluate import score_images
from edgecls.export.calibration import flatten_split
from edgecls.export.gate import Comparison, compare
from edgecls.export.run_files import RunFile
from edgecls.files import file_sha256
from edgecls.images.archive import exists
from edgecls.images.dataset import Split, load_labeled, load_paths
from edgecls.images.depth import describe_nearly_black
from edgecls.images.leftovers import LeftOut
from edgecls.messages.lists import some
from edgecls.preprocessing import read_preprocessing
from edgecls.progress import Progress, silent
from edgecls.runtime.classifier import load
from edgecls.runtime.engines import DEVICES, ENGINES, is_installed
from edgecls.training.run import run_folder

GPU_DEVICES = ("cuda", "tensorrt")


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to run the network."""

    file: Path  # path
    precision: str  # one of `limits.PRECISIONS`
    engine: str  # a name in `engines.ENGINES`
    device: str  # a name in `engines.DEVICES`
    threads: int | None  # of the interpreter; None if it could not be opened here or cannot run on the board
    comparison: Comparison | None  # of the file in this engine with the float model; None if it was not scored
    rejected_because: str = ""  # why it may not be shipped, or ""

    @property
    def name(self) -> str:
        """The file, engine, device and threads in words."""
        threads = "" if self.threads is None else f", threads: {self.threads}"
        return f"{self.file.name} in {self.engine}{on_device(self.device)}{threads}"


def on_device(device: str) -> str:
    """Return " on DEVICE", or "" for the CPU."""
    return "" if device == "cpu" else f" on {device}"


@dataclass(frozen=True, eq=False)
class Images:
    """The images that files are scored on."""

    split: Split  # the images
    name: str  # a description of them
    float_scores: NDArray[np.float32] | None  # of the Keras model, float32 (N, C), if the run holds them; else None
    note: str = ""  # a warning about them, or ""


@dataclass(frozen=True)
class _Way:
    file: RunFile
    engine: str
    device: str


def load_images(run: Path, data: Path, progress: Progress = silent) -> Images:
    """Return the run's held-out images if `data` holds them unchanged, else the images that `evaluate` would take.

    Raises:
        ModelFileError: `run` is not a run folder.
        DataError: the class folders are not the run's, or images cannot be read.
    """
    record = run_folder.read_whole_record(run)
    classes, size, part = record["classes"], record["config"]["image_size"], record["held_out"]["split"]
    preprocessing = read_preprocessing(record["config"])
    paths, labels = flatten_split(record["split"][part], classes)
    report = functools.partial(progress, "read images")
    if all(exists(data / path) for path in paths):
        split = load_paths(data, paths, labels, size, size, preprocessing=preprocessing, progress=report)
        if run_folder.images_sha256(split.images) == record["held_out"]["sha256"]:
            scores = run_folder.read_held_out_scores(run, len(paths), len(classes))
            name = f"the run's {len(paths)} held-out images ({part})"
            return Images(split, name, scores, _describe_dark(split))
    left_out = LeftOut()
    split = load_labeled(data, classes, size, size, preprocessing=preprocessing, left_out=left_out, progress=report)
    learned = run_folder.list_learned(record) & set(split.paths)
    overstated = f"{len(learned)} of these images are training images of the run, so accuracy is overstated."
    missing = [name for index, name in enumerate(classes) if index not in split.labels]
    uncovered = f"{data} has no image of {some(missing)}, so the accuracy of the files does not cover that."
    notes = (overstated if learned else "", uncovered if missing else "", _describe_dark(split), str(left_out))
    note = " ".join(filter(None, notes))
    return Images(split, f"{len(split.paths)} images of {data}", None, note)


def _describe_dark(split: Split) -> str:
    text = describe_nearly_black(split.scales)
    return f"{text}." if text else ""


def find_candidates(
    files: Sequence[RunFile],
    images: Images,
    classes: Sequence[str],
    max_drop: float,
    *,
    profile: Profile | None = None,
    progress: Progress = silent,
) -> tuple[Candidate, ...]:
    """Return all candidates for a board, or for this machine if `profile` is None.

    Each file is scored once per engine, because the number of threads does not change scores.

    Raises:
        ModelFileError: no float file could be scored, and the run has no scores for these images.
    """
    found = {way: _score(way, images, progress) for way in _list_ways(files)}
    reference = images.float_scores if images.float_scores is not None else _find_reference(found)
    refused = {path: _refuse(path, profile) for path in {way.file.path for way in found if way.file.is_there}}
    candidates: list[Candidate] = []
    for way, scores in found.items():
        candidate = Candidate(way.file.path, way.file.precision, way.engine, way.device, None, None)
        if isinstance(scores, str):
            candidates.append(replace(candidate, rejected_because=scores))
            continue
        candidate = replace(candidate, comparison=compare(scores, reference, images.split.labels, classes, max_drop))
        if reason := refused.get(way.file.path, "") or _explain_unfit(way, profile):
            candidates.append(replace(candidate, rejected_because=reason))
            continue
        candidate = replace(candidate, rejected_because=_explain_failure(way.file, candidate))
        candidates += _with_threads(candidate, profile)
    return tuple(candidates)


def _list_ways(files: Sequence[RunFile]) -> Iterator[_Way]:
    for file in files:
        for engine, entry in ENGINES.items():
            # A simulator's times mean nothing.
            for device in (each for each in DEVICES if file.format in entry.kinds and each in entry.devices):
                # Only int8 files are compiled for the Edge TPU.
                if device != "edgetpu":
                    yield _Way(file, engine, device)
                elif file.precision == "int8":
                    yield _Way(_compiled(file), engine, device)


def _compiled(file: RunFile) -> RunFile:
    """Return the file that edgetpu_compiler made of it, or the file itself: opening that one says what to do."""
    compiled = compiled_path(file.path)
    if not compiled.is_file() or not file.is_there:
        return file
    try:
        if is_compiled_from(compiled, file.path):
            return replace(file, path=compiled)
        problem = f"{compiled.name} was compiled from an earlier {file.path.name}; compile it again (edgecls check)"
    except ModelFileError as error:
        problem = str(error)
    return replace(file, path=compiled, is_there=False, problem=problem)


def _score(way: _Way, images: Images, progress: Progress) -> NDArray[np.float32] | str:
    """Return the scores, float32 (N, C), or the reason why there are none."""
    if not way.file.is_there:
        return way.file.problem
    if not is_installed(way.engine):
        return f"{way.engine} is not installed; {install_line(way.engine, way.device)}"
    stage = f"score {way.file.path.name} in {way.engine}{on_device(way.device)}"
    try:
        with load(way.file.path, engine=way.engine, device=way.device) as classifier:
            return score_images(classifier, images.split.images, functools.partial(progress, stage))
    except EdgeclsError as error:
        return str(error)


def _find_reference(found: Mapping[_Way, NDArray[np.float32] | str]) -> NDArray[np.float32]:
    for way, scores in found.items():
        if way.file.precision == "fp32" and not isinstance(scores, str):
            return scores
    reasons = "; ".join(dict.fromkeys(scores for scores in found.values() if isinstance(scores, str)))
    raise ModelFileError(f"no float file can be scored, so the others cannot be compared with it: {reasons}")


def _explain_failure(file: RunFile, candidate: Candidate) -> str:
    """Return why a file that runs is not accurate enough, or ""."""
    comparison = candidate.comparison
    return file.problem or ("" if comparison is None or comparison.passed else comparison.verdict)


def _refuse(path: Path, profile: Profile | None) -> str:
    """Return why a file does not run on a board, or ""."""
    reasons = "" if profile is None else reasons_against(check_file(path, profile))
    return f"does not run on {profile.name}: {reasons}" if profile and reasons else ""


def _explain_unfit(way: _Way, profile: Profile | None) -> str:
    """Return why an engine cannot run on a board, or ""."""
    if profile is None:
        return ""
    needed = "cuda" if way.device in GPU_DEVICES else way.device
    if needed not in ("cpu", profile.accelerator):
        return f"{profile.name} has no {needed} device"
    packages = packages_of(way.engine, way.device)
    wheels = (find_wheel(package, system) for package in packages for system in profile.systems)
    return "" if any(wheels) else f"PyPI has no {way.engine} for {profile.name}"


def _with_threads(candidate: Candidate, profile: Profile | None) -> Iterator[Candidate]:
    """Yield a candidate with each number of threads, up to the big cores of this machine, which does the timing."""
    most = default_threads()
    if profile is not None and profile.hardware.cores:
        most = min(most, profile.hardware.cores)
    # On an accelerator the number of CPU threads hardly matters.
    for count in range(1 if candidate.device == "cpu" else most, most + 1):
        yield replace(candidate, threads=count)


def to_json(candidate: Candidate) -> dict[str, Any]:
    """Return the keys of a candidate in `choose --json` that do not depend on timing."""
    comparison = candidate.comparison
    scores = {key: getattr(comparison, key, None) for key in ("accuracy", "drop", "agreement")}
    return {
        "file": str(candidate.file),
        "sha256": file_sha256(candidate.file) if candidate.file.is_file() else None,
        "precision": candidate.precision,
        "engine": candidate.engine,
        "device": candidate.device,
        "threads": candidate.threads,
        **scores,
    }
