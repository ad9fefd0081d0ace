from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from benchmark_files import MACHINE, MODEL, make_record, make_result, make_state, make_times
from hypothesis import given
from hypothesis import strategies as st

from edgecls.benchmark.compare import TOLERANCE, compare_records, find_verdict, unpaired
from edgecls.benchmark.record import BenchmarkError

OLD = make_record(make_result(make_times(2.0)))


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.2, "slower"), (1 / 1.2, "faster"), (1.0, "no different"), (1.03, "no different")]
)
def test_a_slowdown_of_a_fifth_is_found_and_noise_is_none(factor: float, verdict: str) -> None:
    (found,) = compare_records(OLD, make_record(make_result(make_times(2 * factor, seed=1))))
    assert found.verdict == verdict
    assert found.ratio == pytest.approx(factor, rel=0.02)
    assert found.low <= found.ratio <= found.high
    assert found.old_p50_ms == pytest.approx(2, rel=0.02)
    assert found.new_p50_ms == pytest.approx(2 * factor, rel=0.02)


def test_two_noisy_runs_of_the_same_are_not_called_different() -> None:
    wrong = []
    for seed in range(25):
        before, now = (make_record(make_result(make_times(2, 0.05, 20, 2 * seed + i))) for i in range(2))
        wrong += [each for each in compare_records(before, now) if each.verdict != "no different"]
    assert len(wrong) <= 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"machine": MACHINE | {"board": "Raspberry Pi 5 Model B Rev 1.0"}}, "machines: board"),
        ({"machine": MACHINE | {"allowed_cpus": [0, 1]}}, "machines: allowed_cpus"),
        ({"machine": MACHINE | {"quota_cpus": 2.0}}, "machines: quota_cpus"),
        ({"states": [asdict(make_state(governors={"cpu0": "ondemand"}))]}, "governor was performance, is ondemand"),
    ],
)
def test_unlike_machines_are_refused(changes: dict[str, Any], said: str) -> None:
    new = make_record(make_result(), **changes)
    with pytest.raises(BenchmarkError, match=rf"(?s){said}.*--force"):
        compare_records(OLD, new)
    assert len(compare_records(OLD, new, force=True)) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scope": "end-to-end"}, "scope was 'invoke', is 'end-to-end'"),
        ({"fps": 30.0}, "fps was None, is 30.0"),
        ({"engine": "openvino"}, "engine was 'litert'"),
        ({"threads": 4}, "threads was 1, is 4"),
        ({"device": "edgetpu"}, "device was 'cpu'"),
        ({"model": MODEL | {"precision": "fp32"}}, "models: precision was 'int8'"),
        ({"model": MODEL | {"height": 96}}, "models: height"),
        ({"model": MODEL | {"bytes": 1_900_000}}, "had 2800000 bytes, has 1900000"),
        ({"valid": False, "causes": ["throttled"]}, r"new result is not valid \(throttled\)"),
    ],
)
def test_unlike_results_are_refused(changes: dict[str, Any], said: str) -> None:
    new = make_record(make_result(**changes))
    with pytest.raises(BenchmarkError, match=rf"(?s){said}.*--force"):
        compare_records(OLD, new)
    assert len(compare_records(OLD, new, force=True)) == 1


def test_other_weights_in_the_same_network_may_be_compared() -> None:
    model = MODEL | {"sha256": "b" * 64, "accuracy": 0.9, "bytes": 2_801_000}
    assert len(compare_records(OLD, make_record(make_result(model=model, engine_version="2.4.0")))) == 1


def test_results_are_paired_by_file_engine_and_threads() -> None:
    def two(first: float, second: float, folder: str) -> list[Any]:
        return [
            make_result(make_times(first), file=f"{folder}/model-int8.tflite"),
            make_result(make_times(second), file=f"{folder}/model-int8.tflite", threads=4),
        ]

    old, new = make_record(*two(2, 1, "a")), make_record(*two(2, 1, "b")[::-1], make_result(file="other.tflite"))
    found = compare_records(old, new)
    assert [each.new_p50_ms for each in found] == pytest.approx([1, 2], rel=0.02)
    assert [each.verdict for each in found] == ["no different"] * 2
    assert unpaired(old, new) == ("other.tflite in litert, threads: 1",)


def test_files_of_one_name_are_told_apart_by_their_paths() -> None:
    files = ("run1/export/model-int8.tflite", "run2/export/model-int8.tflite")
    old = make_record(*(make_result(make_times(ms), file=file) for ms, file in zip((2, 1), files, strict=True)))
    new = make_record(*(make_result(make_times(ms), file=file) for ms, file in zip((1, 2), files[::-1], strict=True)))
    found = compare_records(old, new)
    assert [(each.name.split()[0], each.verdict) for each in found] == [(file, "no different") for file in files[::-1]]
    # Which of the two it was is not known.
    with pytest.raises(BenchmarkError, match="nothing to compare: the old file has run1/export/.*run2/export/"):
        compare_records(old, make_record(make_result(file=files[0])))


def test_single_results_belong_together_whatever_their_names() -> None:
    new = make_record(make_result(file="after/tuned.tflite"))
    assert len(compare_records(OLD, new)) == 1
    assert unpaired(OLD, new) == ()


def test_nothing_in_common_is_an_error() -> None:
    new = make_record(make_result(file="a.tflite"), make_result(file="b.tflite"))
    for force in (False, True):
        with pytest.raises(BenchmarkError, match=r"the old file has model-int8.tflite in litert"):
            compare_records(OLD, new, force=force)


@given(st.floats(0.1, 10), st.floats(0, 3))
def test_an_interval_that_touches_the_tolerance_is_no_difference(low: float, width: float) -> None:
    high = low + width
    touches = low <= 1 + TOLERANCE and high >= 1 - TOLERANCE
    assert (find_verdict(low, high) == "no different") == touches
    if not touches:
        assert find_verdict(low, high) == ("slower" if low > 1 else "faster")
