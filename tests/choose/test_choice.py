from __future__ import annotations

import json
from dataclasses import replace

import pytest
from choices import FakeMachine, make_candidate, make_choice, make_comparison, make_images

from edgecls.benchmark.verdict import CONTENTION
from edgecls.choose import rounds
from edgecls.choose.candidates import Candidate
from edgecls.choose.choice import Choice
from edgecls.choose.report import COLUMNS, markdown_report, rejection_lines, screened_rows, table_rows, text_report
from edgecls.choose.rounds import time_candidates

TIMES = {"model-int8.onnx": 2.0, "model-fp32.onnx": 4.0, "model-int8.tflite": 1.0}
FAILED = make_comparison(wrong=3)
REJECTED = make_candidate("model-int8.tflite", comparison=FAILED, rejected_because=FAILED.verdict)


@pytest.fixture
def choice(monkeypatch: pytest.MonkeyPatch) -> Choice:
    """One that wins, one that is slower, one that lost accuracy, two that could not be opened."""
    return make_chosen(monkeypatch, FakeMachine(TIMES))


def make_chosen(monkeypatch: pytest.MonkeyPatch, machine: FakeMachine, third: Candidate = REJECTED) -> Choice:
    monkeypatch.setattr(rounds, "run_benchmark", machine.run)
    nothing = {"threads": None, "comparison": None, "rejected_because": "no CUDA here"}
    found = [
        make_candidate("model-int8.onnx"),
        make_candidate("model-fp32.onnx"),
        third,
        make_candidate("model-int8.onnx", device="cuda", **nothing),
        make_candidate("model-fp32.onnx", device="cuda", **nothing),
    ]
    return make_choice(found, timing=time_candidates(found, 1), int8="int8 won.")


def test_the_document_has_the_keys_that_scripts_read(choice: Choice) -> None:
    document = json.loads(json.dumps(choice.to_json(), allow_nan=False))
    best, rows = document["recommended"], document["candidates"]
    assert (best["file"], best["engine"], best["threads"]) == ("run/export/model-int8.onnx", "onnxruntime", 1)
    assert best["p50_ms"] == pytest.approx(2, rel=0.02) and best["accuracy"] == 1
    assert best["rejected_because"] is None and best in rows
    keys = {"file", "engine", "threads", "p50_ms", "accuracy", "rejected_because"}
    assert len(rows) == 5 and all(keys <= row.keys() for row in rows)
    because = [row["rejected_because"] for row in rows]
    assert because[0] is None
    assert because[1].startswith("slower: 2.0")
    assert because[2].startswith("failed: -15.00 points")
    assert because[3:] == ["no CUDA here"] * 2
    assert [row["p50_ms"] is None for row in rows] == [False, False, False, True, True]


def test_the_text_names_the_recommended_and_the_rejected(choice: Choice) -> None:
    text = text_report(choice)
    assert "Recommended: model-int8.onnx in onnxruntime, threads: 1: " in text
    assert " ms, accuracy 100.00 % (+0.00 points).\nAll times are valid.\n" in text
    assert "The next, model-fp32.onnx in onnxruntime, threads: 1, takes 2.0" in text
    assert "int8 won." in text and "20 images" in text and "screening round" in text
    assert "rejected: model-int8.onnx, model-fp32.onnx in onnxruntime on cuda: no CUDA here" in text
    assert len(rejection_lines(choice)) == 2
    assert {len(row) for row in table_rows(choice)} == {len(COLUMNS)}
    # The fastest one is rejected: it is not among those whose times are shown.
    assert [row[0] for row in table_rows(choice)] == ["model-int8.onnx", "model-fp32.onnx"]
    assert screened_rows(choice) == [["model-int8.tflite", "litert", "1", "~0.5x", "85.00 %", "rejected"]]
    lines = text.splitlines()
    assert lines[1].split()[3:5] == [f"{choice.winner.result.p50_ms:.3f}" if choice.winner else "", "1"]


