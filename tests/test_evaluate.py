from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import edgecls
from edgecls.errors import DataError
from edgecls.evaluate import describe_confusions, mcnemar_p, score, score_images, wilson_interval, write_mistakes

CLASSES = ("a", "b", "c")
# Truth 0 0 1 1, predicted 0 1 1 1; class c has neither images nor predictions.
SCORES = np.array([[0.9, 0.1, 0.0], [0.3, 0.7, 0.0], [0.2, 0.8, 0.0], [0.0, 1.0, 0.0]])
LABELS = np.array([0, 0, 1, 1])


def test_metrics_computed_by_hand() -> None:
    result = score(SCORES, LABELS, CLASSES)
    assert (result.images, result.accuracy) == (4, 0.75)
    assert result.confusion.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    per_class = result.to_json()["per_class"]
    old = [tuple(per_class[name][key] for key in ("recall", "precision", "support")) for name in CLASSES]
    assert old == [(0.5, 1.0, 2), (1.0, pytest.approx(2 / 3), 2), (None, 0.0, 0)]
    half = wilson_interval(1, 2)
    assert per_class["a"]["recall_interval"] == half and per_class["a"]["precision_interval"] == wilson_interval(1, 1)
    # One correct image of the two that are of a or predicted as a.
    assert per_class["a"]["f1"] == pytest.approx(2 / 3)
    assert per_class["a"]["f1_interval"] == pytest.approx([2 * end / (1 + end) for end in half])
    assert {per_class["c"][key] for key in ("f1", "recall_interval", "precision_interval", "f1_interval")} == {None}
    assert result.missing_classes == ["c"]
    # F1: a = 2/3, b = 4/5; c has no image to be judged by.
    assert result.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    # Every confidence in a bin of its own: gaps 0.1, 0.7, 0.2, 0.0.
    assert result.ece == pytest.approx(1.0 / 4)


def test_ece_averages_inside_a_bin_and_puts_edges_into_the_lower_bin() -> None:
    # 0.91 and 0.93 share the bin (13/15, 14/15]: one correct, one incorrect -> |0.5 - 0.92|.
    shared = score(np.array([[0.91, 0.09], [0.93, 0.07]]), np.array([0, 1]), ("a", "b"))
    assert shared.ece == pytest.approx(0.42)
    # 0.6 = 9/15 belongs to (8/15, 9/15] and 0.61 to the next: gaps |1 - 0.6| and |0 - 0.61| stay apart.
    apart = score(np.array([[0.6, 0.4], [0.61, 0.39]]), np.array([0, 1]), ("a", "b"))
    assert apart.ece == pytest.approx((0.4 + 0.61) / 2)


def test_to_json_has_the_keys_that_scripts_read() -> None:
    document = json.loads(json.dumps(score(SCORES, LABELS, CLASSES).to_json(), allow_nan=False))
    assert set(document) == {"images", "accuracy", "macro_f1", "per_class", "confusion", "ece"}


@st.composite
def results(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    images, classes = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    raw = draw(hnp.arrays(np.float64, (images, classes), elements=st.floats(0.001, 1)))
    labels = draw(hnp.arrays(np.int64, images, elements=st.integers(0, classes - 1)))
    return raw / raw.sum(axis=1, keepdims=True), labels, tuple(map(str, range(classes)))


@given(results())
def test_metrics_agree_with_each_other(drawn: tuple[np.ndarray, np.ndarray, tuple[str, ...]]) -> None:
    scores, labels, classes = drawn
    result = score(scores, labels, classes)
    assert result.confusion.sum() == result.images == len(labels)
    assert result.confusion.sum(axis=1).tolist() == np.bincount(labels, minlength=len(classes)).tolist()
    assert result.accuracy == pytest.approx((scores.argmax(axis=1) == labels).mean())
    recalled = sum((m.recall or 0) * m.support for m in result.per_class.values()) / len(labels)
    assert recalled == pytest.approx(result.accuracy)
    assert all((m.recall is None) == (m.support == 0) for m in result.per_class.values())
    assert 0 <= result.ece <= 1 and 0 <= result.macro_f1 <= 1


@given(results(), st.randoms(use_true_random=False))
def test_order_of_images_does_not_matter(drawn: tuple[np.ndarray, np.ndarray, tuple[str, ...]], rng: object) -> None:
    scores, labels, classes = drawn
    order = list(range(len(labels)))
    rng.shuffle(order)  # type: ignore[attr-defined]
    one, other = score(scores, labels, classes), score(scores[order], labels[order], classes)
    assert one.to_json() | {"ece": 0} == other.to_json() | {"ece": 0}
    assert one.ece == pytest.approx(other.ece)


@given(results())
def test_only_correct_predictions_give_one(drawn: tuple[np.ndarray, np.ndarray, tuple[str, ...]]) -> None:
    scores, _, classes = drawn
    result = score(scores, scores.argmax(axis=1), classes)
    assert result.accuracy == 1.0
    assert {m.recall for m in result.per_class.values() if m.support} == {1.0}


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.where(SCORES == 0.9, np.nan, SCORES), LABELS, "probabilities"),
        (SCORES * 7, LABELS, "probabilities"),
        (SCORES - 0.5, LABELS, "probabilities"),
        (SCORES[:, :2], LABELS, "one column for each class"),
        (SCORES[:, 0], LABELS, "one column for each class"),
        (SCORES, LABELS[:3], "one for each image"),
        (SCORES, LABELS.astype(float), "one for each image"),
        (SCORES, np.array([0, 0, 1, 3]), "0 to 2"),
        (SCORES, np.array([0, 0, 1, -1]), "0 to 2"),
        (SCORES[:0], LABELS[:0], "no image"),
    ],
)
def test_unusable_input_is_an_error(scores: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        score(scores, labels, CLASSES)


def test_images_are_scored_in_parts_that_are_reported(tiny_onnx: Path) -> None:
    classifier = edgecls.load(tiny_onnx)
    images = np.random.default_rng(0).integers(0, 256, (70, 12, 10, 1), np.uint8)
    calls: list[tuple[int, int]] = []
    scores = score_images(classifier, images, lambda done, total: calls.append((done, total)))
    np.testing.assert_array_equal(scores, classifier.scores(images))
    assert calls == [(32, 70), (64, 70), (70, 70)]


def test_wilson_against_a_published_value() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263 gives 0.2553 to 0.3662.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


@given(st.integers(1, 2000), st.data())
def test_wilson_holds_the_fraction_and_stays_inside(trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials))
    low, high = wilson_interval(hits, trials)
    assert 0 <= low <= hits / trials + 1e-12 and hits / trials - 1e-12 <= high <= 1


