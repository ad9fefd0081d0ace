"""Leaving out: nothing of what is left out may be known, and the statistics are what they say."""

from __future__ import annotations

import dataclasses
import math

import estimate_validation
import numpy as np
import pytest
from estimate_validation import (
    SCHEMES,
    START,
    Held,
    by_latency,
    coverage,
    fit_prior_scales,
    leave_out,
    left_out,
    quantile,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecls.estimate import model as estimate_model
from edgecls.estimate.model import COVERAGE, find_evidence, fit, run_of
from edgecls.estimate.published_latencies import PublishedLatency, load_latencies, load_processor
from edgecls.estimate.published_networks import published_network

LATENCIES = load_latencies()
# Enough to fit, few enough to be fast.
SOME = tuple(latency for latency in LATENCIES if latency.processor in ("bcm2711", "bcm2837b0", "tegra-x1"))[:40]


def test_every_latency_can_be_used() -> None:
    assert len(LATENCIES) > 200
    for latency in LATENCIES:
        assert load_processor(latency.processor).kind in ("cpu", "edgetpu", "gpu")
        assert published_network(latency.model).multiply_adds > 0
        assert latency.ms > 0
        assert latency.cores >= 1
        assert latency.precision in ("fp32", "fp16", "int8")
        assert len(latency.source) > 20


def test_what_is_not_used_says_why() -> None:
    reasons = {(board, row.ms): row.left_out for board, row in left_out()}
    assert "threads" in reasons["coral-dev-board", 122]
    assert all(reasons.values())


@pytest.mark.parametrize("name", SCHEMES)
def test_nothing_of_what_is_left_out_is_known(name: estimate_model.Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[PublishedLatency], list[PublishedLatency]]] = []
    real = estimate_validation._folds

    def folds(*args: object) -> object:
        for out, rest in real(*args):  # type: ignore[arg-type]
            seen.append((out, rest))
            yield out, rest

    monkeypatch.setattr(estimate_validation, "_folds", folds)
    monkeypatch.setattr(estimate_validation, "fit_prior_scales", lambda _: START)
    held = leave_out(SOME, SCHEMES[name])
    assert sorted(row.latency.ms for row in held) == sorted(latency.ms for latency in SOME)
    for out, rest in seen:
        keys = {SCHEMES[name](latency) for latency in out}
        assert len(keys) == 1
        assert not keys & {SCHEMES[name](latency) for latency in rest}


def test_a_left_out_latency_does_not_move_its_own_prediction() -> None:
    (first, *rest) = SOME
    changed = (dataclasses.replace(first, ms=100 * first.ms), *rest)
    before, after = (leave_out(latencies, by_latency)[0] for latencies in (SOME, changed))
    assert math.isclose(before.predicted_ms, after.predicted_ms)
    assert after.error > 0.9


def test_one_measurement_is_all_that_is_known_of_a_setting() -> None:
    held = estimate_validation.leave_all_but_one_out(SOME)
    assert held
    assert {row.evidence for row in held} == {"measured"}
    # Every ordered pair of different networks in a setting.
    settings_of = [estimate_validation.by_setting(latency) for latency in SOME]
    pairs = sum(
        a == b and SOME[i].model != SOME[j].model for i, a in enumerate(settings_of) for j, b in enumerate(settings_of)
    )
    assert len(held) == pairs


def test_evidence_follows_from_what_is_known() -> None:
    def only(processor: str, engine: str) -> list[PublishedLatency]:
        return [latency for latency in LATENCIES if (latency.processor, latency.engine) == (processor, engine)]

    run = run_of(only("bcm2711", "xnnpack")[0])
    for known, evidence in (
        (only("bcm2711", "xnnpack"), "latency"),
        (only("bcm2711", "ncnn") + only("bcm2711", "opencv"), "new"),
        (only("bcm2837b0", "xnnpack"), "new"),
        ([], "new"),
    ):
        assert find_evidence(run, [run_of(latency) for latency in known]) == evidence
    nano = dataclasses.replace(run, processor=load_processor("tegra-x1"))
    pi4 = [run_of(latency) for latency in only("bcm2711", "xnnpack")]
    assert find_evidence(nano, pi4) == "board"
    assert find_evidence(nano, pi4 + [run_of(latency) for latency in only("tegra-x1", "ncnn")]) == "engine"


@given(scores=st.lists(st.floats(0, 10), min_size=5, max_size=60))
def test_the_quantile_holds_its_share(scores: list[float]) -> None:
    assert sum(score <= quantile(scores) for score in scores) >= COVERAGE * len(scores)
    assert quantile(scores) in scores


def test_coverage_is_found_with_other_boards_intervals() -> None:
    def held(processor: str, error: float) -> Held:
        latency = next(latency for latency in LATENCIES if latency.processor == processor)
        return Held(latency, "latency", latency.ms * math.exp(error), sd=0.1)

    calm = [held("bcm2711", 0.1)] * 10
    wild = [held("bcm2712", 1.0)] * 10
    # Each board's errors are judged by the other's: the wild are outside, the calm inside.
    assert coverage(calm + wild) == 0.5


@settings(max_examples=10)
@given(factor=st.floats(0.1, 10))
def test_the_model_scales_with_its_data(factor: float) -> None:
    # A ridge draws towards zero, and what is common to all is drawn least.
    scaled = [dataclasses.replace(latency, ms=latency.ms * factor) for latency in SOME]
    one, other = (fit(latencies, START).predict(run_of(SOME[0]))[0] for latencies in (SOME, scaled))
    assert abs(other - one - math.log(factor)) < 0.1 * abs(math.log(factor)) + 1e-9


def test_the_model_finds_what_made_the_data() -> None:
    # Latencies that the model makes itself, with an effect of each engine and processor: it must predict unseen ones.
    random = np.random.default_rng(0)
    effects = {name: random.normal(0, 0.3) for latency in LATENCIES for name in (latency.engine, latency.processor)}
    made = [
        dataclasses.replace(f, ms=math.exp(fit_base(f) + effects[f.engine] + effects[f.processor])) for f in LATENCIES
    ]
    prior_scales = fit_prior_scales(made)
    errors = []
    for i in range(0, len(made), 12):
        mean, _ = fit(made[:i] + made[i + 1 :], prior_scales).predict(run_of(made[i]))
        errors.append(abs(mean - math.log(made[i].ms)))
    assert np.median(errors) < 0.05


def fit_base(latency: PublishedLatency) -> float:
    from edgecls.estimate.model import nominal

    return nominal(run_of(latency))
