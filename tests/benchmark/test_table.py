from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from benchmark_files import MACHINE, PACED, make_record, make_result, make_times
from hypothesis import given
from hypothesis import strategies as st

from edgecls.benchmark.compare import SpeedComparison
from edgecls.benchmark.table import (
    caption,
    comparison_table,
    header,
    markdown_table,
    rich_table,
    rows,
    text_table,
    warning_lines,
)

SLOW = make_result(make_times(4), file="a/model-fp32.onnx", engine="onnxruntime", engine_version="1.32.0")
FAST = make_result(make_times(2))
RATIO = {"slow": 0, "fast": 1, "ratio": 2.0, "low": 1.6, "high": 2.5}


def test_the_caption_has_machine_versions_and_date() -> None:
    text = caption(make_record(SLOW, FAST))
    for part in ("Raspberry Pi 4 Model B Rev 1.4 (neon)", "4 CPUs", "kernel 6.6.20", "Python 3.11.2", "2025-05-01"):
        assert part in text
    assert "onnxruntime 1.32.0, litert 2.3.0, edgecls 0.1.0" in text and text.endswith("Scope: invoke.")
    pc = MACHINE | {"board": "", "cpu": "AMD EPYC", "isa": []}
    assert caption(make_record(machine=pc)).startswith("AMD EPYC, 4 CPUs")


def test_a_row_has_a_cell_in_every_column() -> None:
    ratio = make_record(SLOW, FAST, ratios=[RATIO])
    paced = make_record(make_result(fps=30.0, paced=PACED), settings={"fps": 30.0})
    for record in (make_record(), ratio, paced):
        assert {len(row) for row in rows(record)} == {len(header(record))}
    cells = dict(zip(header(paced), rows(paced)[0], strict=True))
    assert (cells["dropped"], cells["age p99"], cells["jitter"]) == ("2 of 152", "14.0", "0.500")


def test_cells() -> None:
    result = make_result(p50_ms=2.0, p50_low_ms=1.99, p50_high_ms=12.345, per_second=499.96, peak_rss_mb=None)
    cells = dict(zip(header(make_record()), rows(make_record(result))[0], strict=True))
    assert (cells["file"], cells["engine"], cells["threads"]) == ("model-int8.tflite", "litert", "1")
    assert (cells["p50 ms"], cells["95 % interval"], cells["per s"]) == ("2.000", "1.990..12.3", "500.0")
    assert (cells["first"], cells["load"], cells["peak MB"], cells["file MB"]) == ("12.0", "30.0", "", "2.8")
    assert (cells["n"], cells["valid"]) == ("300", "yes")
    invalid = make_result(valid=False, causes=["throttled", "governor"], device="edgetpu")
    cells = dict(zip(header(make_record()), rows(make_record(invalid))[0], strict=True))
    assert (cells["valid"], cells["engine"]) == ("no: throttled, governor", "litert edgetpu")


@pytest.mark.parametrize("swapped", [False, True])
def test_ratios_are_to_the_fastest_whichever_way_they_were_taken(swapped: bool) -> None:
    if swapped:
        record = make_record(FAST, SLOW, ratios=[{"slow": 0, "fast": 1, "ratio": 0.5, "low": 0.4, "high": 0.625}])
    else:
        record = make_record(SLOW, FAST, ratios=[RATIO])
    place = header(record).index("times the fastest")
    assert {row[place] for row in rows(record)} == {"1", "2.00 (1.60..2.50)"}
    assert rows(record)[0 if swapped else 1][place] == "1"


def test_a_warning_is_said_once_with_those_it_concerns() -> None:
    both, one = "governor: slow", "throttled: hot"
    record = make_record(make_result(warnings=[both, one]), make_result(file="b.tflite", warnings=[both]))
    assert warning_lines(record) == [both, f"{one} (model-int8.tflite in litert, threads: 1)"]


