from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecls
from edgecls.config import TrainConfig
from edgecls.images.dataset import Dataset, Split
from edgecls.images.depth import Scale
from edgecls.networks.weights import Weights
from edgecls.training.diagnosis.diagnose import NO_PROBLEMS, diagnose
from edgecls.training.history import Divergence
from edgecls.training.outcome import add_data_findings, find_contradictions, make_record, metrics, warnings
from edgecls.training.phases import PhaseResult, Training
from edgecls.training.run.run_folder import images_sha256

CLASSES = ("bolt", "Mutter ä")
CONFIG = TrainConfig(image_size=32)


def make_split(name: str, labels: list[int]) -> Split:
    images = np.full((len(labels), 32, 32, 1), len(name), np.uint8)
    paths = tuple(f"{name}/{CLASSES[label]}/{number}.png" for number, label in enumerate(labels))
    return Split(paths, images, np.array(labels))


def make_dataset(**changes: Any) -> Dataset:
    parts: dict[str, Any] = {
        "train": make_split("train", [0, 0, 1]),
        "val": make_split("val", [0, 1]),
        "test": make_split("test", [0, 1]),
    }
    return dataclasses.replace(Dataset(Path("/data"), CLASSES, **parts, bad=(), duplicates=()), **changes)


def phase(name: str, *, kept: bool = True, reason: str = "all epochs done") -> PhaseResult:
    return PhaseResult(name, 3, 3 if kept else 0, 0.5, 0.6 if kept else 0.5, kept, reason, None, 1.0)


def make_training(*phases: PhaseResult) -> Training:
    return Training(phases or (phase("classifier"),), (), None, CONFIG, {})


def scores(*answers: int) -> np.ndarray:
    return np.eye(2, dtype=np.float32)[list(answers)] * 0.8 + 0.1


# Metrics


def test_the_test_images_have_the_last_word() -> None:
    found = metrics({"val": scores(0, 0), "test": scores(0, 1)}, make_dataset())
    assert (found["val_accuracy"], found["test_accuracy"]) == (0.5, 1.0)
    assert found["per_class"]["Mutter ä"]["recall"] == 1.0 and set(found["per_class"]) == set(CLASSES)


def test_without_test_images_it_is_the_validation_images() -> None:
    found = metrics({"val": scores(0, 0)}, make_dataset(test=None))
    assert (found["val_accuracy"], found["test_accuracy"]) == (0.5, None)
    # F1 of a class that is always guessed, precision 0.5 and recall 1, and of one that never is.
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


# run.json


def test_the_record_says_what_the_run_was_made_of() -> None:
    dataset = make_dataset(bad=(("train/x.png", "is not a PNG"),), duplicates=(("train/a.png", "test/b.png"),))
    dataset = dataclasses.replace(dataset, contradictions=(("a/1.png", "b/1.png"),), left_out="Left out 1 file: 1 x.")
    record = make_record(CONFIG, Weights("imagenet", None, "ab12", "keras"), dataset, Path("/data"))
    assert record["config"] == dataclasses.asdict(CONFIG) and record["arch"] == "mobilenet_v2"
    assert record["classes"] == list(CLASSES) and record["data"] == "/data" and record["format_version"] == 1
    assert record["weights"] == {"source": "imagenet", "sha256": "ab12"}
    assert record["split"]["train"] == {
        "bolt": ["train/bolt/0.png", "train/bolt/1.png"],
        "Mutter ä": ["train/Mutter ä/2.png"],
    }
    assert record["split"]["test"] == {"bolt": ["test/bolt/0.png"], "Mutter ä": ["test/Mutter ä/1.png"]}
    assert record["held_out"] == {"split": "test", "sha256": images_sha256(make_split("test", [0, 1]).images)}
    assert record["train_sha256"] == images_sha256(dataset.train.images) != record["held_out"]["sha256"]
    assert record["skipped"] == [{"path": "train/x.png", "reason": "is not a PNG"}]
    assert record["duplicates"] == [["train/a.png", "test/b.png"]]
    assert record["contradictions"] == [["a/1.png", "b/1.png"]] and record["left_out"] == "Left out 1 file: 1 x."
    assert record["versions"]["edgecls"] == edgecls.__version__ and {"keras", "numpy"} <= set(record["versions"])
    assert json.loads(json.dumps(record))["classes"] == list(CLASSES)


def test_a_network_without_a_backbone_has_no_weights_and_a_folder_without_a_test_none() -> None:
    record = make_record(dataclasses.replace(CONFIG, arch="cnn", filters=(4,)), None, make_dataset(test=None), Path())
    assert record["weights"] == {"source": "none", "sha256": None} and record["arch"] == "cnn"
    assert list(record["split"]) == ["train", "val"] and record["held_out"]["split"] == "val"
    assert record["data"] == "/data" and "folders" not in record


