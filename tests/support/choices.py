"""Candidates and a machine with known times, to test `edgecls choose` with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_files import MODEL, make_record, make_result, make_times

from edgecls.benchmark.measure import compare_runs
from edgecls.benchmark.plan import Configuration, Settings
from edgecls.benchmark.record import Record
from edgecls.benchmark.verdict import CONTENTION
from edgecls.choose.candidates import Candidate, Images
from edgecls.choose.choice import Choice
from edgecls.export.gate import Comparison, compare
from edgecls.files import file_sha256, read_checked, write_checked
from edgecls.images.dataset import Split
from edgecls.model_file.read import detect_format, read_model_file
from edgecls.model_file.write import attach_spec

LABELS = np.arange(20) % 2


def make_comparison(wrong: int = 0, max_drop: float = 0.01) -> Comparison:
    """Return the comparison of a file with `wrong` incorrect labels on 20 images with a float model that has none."""
    right = np.eye(2, dtype=np.float32)[LABELS]
    scores = right.copy()
    scores[:wrong] = 1 - scores[:wrong]
    return compare(scores, right, LABELS, ("a", "b"), max_drop)


def make_candidate(name: str = "model-int8.onnx", **changes: Any) -> Candidate:
    values: dict[str, Any] = {
        "file": Path("run/export", name),
        "precision": name.split("-")[1].split(".")[0],
        "engine": "litert" if name.endswith("tflite") else "onnxruntime",
        "device": "cpu",
        "threads": 1,
        "comparison": make_comparison(),
    }
    return Candidate(**(values | changes))


class FakeMachine:
    """Replaces `run_benchmark`: returns known times and keeps the requests.

    Args:
        times_ms: median by file name.
        noise: of single calls and of batches.
        invalid: file names whose results are not valid.
        cause: why they are invalid, or the cause of each by its name.
        invalid_rounds: the number of rounds that they are invalid for.
        slower: the time of every round divided by that of the one before.
    """

    def __init__(
        self,
        times_ms: dict[str, float],
        *,
        noise: float = 0.003,
        invalid: Sequence[str] = (),
        cause: str | Mapping[str, str] = CONTENTION,
        invalid_rounds: int = 99,
        slower: float = 1,
    ) -> None:
        self.rounds: list[list[str]] = []
        self.seconds: list[float] = []
        self._times, self._noise, self._slower = times_ms, noise, slower
        self._invalid, self._invalid_rounds = invalid, invalid_rounds
        self._causes = dict.fromkeys(invalid, cause) if isinstance(cause, str) else cause

    def run(self, configurations: Sequence[Configuration], settings: Settings, **_: Any) -> Record:
        names = [Path(each.file).name for each in configurations]
        self.rounds.append(names)
        self.seconds.append(settings.seconds)
        now = self._slower ** (len(self.rounds) - 1)
        invalid = self._invalid if len(self.rounds) <= self._invalid_rounds else ()
        samples = [
            make_times(
                self._times[name.replace(".rejected", "")] * now, self._noise, 20, seed=100 * len(self.rounds) + place
            )
            for place, name in enumerate(names)
        ]
        results = [
            make_result(
                times,
                file=each.file,
                model=MODEL | {"precision": name.split("-")[1].split(".")[0]},
                engine=each.engine,
                threads=each.threads,
                valid=name not in invalid,
                causes=[self._causes[name]] if name in invalid else [],
            )
            for each, name, times in zip(configurations, names, samples, strict=True)
        ]
        ratios = [
            {"slow": slow, "fast": fast} | asdict(compare_runs(samples[slow], samples[fast], in_turns=True))
            for slow, fast in combinations(range(len(names)), 2)
        ]
        return make_record(*results, ratios=ratios)


def make_images(**changes: Any) -> Images:
    split = Split(("a.png",), np.zeros((1, 8, 8, 1), np.uint8), np.zeros(1, np.int64))
    values: dict[str, Any] = {"split": split, "name": "20 images", "float_scores": None}
    return Images(**(values | changes))


def make_choice(candidates: Sequence[Candidate], **changes: Any) -> Choice:
    values: dict[str, Any] = {
        "run": Path("run"),
        "images": make_images(),
        "max_drop": 0.01,
        "device": "",
        "is_here": True,
        "candidates": tuple(candidates),
        "timing": None,
    }
    return Choice(**(values | changes))


def rewrite(path: Path, to: Path | None = None, **changes: object) -> None:
    """Change an exported file's metadata as if it had been exported with it."""
    data = path.read_bytes()
    _, graph, spec = read_model_file(data)
    path.unlink()
    new = to or path
    new.write_bytes(attach_spec(graph, replace(spec, **changes), detect_format(data)))  # type: ignore[arg-type]
    record = path.with_name("export.json")
    if record.is_file():
        document = read_checked(record)
        for entry in document["files"]:
            if entry["path"] == path.name:
                entry |= {"path": new.name, "sha256": file_sha256(new)}
        write_checked(record, document)