def test_warnings_that_differ_in_numbers_are_one() -> None:
    texts = [f"contention: Other processes used {percent} % of CPU 0, 1. Close them." for percent in (57, 9, 57)]
    record = make_record(*(make_result(warnings=[text]) for text in texts))
    assert warning_lines(record) == ["contention: Other processes used 9 to 57 % of CPU 0, 1. Close them."]
    other = make_record(make_result(warnings=[texts[0]]), make_result(warnings=["governor: 1,200 of 3,400 MHz"]))
    assert [line.split(" (")[0] for line in warning_lines(other)] == [texts[0], "governor: 1,200 of 3,400 MHz"]
    assert warning_lines(other, names=False) == [texts[0], "governor: 1,200 of 3,400 MHz"]


def test_text_is_aligned() -> None:
    first, *others = text_table(make_record(SLOW, FAST, ratios=[RATIO])).splitlines()
    assert others[0].index("onnxruntime") == others[1].index("litert") == first.index("engine")
    end = first.index("p50 ms") + len("p50 ms")
    p50s = [row[3] for row in rows(make_record(SLOW, FAST))]
    assert [line[:end].split()[-1] for line in others[:2]] == p50s
    assert others[2] == caption(make_record(SLOW, FAST))


def test_markdown_is_a_table() -> None:
    record = make_record(make_result(file="a|b.tflite", warnings=["governor: slow"]))
    table, reported, notes = markdown_table(record).split("\n\n")
    lines = table.splitlines()
    assert lines[2].startswith("| a\\|b.tflite | litert | 1 |")
    assert {line.replace("\\|", "").count("|") for line in lines} == {len(header(record)) + 1}
    assert set(lines[1]) <= set("|-: ")
    assert (reported, notes) == (caption(record), "- governor: slow")


def test_rich_shows_the_same() -> None:
    from rich.console import Console

    stream = StringIO()
    record = make_record(SLOW, FAST, ratios=[RATIO])
    Console(file=stream, width=250).print(rich_table(record, 250, str))
    for row in rows(record):
        assert all(cell in stream.getvalue() for cell in row)


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("paced", [False, True])
def test_rich_keeps_what_matters_on_one_line_in_a_narrow_terminal(width: int, paced: bool) -> None:
    from rich.console import Console

    camera: dict[str, Any] = {"fps": 30.0, "paced": PACED} if paced else {}
    invalid = make_result(make_times(123), valid=False, causes=["contention", "governor"], **camera)
    ratios = [] if paced else [RATIO, RATIO | {"slow": 2, "fast": 1}]
    results = (replace(SLOW, **camera), replace(FAST, **camera), invalid)
    record = make_record(*results, ratios=ratios, settings={"fps": camera.get("fps")})
    stream = StringIO()
    Console(file=stream, width=width).print(rich_table(record, width, str))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "No room for " in stream.getvalue()
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    # A long name goes on in a line of its own.
    (slow, fast, bad) = (cells for cells in table if cells[1])
    assert [cells[1:4] for cells in (slow, fast, bad)] == [row[1:4] for row in rows(record)]
    assert [cells[-1].split(":")[0] for cells in (slow, fast, bad)] == ["yes", "yes", "no"]
    if not paced and width >= 80:
        assert any("times the" in line for line in lines)
        assert all("2.00" in cells for cells in (slow, bad)) and "1" in fast[4:]
    if width >= 80:
        assert len(table) == 3, "names of our exports have room"


def test_comparisons() -> None:
    same = SpeedComparison("a", 2.0, 2.02, 1.01, 0.99, 1.03)
    text = comparison_table([same, SpeedComparison("a longer name", 2.0, 2.4, 1.2, 1.18, 1.22)]).splitlines()
    assert text[1].endswith("no different") and text[2].endswith("1.180..1.220        slower")
    assert text[2].startswith("a longer name  ")


@given(st.floats(1e-3, 1e5))
def test_times_keep_three_digits(value: float) -> None:
    cells = rows(make_record(make_result(p50_ms=value)))[0]
    assert float(cells[3]) == pytest.approx(value, rel=0.005, abs=0.0005)


def test_tables_need_neither_rich_nor_matplotlib() -> None:
    code = "import sys, edgecls.benchmark.table, edgecls.benchmark.plot; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert not {"rich", "matplotlib", "click"} & set(done.stdout.split())
