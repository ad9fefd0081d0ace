from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
import record
from benchmark_files import make_record, make_result, make_state, make_times

from edgecls.benchmark.machine_state import CpuTime
from edgecls.benchmark.verdict import judge_machine


def test_a_record_says_machine_versions_date_command_and_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/benchmarks/engines.py", "/home/me/run", "--threads", "1,2"])
    verdict = {"valid": False, "causes": ["throttled"], "warnings": ["throttled: hot"]}
    path = record.write_record("engines", {"rows": []}, verdict, tmp_path, gpu="a card")
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["command"] == "python benchmarks/engines.py run --threads 1,2", "no folder of this machine"
    assert written["machine"]["cpus"] and written["machine"]["gpu"] == "a card"
    assert {"numpy", "python", "edgecls"} <= set(written["versions"]) and len(written["date"]) == 10
    assert (written["valid"], written["causes"], written["rows"]) == (False, ["throttled"], [])


@pytest.mark.parametrize(("others_s", "valid"), [(0.0, True), (5.0, False)])
def test_a_watch_sees_what_others_did_meanwhile(others_s: float, valid: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "read_state", make_state)
    monkeypatch.setattr(record, "allowed_cpus", lambda: [0, 1])
    busy = iter([CpuTime(100.0, 0.0), CpuTime(100.0 + others_s, 0.0)])
    monkeypatch.setattr(record, "read_cpu_times", lambda cpus: next(busy))
    now = iter([50.0, 60.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    verdict = record.Watch().verdict()
    assert (verdict["valid"], verdict["causes"]) == (valid, [] if valid else ["contention"])
    assert valid or "of CPU 0, 1" in verdict["warnings"][0]


def test_heat_steal_and_others_speak_against_anything_measured() -> None:
    quiet = {"wall_s": 10.0, "own_s": 9.0, "busy_s": 9.1, "steal_s": 0.0, "waited_s": 0.0}
    state = make_state()
    assert judge_machine(quiet, [0], [state, state]) == ()
    assert [each.rule for each in judge_machine(quiet, [0], [state, make_state(hot=["cpu-thermal"])])] == ["throttled"]
    for change in ({"busy_s": 10.0}, {"steal_s": 1.0}, {"waited_s": 1.0}):
        assert [each.rule for each in judge_machine(quiet | change, [0], [state, state])] == ["contention"]


@pytest.mark.parametrize("swapped", [False, True])
def test_rows_are_held_against_the_fastest(swapped: bool) -> None:
    slow = make_result(make_times(4), file="a/model-fp32.onnx", valid=False, causes=["governor"])
    fast = make_result(make_times(2))
    pair = {"slow": 1, "fast": 0, "ratio": 0.5, "low": 0.4, "high": 0.625} if not swapped else None
    pair = pair or {"slow": 1, "fast": 0, "ratio": 2.0, "low": 1.6, "high": 2.5}
    rows = record.session_rows(make_record(*((fast, slow) if swapped else (slow, fast)), ratios=[pair]), alpha=1.0)
    by_file = {row["file"]: row for row in rows}
    bad, best = by_file["model-fp32.onnx"], by_file["model-int8.tflite"]
    assert (bad["ratio"], bad["ratio_low"], bad["ratio_high"]) == pytest.approx((2.0, 1.6, 2.5))
    assert (best["ratio"], best["alpha"], best["image_size"]) == (1.0, 1.0, 224)
    assert record.rows_verdict(rows) == {
        "valid": False,
        "causes": ["governor"],
        "warnings": ["1 of 2 rows are not valid"],
    }
    assert record.rows_verdict([best])["valid"]
