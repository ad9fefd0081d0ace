"""Rounds on a machine whose times are known."""

from __future__ import annotations

from typing import Any

import pytest
from choices import FakeMachine, make_candidate
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecls.choose import rounds
from edgecls.choose.rounds import SCREENING_SECONDS, Timing, explain_rank, time_candidates
from edgecls.errors import ConfigError


def choose(times_ms: dict[str, float], together: int = 12, rejected: tuple[str, ...] = (), **how: Any) -> Timing:
    return choose_on(FakeMachine(times_ms, **how), times_ms, together, rejected)


def choose_on(
    machine: FakeMachine, times_ms: dict[str, float], together: int = 12, rejected: tuple[str, ...] = ()
) -> Timing:
    candidates = [make_candidate(name, rejected_because="lost" if name in rejected else "") for name in times_ms]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "run_benchmark", machine.run)
        patch.setattr(rounds, "_batch_size", lambda: together)
        return time_candidates(candidates, 3)


def winner(timing: Timing) -> str:
    return timing.winner.candidate.file.name


def test_only_the_finalists_are_timed_again() -> None:
    times = {"model-a.onnx": 4.0, "model-b.onnx": 2.1, "model-c.onnx": 2.0, "model-d.onnx": 2.15, "model-e.onnx": 9.0}
    machine = FakeMachine(times)
    timing = choose_on(machine, times)
    assert winner(timing) == "model-c.onnx"
    assert machine.rounds == [list(times), ["model-c.onnx", "model-b.onnx", "model-d.onnx"]]
    assert machine.seconds == [SCREENING_SECONDS, 3]
    found = {each.candidate.file.name: each for each in timing.timed}
    assert list(found) == ["model-c.onnx", "model-b.onnx", "model-d.onnx", "model-a.onnx", "model-e.onnx"]
    assert found["model-e.onnx"].ratio.ratio == pytest.approx(4.5, rel=0.02)
    assert not found["model-e.onnx"].is_finalist and found["model-d.onnx"].is_finalist
    assert timing.runner_up is found["model-b.onnx"]
    assert explain_rank(timing.winner, timing) == ""
    assert "times the recommended one's time, in the screening round" in explain_rank(found["model-e.onnx"], timing)
    assert explain_rank(found["model-b.onnx"], timing).startswith("slower: 1.05 [1.0")


def test_the_second_is_timed_again_however_slow_so_that_there_is_a_margin() -> None:
    machine = FakeMachine(times := {"model-a.onnx": 2.0, "model-b.onnx": 20.0})
    timing = choose_on(machine, times)
    assert machine.rounds[1] == ["model-a.onnx", "model-b.onnx"]
    assert timing.runner_up is not None and timing.runner_up.ratio.ratio == pytest.approx(10, rel=0.02)


def test_one_candidate_wins_alone() -> None:
    timing = choose({"model-a.onnx": 2.0})
    assert winner(timing) == "model-a.onnx" and timing.runner_up is None
    assert timing.winner.ratio.ratio == 1


def test_rejected_ones_are_only_screened_and_never_win() -> None:
    machine = FakeMachine(times := {"model-a.onnx": 1.0, "model-b.onnx": 2.0, "model-c.onnx": 2.05})
    timing = choose_on(machine, times, rejected=("model-a.onnx",))
    assert winner(timing) == "model-b.onnx"
    assert "model-a.onnx" not in machine.rounds[-1]
    fast = timing.timed[0]
    assert fast.candidate.file.name == "model-a.onnx" and fast.ratio.ratio == pytest.approx(0.5, rel=0.02)
    assert explain_rank(fast, timing) == "lost"


