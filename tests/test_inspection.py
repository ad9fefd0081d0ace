from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import LABELS, make_spec

from edgecls import inspection
from edgecls.errors import ConfigError, DataError
from edgecls.evaluate import wilson_interval
from edgecls.inspection import (
    MOST_POINTS,
    Limit,
    Rates,
    choose_threshold,
    count_rates,
    histogram,
    inspect_file,
    make_limit,
    measure_curve,
)

# Scores of the good class, 1, for good images and for defects of two classes.
GOOD, DEFECTS = (0.99, 0.9, 0.8, 0.6), (0.95, 0.7, 0.3, 0.2, 0.1)


def images_of(good: tuple[float, ...], defects: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    own = np.array([*good, *defects])
    scores = np.stack([(1 - own) * 0.3, own, (1 - own) * 0.7], 1).astype(np.float32)
    labels = np.array([1] * len(good) + [2 * (i % 2) for i in range(len(defects))])
    return scores, labels


def test_every_class_but_the_good_one_is_a_defect() -> None:
    scores, labels = images_of(GOOD, DEFECTS)
    assert count_rates(scores, labels, 1) == Rates(5, 2, 4, 0)
    assert count_rates(scores, labels, 1, 0.97) == Rates(5, 0, 4, 3)
    assert count_rates(scores, labels, 1, 0.0) == Rates(5, 5, 4, 0)


def test_rates_have_intervals_and_none_without_images() -> None:
    rates = Rates(40, 1, 0, 0)
    found = rates.to_json()
    assert (found["missed_rate"], found["missed_low"], found["missed_high"]) == (0.025, *wilson_interval(1, 40))
    assert (found["false_alarm_rate"], found["false_alarm_low"]) == (None, None)
    assert str(rates).startswith("1 of 40 defects missed (2.5 %, 95 % interval 0.4 % to 12.9 %)")
    assert "no good image to measure on" in str(rates)


def test_points_of_the_curve_are_halfway_to_the_next_lower_score() -> None:
    curve = measure_curve(*images_of(GOOD, DEFECTS), 1)
    assert (curve.defects, curve.good) == (5, 4)
    # Below 0.6 two defects are missed, below 0.8 and 0.9 one.
    found = [*zip(*curve.points, strict=True)]
    assert found[1:] == [(2, 1, 1, 0), (0, 1, 2, 3)] and found[0] == pytest.approx((0.45, 0.75, 0.85, 0.97))


@given(st.lists(st.sampled_from(range(256)), min_size=1), st.lists(st.sampled_from(range(256)), min_size=1))
def test_counts_of_the_curve_are_those_of_its_thresholds(good: list[int], defects: list[int]) -> None:
    scores, labels = images_of(tuple(v / 256 for v in good), tuple(v / 256 for v in defects))
    curve = measure_curve(scores, labels, 1)
    for threshold, missed, alarms in curve.points:
        assert count_rates(scores, labels, 1, threshold) == Rates(len(defects), missed, len(good), alarms)
    # No other threshold is better in both.
    for threshold in np.linspace(0, 1, 60):
        rates = count_rates(scores, labels, 1, float(threshold))
        at_most = [alarms for _, missed, alarms in curve.points if missed <= rates.missed]
        assert not at_most or min(at_most) <= rates.false_alarms


def test_a_long_curve_is_thinned_but_keeps_the_fewest_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    images = images_of(tuple(rng.random(3000)), tuple(rng.random(3000)))
    thin = measure_curve(*images, 1).points
    monkeypatch.setattr(inspection, "MOST_POINTS", 10_000)
    full = measure_curve(*images, 1).points
    assert len(thin) <= MOST_POINTS < len(full)
    fewest = {missed: (threshold, missed, alarms) for threshold, missed, alarms in reversed(full)}
    assert set(list(fewest.values())[:90]) <= set(thin) and thin[0] == full[0] and thin[-1] == full[-1]


def test_the_threshold_holds_on_average_over_new_images() -> None:
    """Conformal risk control: over many draws the mean fraction of missed defects is within the limit."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        return images_of(tuple(rng.beta(8, 1, count)), tuple(rng.beta(2, 4, count)))

    missed = []
    for _ in range(300):
        choice = choose_threshold(measure_curve(*draw(60), 1), Limit("missed", 0.05))
        assert choice.doubt == ""
        missed.append(count_rates(*draw(200), 1, choice.threshold).missed / 200)
    assert 0.02 < np.mean(missed) < 0.055


def test_a_limit_of_false_alarms_misses_as_few_as_it_can() -> None:
    choice = choose_threshold(measure_curve(*images_of(GOOD, DEFECTS), 1), Limit("false_alarms", 0.4))
    assert choice.threshold == pytest.approx(0.75) and choice.rates == Rates(5, 1, 4, 1)


def test_too_few_images_are_said() -> None:
    choice = choose_threshold(measure_curve(*images_of(GOOD, DEFECTS), 1), Limit("missed", 0.01))
    assert choice.rates.missed == 0
    assert "5 validation images are defects, but 99 are needed to hold 1 %" in choice.doubt
    assert choose_threshold(measure_curve(*images_of(GOOD, DEFECTS), 1), Limit("missed", 0.0)).doubt
    enough = measure_curve(*images_of(GOOD, tuple(np.linspace(0, 0.9, 99))), 1)
    assert choose_threshold(enough, Limit("missed", 0.01)).doubt == ""


@pytest.mark.parametrize(("images", "rate"), [(40, 0.02), (30, 0.01), (12, 0.05)])
def test_of_few_images_the_highest_scores_tell_how_far_others_go(images: int, rate: float) -> None:
    """Logistic scores, whose logits have an exponential tail: new images are within the limit on average."""
    rng = np.random.default_rng(0)
    missed = []
    for _ in range(300):
        defects = tuple(1 / (1 + np.exp(-rng.logistic(-3, 1, images))))
        choice = choose_threshold(
            measure_curve(*images_of(tuple(rng.beta(60, 1, 400)), defects), 1), Limit("missed", rate)
        )
        assert choice.doubt and choice.rates.missed == 0
        missed.append((1 / (1 + np.exp(-rng.logistic(-3, 1, 500))) >= choice.threshold).mean())
    assert np.mean(missed) < rate
    assert np.mean(missed) > rate / 8


def test_a_limit_that_only_a_useless_threshold_holds_is_refused() -> None:
    sure = measure_curve(*images_of((0.9, 0.8), (1.0, 0.1)), 1)
    with pytest.raises(DataError, match=r"--max-missed 0.01 cannot be held.*calls every good image a defect"):
        choose_threshold(sure, Limit("missed", 0.01))
    with pytest.raises(DataError, match=r"--max-false-alarms 0.1 cannot.*every defect good"):
        choose_threshold(measure_curve(*images_of((0.1, 0.2), (0.9, 0.8)), 1), Limit("false_alarms", 0.1))


@pytest.mark.parametrize(("good", "defects", "what"), [((), (0.1,), "good image"), ((0.9,), (), "image of a defect")])
def test_a_threshold_needs_images_of_both(good: tuple[float, ...], defects: tuple[float, ...], what: str) -> None:
    with pytest.raises(DataError, match=f"no {what}"):
        measure_curve(*images_of(good, defects), 1)


def test_the_histogram_counts_all_images() -> None:
    found = histogram(*images_of((1.0, 0.9), (0.0, 0.05, 1.0)), 1, bins=10)
    assert found == {"good": [0] * 8 + [1, 1], "defects": [2] + [0] * 8 + [1]} or sum(found["good"]) == 2
    assert sum(found["defects"]) == 3 and found["defects"][0] == 2 and found["defects"][-1] == 1


def spec_with(curve: object, **changes: Any) -> Any:
    return make_spec(metrics={"inspection": {"curve": curve}}, good_class=LABELS[1], **changes)


def test_a_file_is_measured_at_its_own_threshold_or_at_one_for_a_limit() -> None:
    scores, labels = images_of(GOOD, DEFECTS)
    curve = {"defects": 200, "good": 300, "points": [[0.5, 3, 0], [0.75, 2, 5], [0.97, 0, 9]]}
    for limit, threshold in ((None, 0.65), (Limit("missed", 0.01), 0.97), (Limit("missed", 0.2), 0.5)):
        judge = inspect_file(spec_with(curve, good_threshold=0.65), None, limit)
        assert judge is not None
        found = judge(scores, labels)
        assert (found["good_class"], found["threshold"]) == (LABELS[1], threshold)
        assert found["held_out"] == count_rates(scores, labels, 1, threshold).to_json()
        assert found["highest_score"]["missed"] == 2
    # Another good class than the file's has no threshold.
    other = inspect_file(spec_with(curve, good_threshold=0.65), LABELS[0], None)
    assert other is not None and other(scores, labels)["threshold"] is None
    assert inspect_file(make_spec(), None, None) is None


@pytest.mark.parametrize("curve", [None, 3, {"defects": 1}, {"defects": 1, "good": "x", "points": []}])
def test_files_without_validation_scores_are_refused(curve: object) -> None:
    limit = make_limit(None, 0.1)
    with pytest.raises(ConfigError, match=r"holds no validation scores.*--max-false-alarms 0.1"):
        inspect_file(spec_with(curve), None, limit)
    with pytest.raises(ConfigError, match="add --good-class"):
        inspect_file(make_spec(), None, limit)
    with pytest.raises(ConfigError, match="exclude each other"):
        make_limit(0.1, 0.1)


@pytest.mark.parametrize(("name", "hint"), [("Nut", "did you mean 'nut'"), ("xyz", "the classes are bolt, nut")])
def test_an_unknown_class_is_refused(name: str, hint: str) -> None:
    with pytest.raises(DataError, match=hint):
        inspect_file(make_spec(), name, None)
    # A decomposed letter is the same letter.
    assert inspect_file(make_spec(), "Mutter a\u0308", None) is not None
