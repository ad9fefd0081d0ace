from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweeps import make_latency, make_point

from edgecls.sweep.frontier import SMALL_GAIN, find_frontier, find_steps, recommend

points = st.lists(
    st.tuples(st.integers(0, 30), st.floats(0.5, 50), st.integers(1, 5)).map(
        lambda row: make_point(f"{row}", range(row[0]), row[1], row[2])
    ),
    min_size=1,
    max_size=12,
)


@given(points)
def test_no_point_is_better_than_the_frontier(found: list) -> None:  # type: ignore[type-arg]
    frontier = find_frontier(found)
    assert [each.latency.p50_ms for each in frontier] == sorted({each.latency.p50_ms for each in frontier})
    assert [each.accuracy for each in frontier] == sorted({each.accuracy for each in frontier})
    for point in found:
        assert any(each.accuracy >= point.accuracy and each.latency.p50_ms <= point.latency.p50_ms for each in frontier)


@given(points, st.floats(0.5, 50))
def test_what_is_recommended_meets_the_budget_and_is_not_worse_than_the_best(found: list, budget_ms: float) -> None:  # type: ignore[type-arg]
    frontier = find_frontier(found)
    chosen = recommend(frontier, budget_ms)
    allowed = [each for each in found if each.latency.p50_ms <= budget_ms]
    assert (chosen is None) == (not allowed)
    if chosen is not None:
        best = max(allowed, key=lambda each: each.accuracy)
        assert chosen in frontier and chosen.latency.p50_ms <= budget_ms
        assert chosen.accuracy >= best.accuracy - SMALL_GAIN - 1e-6


def test_of_equal_ones_the_smaller_file_is_taken() -> None:
    large, small = make_point("large", range(3), 5, 9), make_point("small", range(3), 5, 2)
    assert find_frontier([large, small]) == (small,)


def test_half_a_point_is_not_paid_for_and_more_is() -> None:
    fast = make_point("fast", range(20), 3)
    almost, better = make_point("almost", range(19), 6), make_point("better", range(2), 12)
    assert recommend(find_frontier([fast, almost]), 25) == fast
    assert recommend(find_frontier([fast, almost, better]), 25) == better
    assert recommend(find_frontier([fast, almost, better]), 10) == fast
    assert recommend(find_frontier([fast, almost, better]), 2) is None


def test_steps_are_next_to_it_on_the_frontier() -> None:
    fast, middle, slow = (make_point(str(n), range(n), ms) for n, ms in ((20, 2), (10, 4), (5, 10)))
    slower, faster = find_steps((fast, middle, slow), middle)
    assert slower is not None and faster is not None
    assert (slower.point, faster.point) == (slow, fast)
    assert slower.times == 2.5 and slower.accuracy_gain == pytest.approx(0.025)
    # Five images against none: 2 / 2**5.
    assert slower.mcnemar_p == pytest.approx(0.0625)
    assert find_steps((fast, middle, slow), slow)[0] is None


def test_the_chance_to_miss_the_budget_follows_from_the_interval() -> None:
    latency = make_latency(20, 16, 25)
    assert latency.chance_above(20) == pytest.approx(0.5)
    # An 80 % interval leaves a tenth above it.
    assert latency.chance_above(25) == pytest.approx(0.1, abs=1e-6)
    assert latency.chance_above(16) == pytest.approx(0.9, abs=1e-6)
    assert make_latency(20, 20, 20).chance_above(19) == 1
    assert make_latency(20, 20, 20).chance_above(21) == 0