# Warnings


def warn(config: TrainConfig = CONFIG, seconds: float = 1.0, **changes: Any) -> tuple[str, ...]:
    weights = changes.pop("weights", Weights("imagenet", None, "ab12", "keras"))
    training = changes.pop("training", make_training())
    return warnings(make_dataset(**changes), weights, training, config, seconds)


def test_16_bit_images_that_use_12_bits_name_the_option() -> None:
    (text,) = warn(scales=(Scale(65535, 3000, False),))
    assert "1 16-bit images is above 3000" in text and text.endswith("train again with --bits 12.")


def test_a_run_without_faults_has_no_warnings() -> None:
    assert warn() == ()
    assert warn(weights=None) == ()


def test_a_random_frozen_backbone_is_reported() -> None:
    none = Weights("none", None, None, "keras")
    assert warn(weights=none) == ("the frozen backbone has random weights (--weights none), so accuracy will be low",)
    tuned = dataclasses.replace(phase("fine-tuning"), unfreeze=3)
    assert warn(training=make_training(phase("classifier"), tuned), weights=none) == ()


def test_skipped_and_repeated_images_are_reported() -> None:
    (skipped,) = warn(bad=(("a", "b"), ("c", "d")))
    assert skipped == "2 unreadable files were skipped; run.json lists them"
    (doubled,) = warn(duplicates=(("train/a.png", "test/b.png"),))
    assert doubled == (
        "1 image is in two or more splits, so accuracy is overstated. Remove all but one copy: "
        "train/a.png = test/b.png; run.json lists all"
    )
    (repeated,) = warn(repeats=(tuple(f"{number}.png" for number in range(800)),))
    assert repeated == (
        "800 images (1 different) repeat another image of their class: 0.png = 1.png and 798 more. Keep one of each"
    )


def test_contradictory_labels_are_a_finding() -> None:
    assert find_contradictions(make_dataset()) == ()
    groups = tuple((f"a/{number}.png", f"b/{number}.png", f"b/{number}x.png", "b/y.png") for number in range(9))
    (finding,) = find_contradictions(make_dataset(contradictions=groups))
    assert (finding.name, finding.severity) == ("contradictory-labels", "warning")
    assert finding.text.startswith(
        "36 images (9 different) with the same pixels have different labels: a/0.png = b/0.png"
    )
    assert finding.text.endswith("and 6 more.") and len(finding.text) < 250
    others = diagnose([], CONFIG, CLASSES)
    assert add_data_findings((NO_PROBLEMS, *others), make_dataset(contradictions=groups)) == (finding, *others)
    assert add_data_findings((NO_PROBLEMS, *others), make_dataset()) == (NO_PROBLEMS, *others)


@pytest.mark.parametrize(
    "changes", [{"duplicates": (("train/a.png", "test/b.png"),)}, {"val": make_split("val", [0])}, {"doubts": ("Odd",)}]
)
def test_a_warning_about_the_images_leaves_no_room_for_no_problems(changes: dict[str, Any]) -> None:
    assert add_data_findings((NO_PROBLEMS,), make_dataset(**changes)) == ()
    (late,) = diagnose([], CONFIG, CLASSES, divergence=Divergence("classifier", 1, 0, "loss", None))
    assert add_data_findings((late,), make_dataset(**changes)) == (late,)


def test_what_cannot_be_judged_or_is_doubtful_is_reported() -> None:
    reported = warn(val=make_split("val", [0]), test=make_split("test", [1, 1]), doubts=("These may be no classes",))
    assert reported == (
        "These may be no classes",
        "val has no image of Mutter ä, so its accuracy does not cover that class; add some",
        "test has no image of bolt, so its accuracy does not cover that class; add some",
    )


def test_discarded_phases_are_reported() -> None:
    discarded = phase("fine-tuning", kept=False, reason="all epochs done; discarded: it did not help")
    augmented = phase("augmented", kept=False, reason="all epochs done; discarded: it did not help")
    training = make_training(phase("classifier"), augmented, discarded)
    assert warn(training=training) == ()  # of an effort, which tries them
    assert warn(dataclasses.replace(CONFIG, unfreeze=3), training=training) == (
        "fine-tuning: all epochs done; discarded: it did not help",
    )


def test_a_time_budget_that_did_not_suffice_is_reported() -> None:
    config = dataclasses.replace(CONFIG, time_budget_s=60.0)
    assert warn(config, seconds=59.0) == () and warn(seconds=1e6) == ()
    (late,) = warn(config, seconds=75.2)
    assert "the run took 75 s, longer than the time budget of 60 s" in late and "--image-size" in late