def test_an_invalid_time_wins_only_if_none_is_valid() -> None:
    times = {"model-a.onnx": 2.0, "model-b.onnx": 2.1}
    machine = FakeMachine(times, invalid=("model-a.onnx",), cause="fallback provider")
    timing = choose_on(machine, times)
    assert winner(timing) == "model-b.onnx" and timing.runner_up is None
    # It was timed again each time.
    assert len(machine.rounds) == 1 + rounds.ATTEMPTS
    assert explain_rank(timing.timed[0], timing) == "its time is invalid: fallback provider"
    timing = choose(times, invalid=tuple(times), cause="fallback provider")
    assert winner(timing) == "model-a.onnx" and not timing.winner.result.valid


def test_the_fastest_wins_in_spite_of_contention() -> None:
    machine = FakeMachine(times := {"model-a.onnx": 2.0, "model-b.onnx": 2.1}, invalid=("model-a.onnx",))
    timing = choose_on(machine, times)
    assert winner(timing) == "model-a.onnx" and not timing.winner.result.valid
    assert timing.runner_up is not None and timing.runner_up.candidate.file.name == "model-b.onnx"
    assert explain_rank(timing.runner_up, timing).startswith("slower: 1.05 [1.0")
    # It was timed again for a valid time.
    assert len(machine.rounds) == 1 + rounds.ATTEMPTS


def test_a_time_made_longer_by_contention_is_called_slower() -> None:
    timing = choose({"model-a.onnx": 2.0, "model-b.onnx": 2.1}, invalid=("model-b.onnx",))
    slow = timing.timed[1]
    assert timing.winner.result.valid and slow.is_finalist and not slow.result.valid
    assert explain_rank(slow, timing).startswith("slower: 1.05 [1.0")


def test_contention_that_ends_does_not_decide() -> None:
    times = {"model-a.onnx": 2.0, "model-b.onnx": 2.1}
    machine = FakeMachine(times, invalid=("model-a.onnx",), invalid_rounds=2)
    timing = choose_on(machine, times)
    assert winner(timing) == "model-a.onnx" and timing.winner.result.valid
    assert len(machine.rounds) == 3


@pytest.mark.parametrize("together", [2, 3, 12])
def test_a_machine_that_slows_down_does_not_favor_those_that_came_first(together: int) -> None:
    times = {f"model-{place}.onnx": 3.0 - place / 5 for place in range(8)}
    timing = choose(times, together, slower=2.0)
    assert winner(timing) == "model-7.onnx"
    order = [each.candidate.file.name for each in timing.timed]
    assert order == list(times)[::-1]
    assert timing.timed[-1].ratio.ratio == pytest.approx(3.0 / 1.6, rel=0.05)


@settings(max_examples=15)
@given(
    medians=st.lists(st.floats(0.5, 4.0), min_size=1, max_size=9),
    together=st.integers(2, 12),
    noise=st.floats(0, 0.03),
)
def test_the_choice_is_within_5_percent_of_the_best(medians: list[float], together: int, noise: float) -> None:
    times = {f"model-{place}.onnx": median for place, median in enumerate(medians)}
    timing = choose(times, together, noise=noise)
    assert times[winner(timing)] <= 1.05 * min(medians)
    assert len(timing.timed) == len(times)


def test_without_candidates_nothing_is_timed() -> None:
    machine = FakeMachine(times := {"model-a.onnx": 1.0})
    with pytest.raises(ConfigError, match="no candidate may be shipped"):
        choose_on(machine, times, rejected=tuple(times))
    with pytest.raises(ConfigError, match="no candidate may be shipped"):
        time_candidates([make_candidate(threads=None)], 1)
    with pytest.raises(ConfigError, match="seconds must be"):
        time_candidates([make_candidate()], 0)
    assert machine.rounds == []


def test_the_batch_size_depends_on_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import edgecls.boards.machine

    class Machine:
        memory_mb = 0

    monkeypatch.setattr(edgecls.boards.machine, "read_machine", lambda: Machine)
    counts = []
    for Machine.memory_mb in (0, 512, 1024, 64_000):
        counts.append(rounds._batch_size())
    assert counts == [2, 2, 3, 12]