def test_the_confusions_that_matter_are_one_sentence() -> None:
    labels = np.repeat([0, 1, 2], [6, 4, 5])
    predicted = np.array([1, 1, 1, 0, 0, 0, 2, 2, 1, 1, 0, 2, 2, 2, 2])
    result = score(np.eye(3)[predicted], labels, CLASSES)
    assert describe_confusions(result) == "5 of 6 mistakes: a taken for b (3 of 6), b taken for c (2 of 4)."
    # Defects that are taken for the good class leave the factory.
    assert describe_confusions(result, "c").startswith("5 of 6 mistakes: b taken for c (2 of 4), a taken")
    assert (
        describe_confusions(score(np.eye(3)[[0, 1]], np.array([0, 2]), CLASSES))
        == "1 of 1 mistake: c taken for b (1 of 1)."
    )
    assert describe_confusions(score(np.eye(3), np.arange(3), CLASSES)) == ""


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_mistakes_are_listed_by_name_the_most_confident_first(tmp_path: Path) -> None:
    scores = np.array([[0.4, 0.6], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    float_scores = np.array([[0.4, 0.6], [0.4, 0.6], [0.7, 0.3], [0.3, 0.7]])
    names, labels = ["a/1.png", "b/2.png", "a/3.png", "b/4.png"], np.array([0, 1, 0, 1])
    arguments = tmp_path / "m.csv", names, labels, ("a", "b"), scores
    assert write_mistakes(*arguments) == 3
    assert read_table(arguments[0])[0] == {"path": "b/2.png", "true": "b", "predicted": "a", "score": "0.9000"}
    write_mistakes(*arguments, float_scores)
    assert [(row["path"], row["float_predicted"], row["float_score"]) for row in read_table(arguments[0])] == [
        ("b/2.png", "b", "0.6000"),
        ("a/3.png", "a", "0.7000"),
        ("a/1.png", "b", "0.6000"),
    ]
    assert write_mistakes(*arguments, float_scores, flips=True) == 2
    assert {row["path"] for row in read_table(arguments[0])} == {"b/2.png", "a/3.png"}


def test_names_are_no_formulas_and_odd_ones_survive(tmp_path: Path) -> None:
    names = ["=cmd|calc!A0.png", "-1+1/a.png", 'a,b "c"\nd.png', "\udcff.png", "\t@x.png", "größe/日本.png"]
    path, classes = tmp_path / "m.csv", ("=SUM(A1)", "@b")
    write_mistakes(path, names, np.zeros(6, int), classes, np.tile([0.1, 0.9], (6, 1)))
    rows = read_table(path)
    # Other spellings of the same paths.
    assert [row["path"] for row in rows] == [
        "./=cmd|calc!A0.png", "./-1+1/a.png", "a,b \"c\"\nd.png", "\\udcff.png", "./\t@x.png", "größe/日本.png"
    ]  # fmt: skip
    assert {(row["true"], row["predicted"]) for row in rows} == {("'=SUM(A1)", "'@b")}


def test_mcnemar_against_published_values() -> None:
    # Binomial(10, 1/2): P(X <= 1) = 11/1024, doubled.
    assert mcnemar_p(9, 1) == pytest.approx(22 / 1024)
    assert mcnemar_p(0, 0) == 1
    assert mcnemar_p(5, 5) == 1
    assert mcnemar_p(0, 20) == pytest.approx(2 / 2**20)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_a_symmetric_probability(lost: int, won: int) -> None:
    p_value = mcnemar_p(lost, won)
    assert 0 < p_value <= 1 and math.isclose(p_value, mcnemar_p(won, lost))