def test_every_time_of_the_table_is_of_one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine gets slower from round to round: a time of the first would look faster than the recommended one."""
    machine = FakeMachine({"model-int8.onnx": 2.0, "model-fp32.onnx": 2.1, "model-int8.tflite": 2.9}, slower=3)
    chosen = make_chosen(monkeypatch, machine, make_candidate("model-int8.tflite"))
    rows = table_rows(chosen)
    assert [row[0] for row in rows] == ["model-int8.onnx", "model-fp32.onnx"]
    times = [float(row[3]) for row in rows]
    assert float(rows[1][4].split(" ")[0]) == pytest.approx(times[1] / times[0], abs=0.01)
    assert [row[0::3] for row in screened_rows(chosen)] == [["model-int8.tflite", "~1.4x"]]
    assert "2.9" not in text_report(chosen)


def test_what_doctor_would_have_said_is_compared(choice: Choice) -> None:
    usual = replace(choice, usual=("fp32", "onnx", "onnxruntime"))
    assert "'edgecls doctor' names model-fp32.onnx in onnxruntime, threads: 1 for such machines" in text_report(usual)
    assert "doctor" not in text_report(replace(choice, usual=("int8", "onnx", "onnxruntime")))
    # What may not be shipped is no alternative.
    assert "doctor" not in text_report(replace(choice, usual=("int8", "tflite", "litert")))


def test_markdown_has_as_many_cells_in_every_row(choice: Choice) -> None:
    lines = [line for line in markdown_report(choice).splitlines() if line.startswith("|")]
    assert len(lines) == 4 + 3 and len({line.count("|") for line in lines[:4]}) == 1
    assert "- model-int8.onnx, model-fp32.onnx in onnxruntime on cuda: no CUDA here" in markdown_report(choice)


def test_a_tie_is_not_called_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = FakeMachine({"model-int8.onnx": 2.0, "model-fp32.onnx": 2.0, "model-int8.tflite": 9.0})
    assert make_chosen(monkeypatch, machine).margin.startswith("Not significantly faster than model-")


def test_warnings(monkeypatch: pytest.MonkeyPatch, choice: Choice) -> None:
    assert choice.warnings == ()
    noisy = make_chosen(monkeypatch, FakeMachine(TIMES, invalid=tuple(TIMES)))
    assert f"made the times longer ({CONTENTION}). All were timed in turns" in noisy.warnings[0]
    text = text_report(noisy)
    assert text.count(CONTENTION) == 1 and noisy.warnings[0] in text and "All times are valid" not in text
    hot = make_chosen(monkeypatch, FakeMachine(TIMES, invalid=tuple(TIMES), cause="throttled"))
    assert hot.warnings[0].startswith("No time is valid (throttled), so the order may change.")
    assert hot.warnings[0].endswith("Then choose again.") and text_report(hot).count("throttled") == 1
    doubtful = make_chosen(monkeypatch, FakeMachine(TIMES, invalid=("model-int8.onnx",), cause="fallback provider"))
    assert "model-int8.onnx in onnxruntime, threads: 1 may be faster (0.5" in doubtful.warnings[0]
    assert [row[-1] for row in table_rows(doubtful)] == ["fallback provider", "recommended"]
    causes = {"model-int8.onnx": "fallback provider", "model-fp32.onnx": CONTENTION}
    both = make_chosen(monkeypatch, FakeMachine(TIMES, invalid=tuple(causes), cause=causes))
    assert "made the times longer" in both.warnings[0] and "model-int8.onnx in onnx" in both.warnings[1]
    away = make_choice((), device="raspberry-pi-4b", is_here=False, advice="Its profile says so.")
    assert "not on raspberry-pi-4b: times there will differ" in away.warnings[0]
    assert away.warnings[0].endswith("Its profile says so.")
    assert make_choice((), images=make_images(note="too good")).warnings == ("too good",)


def test_nothing_to_ship() -> None:
    out = [make_candidate(comparison=FAILED, rejected_because=FAILED.verdict)]
    choice = make_choice(out)
    assert choice.to_json()["recommended"] is None and choice.margin == ""
    assert choice.to_json()["candidates"][0]["rejected_because"] == FAILED.verdict
    assert "Nothing may be shipped" in text_report(choice) and "rejected: model-int8.onnx" in text_report(choice)
