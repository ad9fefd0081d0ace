from __future__ import annotations

import pytest
from choices import FakeMachine, make_candidate, make_comparison

from edgecls.choose import int8_gain, rounds
from edgecls.choose.candidates import Candidate
from edgecls.choose.int8_gain import explain_int8, find_causes
from edgecls.choose.rounds import Timing, time_candidates
from edgecls.profiling.profile import OperatorTime, OperatorTimes


def make_profile(invoke_ms: float = 5.0, **shares: float) -> OperatorTimes:
    operators = tuple(OperatorTime(name, name, (), share * invoke_ms, share) for name, share in shares.items())
    return OperatorTimes("model-int8.onnx", "onnxruntime", "1.32.0", 1, "a profiler", invoke_ms, invoke_ms, operators)


@pytest.mark.parametrize(
    ("profile", "isa", "said"),
    [
        (make_profile(QLinearConv=1.0), ("avx2", "vnni"), []),
        (make_profile(QLinearConv=1.0), ("neon", "dotprod"), []),
        (make_profile(QLinearConv=1.0), ("avx2",), ["no int8 dot product", "it has avx2"]),
        (
            make_profile(QLinearConv=0.7, QuantizeLinear=0.1, DequantizeLinear=0.2),
            ("vnni",),
            ["remain: 2", "take 30 %"],
        ),
        (make_profile(CONV_2D=0.97, QUANTIZE=0.03), ("vnni",), []),
        (make_profile(0.012, CONV_2D=0.5, SOFTMAX=0.5), ("vnni",), ["small (32x32): 2 operators take 6.0 micro"]),
    ],
)
def test_causes(profile: OperatorTimes, isa: tuple[str, ...], said: list[str]) -> None:
    causes = "; ".join(find_causes(profile, isa, "32x32"))
    assert bool(causes) == bool(said)
    for part in said:
        assert part in causes


def explain(
    monkeypatch: pytest.MonkeyPatch, times: dict[str, float], candidates: list[Candidate], invalid: tuple[str, ...] = ()
) -> str:
    monkeypatch.setattr(rounds, "run_benchmark", FakeMachine(times, invalid=invalid, cause="fallback provider").run)
    timing: Timing = time_candidates(candidates, 1)
    return explain_int8(timing, candidates)


def test_int8_is_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"model-int8.onnx": 2.0, "model-fp32.onnx": 4.0, "model-fp16.onnx": 5.0}
    said = explain(monkeypatch, times, [make_candidate(name) for name in times])
    assert said.startswith(
        "int8 is the fastest: model-fp32.onnx in onnxruntime, threads: 1, the fastest in float, takes 2.0"
    )
    assert "no float configuration" in explain(monkeypatch, times, [make_candidate("model-int8.onnx")])


def test_the_profile_and_the_processor_explain_why_int8_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"model-int8.onnx": 4.0, "model-fp32.onnx": 2.0}
    asked = []

    def profile_file(*arguments: object) -> OperatorTimes:
        asked.append(arguments)
        return make_profile(QLinearConv=0.5, QuantizeLinear=0.5)

    monkeypatch.setattr(int8_gain, "profile_file", profile_file)
    said = explain(monkeypatch, times, [make_candidate(name) for name in times])
    assert said.startswith("int8 is slower: model-int8.onnx in onnxruntime, threads: 1 takes 2.0")
    # The machine of the record has neon alone.
    assert "no int8 dot product" in said and "(Q/DQ) remain: 1" in said
    assert asked[0][1:3] == ("onnxruntime", 1)


def test_an_invalid_int8_time_may_be_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"model-int8.onnx": 1.0, "model-fp32.onnx": 2.0}
    said = explain(monkeypatch, times, [make_candidate(name) for name in times], invalid=("model-int8.onnx",))
    assert said.startswith("int8 may be faster") and "0.5" in said


def test_operators_of_a_gpu_are_not_explained_by_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"model-int8.onnx": 4.0, "model-fp32.onnx": 2.0}
    said = explain(monkeypatch, times, [make_candidate(name, device="cuda") for name in times])
    assert "it ran on cuda, whose operators are not profiled" in said


def test_an_int8_file_that_lost_accuracy_is_named_with_what_it_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = make_comparison(wrong=3)
    assert not failed.passed
    times = {"model-int8.onnx": 1.0, "model-fp32.onnx": 2.0}
    out = make_candidate("model-int8.onnx", comparison=failed, rejected_because=failed.verdict)
    said = explain(monkeypatch, times, [out, make_candidate("model-fp32.onnx")])
    assert said.startswith("int8 may not be shipped: model-int8.onnx: failed: -15.00 points, ")
    assert "would take 0.5" in said
