from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from model_copies import with_labels, with_metadata
from PIL import Image
from tiny import HEIGHT, LABELS, WIDTH

from edgecls.compare import Flip, ModelComparison, compare_files, describe_unknown
from edgecls.errors import DataError, ModelFileError
from edgecls.evaluate import score, score_images
from edgecls.images.dataset import load_labeled
from edgecls.runtime.classifier import load


def test_files_of_two_formats_against_scikit_like_counts(
    tiny_tflite: Path, tiny_onnx: Path, labeled_by_onnx: Path
) -> None:
    with load(tiny_tflite) as new, load(tiny_onnx) as old:
        result = compare_files(new, old, [labeled_by_onnx])
        split = load_labeled(labeled_by_onnx, LABELS, HEIGHT, WIDTH)
        alone = score(score_images(new, split.images), split.labels, LABELS)
    assert (result.old.accuracy, result.new.accuracy) == (1, alone.accuracy)
    assert result.new.confusion.tolist() == alone.confusion.tolist()
    assert (result.fixed, result.broken) == (0, round(90 * (1 - alone.accuracy)))
    for flip in result.flips:
        assert (flip.old, flip.path.parent.name) == (flip.label, flip.label) and flip.new != flip.label
        assert flip.picture is not None and flip.picture.size == (WIDTH, HEIGHT)


def test_labels_are_compared_by_name(tiny_onnx: Path, labeled_by_onnx: Path, tmp_path: Path) -> None:
    exchanged = with_labels(tiny_onnx, tmp_path / "exchanged.onnx", (LABELS[1], LABELS[0], LABELS[2]))
    with load(exchanged) as new, load(tiny_onnx) as old:
        result = compare_files(new, old, [labeled_by_onnx])
        better = compare_files(old, new, [labeled_by_onnx])
    counts = {label: metrics.support for label, metrics in result.old.per_class.items()}
    assert result.broken == counts[LABELS[0]] + counts[LABELS[1]] > 5
    assert (result.verdict, better.verdict) == ("worse", "better")
    assert result.worse_classes and not better.worse_classes
    assert result.to_json()["flips"] == {"fixed": 0, "broken": result.broken}


def test_a_class_that_one_file_does_not_know_counts_as_incorrect(
    tiny_onnx: Path, labeled_by_onnx: Path, tmp_path: Path
) -> None:
    renamed = with_labels(tiny_onnx, tmp_path / "old.onnx", ("washer", *LABELS[1:]))
    with load(tiny_onnx) as new, load(renamed) as old:
        assert describe_unknown(new, new) == []
        sentences = describe_unknown(new, old)
        result = compare_files(new, old, [labeled_by_onnx])
    assert sentences == [
        "The new file does not know washer: it labels their images incorrectly.",
        "The old file does not know bolt: it labels their images incorrectly.",
    ]
    assert result.new.accuracy == 1
    assert result.fixed == result.new.per_class["bolt"].support == len(result.flips)
    assert {flip.old for flip in result.flips} == {"washer"}


def test_each_file_decides_with_its_own_thresholds(tiny_onnx: Path, labeled_by_onnx: Path, tmp_path: Path) -> None:
    lenient = with_metadata(tiny_onnx, tmp_path / "lenient.onnx", good_class=LABELS[0], good_threshold=0.0)
    strict = with_metadata(tiny_onnx, tmp_path / "strict.onnx", good_class=LABELS[0], good_threshold=1.0)
    rejecting = with_metadata(tiny_onnx, tmp_path / "rejecting.onnx", threshold=1.0)
    with load(tiny_onnx) as old:
        for file, recall, label in ((lenient, 1, LABELS[0]), (strict, 0, None), (rejecting, 0, "rejected")):
            with load(file) as new:
                result = compare_files(new, old, [labeled_by_onnx])
                predicted = [new.predict(flip.path).label or "rejected" for flip in result.flips]
            assert result.old.accuracy == 1 and result.new.per_class[LABELS[0]].recall == recall
            assert [flip.new for flip in result.flips] == predicted and result.verdict == "worse"
            assert label is None or set(predicted) == {label}
            assert list(result.new.per_class) == list(LABELS)


def test_a_class_may_be_called_rejected(tiny_onnx: Path, labeled_by_onnx: Path, tmp_path: Path) -> None:
    names = ("rejected", *LABELS[1:])
    data = Path(shutil.copytree(labeled_by_onnx, tmp_path / "data"))
    (data / LABELS[0]).rename(data / "rejected")
    usual = with_labels(tiny_onnx, tmp_path / "usual.onnx", names)
    strict = with_metadata(usual, tmp_path / "strict.onnx", threshold=1.0)
    with load(strict) as new, load(usual) as old:
        result = compare_files(new, old, [data])
    assert result.old.per_class["rejected"].recall == 1 and result.new.per_class["rejected"].recall == 0
    assert (result.fixed, result.broken) == (0, result.new.images)
    assert {flip.new for flip in result.flips} == {"(rejected)"}


def test_an_image_in_two_folders_is_refused(tiny_onnx: Path, labeled_by_onnx: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(labeled_by_onnx)
    with load(tiny_onnx) as file, pytest.raises(DataError, match=r"is in .* and in .*: it would count twice"):
        compare_files(file, file, [labeled_by_onnx, link])


def test_scores_that_are_no_numbers_are_no_label(
    tiny_onnx: Path, labeled_by_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with load(tiny_onnx) as new, load(tiny_onnx) as old:
        monkeypatch.setattr(new.engine, "run", lambda image: np.full(len(LABELS), np.nan, np.float32))
        found = f"{tiny_onnx} returned NaN scores in onnxruntime; export it again"
        with pytest.raises(ModelFileError, match=re.escape(found)):
            compare_files(new, old, [labeled_by_onnx])


def test_several_folders_count_together(tiny_onnx: Path, labeled_by_onnx: Path, tmp_path: Path) -> None:
    more = tmp_path / "more" / LABELS[2]
    more.mkdir(parents=True)
    Image.new("L", (9, 9)).save(more / "a.png")
    with load(tiny_onnx) as file:
        result = compare_files(file, file, [labeled_by_onnx, tmp_path / "more"])
    assert (result.new.images, result.verdict, result.p_value, result.flips) == (91, "not worse", 1, ())


def comparison(fixed: int, broken: int, images: int = 100) -> ModelComparison:
    flips = [Flip(Path("a.png"), "a", "a" if i < fixed else "b", "b" if i < fixed else "a", None) for i in range(fixed)]
    flips += [Flip(Path("a.png"), "a", "b", "a", None)] * broken
    evaluation = score(np.eye(2)[np.zeros(images, int)], np.zeros(images, np.int64), ("a", "b"))
    return ModelComparison(evaluation, evaluation, tuple(flips))


@pytest.mark.parametrize(
    ("fixed", "broken", "verdict"),
    # Twice the tail of Binomial(6, 1/2) is 2/64 = 0.031, and of Binomial(5, 1/2) 2/32 = 0.0625.
    [(0, 6, "worse"), (0, 5, "not worse"), (6, 0, "better"), (5, 0, "not worse"), (20, 20, "not worse")],
)
def test_the_verdict_is_that_of_the_exact_test(fixed: int, broken: int, verdict: str) -> None:
    result = comparison(fixed, broken)
    assert (result.fixed, result.broken, result.verdict) == (fixed, broken, verdict)


def test_the_least_loss_that_would_be_noticed() -> None:
    assert comparison(0, 0).least_broken == 6
    least = comparison(3, 0).least_broken
    assert comparison(3, least).verdict == "worse" and comparison(3, least - 1).verdict == "not worse"
