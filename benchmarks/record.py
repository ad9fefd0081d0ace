"""Write what a benchmark found, with all that it depends on, to benchmarks/results/NAME.json. Runs on a board too."""

from __future__ import annotations

import datetime
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from edgecls.benchmark.machine_state import read_cpu_times, read_state
from edgecls.benchmark.record import Record
from edgecls.benchmark.verdict import judge_machine
from edgecls.boards.cpus import allowed_cpus
from edgecls.boards.machine import describe
from edgecls.boards.rule_result import is_yes, rules_against
from edgecls.boards.versions import tool_versions
from edgecls.files import write_json

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    *("numpy", "pillow", "click", "ai-edge-litert", "tflite-runtime", "onnxruntime", "onnxruntime-gpu", "tensorrt"),
    *("openvino", "tensorflow", "tensorflow-cpu", "keras", "tf2onnx", "onnx", "nncf", "mlcommons-loadgen", "ray"),
)
MACHINE_KEYS = ("cpu", "board", "isa", "arch")
# Of a result of `edgecls benchmark`: its samples would make each file a megabyte.
RESULT_KEYS = (
    *("engine", "engine_version", "device", "threads", "n", "p50_ms", "p50_low_ms", "p50_high_ms", "p90_ms", "p99_ms"),
    *("mean_ms", "peak_rss_mb", "valid", "causes", "warnings"),
)


class Watch:
    """Watches the machine from when it is made, for scripts that time by themselves.

    It sees what is done on all CPUs that is not done by this process and by its children that have ended.
    """

    def __init__(self) -> None:
        self._cpus = allowed_cpus()
        self._states = [read_state()]
        self._others_s = 0.0
        self._before = self._read()

    def add_own(self, cpu_s: float) -> None:
        """Count CPU seconds of processes that are ours and were not waited for, so that they are nobody else's."""
        self._others_s += cpu_s

    def verdict(self) -> dict[str, Any]:
        """Return "valid", "causes" and "warnings" of what was timed since."""
        self._states.append(read_state())
        observed = {key: value - self._before[key] for key, value in self._read().items()}
        findings = judge_machine(observed, self._cpus, self._states)
        warnings = [f"{finding.rule}: {finding.text}" for finding in findings]
        return {"valid": is_yes(findings), "causes": rules_against(findings), "warnings": warnings}

    def _read(self) -> dict[str, float]:
        cpus, own = read_cpu_times(self._cpus), os.times()
        return {
            "wall_s": time.perf_counter(),
            "own_s": own.user + own.system + own.children_user + own.children_system + self._others_s,
            "busy_s": cpus.busy,
            "steal_s": cpus.steal,
            "waited_s": 0.0,
        }


def session_rows(record: Record, **about: Any) -> list[dict[str, Any]]:
    """Return a row for each result of `run_benchmark`, with how many times slower it is than the fastest."""
    fastest = min(range(len(record.results)), key=lambda place: record.results[place].p50_ms)
    times: dict[int, tuple[float, float, float]] = {fastest: (1.0, 1.0, 1.0)}
    for pair in record.ratios:
        ratio = pair["ratio"], pair["low"], pair["high"]
        if pair["fast"] == fastest:
            times[pair["slow"]] = ratio
        elif pair["slow"] == fastest:
            times[pair["fast"]] = (1 / ratio[0], 1 / ratio[2], 1 / ratio[1])
    return [
        {**about, "file": Path(result.file).name, "precision": result.model["precision"]}
        | {"bytes": result.model["bytes"], "image_size": result.model["height"]}
        | {key: getattr(result, key) for key in RESULT_KEYS}
        | dict(zip(("ratio", "ratio_low", "ratio_high"), times[place], strict=True))
        for place, result in enumerate(record.results)
    ]


def rows_verdict(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the verdict on several rows that have one each: valid if all are."""
    causes = dict.fromkeys(cause for row in rows for cause in row["causes"])
    invalid = sum(not row["valid"] for row in rows)
    warnings = [f"{invalid} of {len(rows)} rows are not valid"] if invalid else []
    return {"valid": not invalid, "causes": list(causes), "warnings": warnings}


def write_record(
    name: str, figures: dict[str, Any], verdict: dict[str, Any], results: Path = RESULTS, **machine: str
) -> Path:
    """Return the path of the JSON file that was written.

    Args:
        name: of the file; it begins with the name of the script that writes it.
        figures: what was found, as the script's `table` reads it.
        verdict: of `Watch.verdict` or `rows_verdict`.
        results: folder.
        machine: what else the figures depend on.
    """
    described = describe()
    record = {
        "schema": 1,
        "command": command(sys.argv),
        "date": datetime.date.today().isoformat(),
        "machine": {key: described[key] for key in MACHINE_KEYS} | {"cpus": os.cpu_count()} | machine,
        "versions": tool_versions(*PACKAGES),
        "load_average": os.getloadavg()[0],
        **verdict,
        **figures,
    }
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{name}.json"
    write_json(path, record)
    return path


def command(arguments: list[str]) -> str:
    """Return the command that measured, without the folders of the machine that it ran on."""
    script, *rest = arguments
    names = [Path(each).name if Path(each).is_absolute() else each for each in rest]
    return shlex.join(["python", f"benchmarks/{Path(script).name}", *names])
