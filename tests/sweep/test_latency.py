"""What a sweep says of the times that it measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from benchmark_files import make_record, make_result

from edgecls.sweep.latency import measure_latencies

BUSY = "Other processes used {} % of CPU 0, 1. Close them and repeat."


def invalid(percent: int) -> dict[str, Any]:
    return {
        "valid": False,
        "causes": ["contention"],
        "warnings": [f"contention: {BUSY.format(percent)}", "spread: the interval is wide"],
    }


@pytest.mark.parametrize(
    "changes, doubt",
    [
        ([invalid(9), invalid(12)], f"No time is valid (contention). {BUSY.format('9 to 12')}"),
        ([{}, invalid(9)], f"1 of 2 times are not valid (contention). {BUSY.format(9)}"),
    ],
)
def test_what_disturbed_the_times_is_said_once_with_the_remedy(changes: list[dict[str, Any]], doubt: str) -> None:
    record = make_record(*(make_result(**change) for change in changes))
    found = measure_latencies([Path("a.onnx"), Path("b.onnx")], lambda files, progress: record)
    notes = {note for latency in found for note in latency.notes}
    assert notes == {f"{doubt} Repeat the command: it only measures again."}
    assert [bool(latency.notes) for latency in found] == [bool(change) for change in changes]


def test_a_valid_time_has_no_note() -> None:
    (latency,) = measure_latencies([Path("a.onnx")], lambda files, progress: make_record(make_result()))
    assert latency.notes == () and latency.source == "measured"
