"""Files with a good class: the threshold in the file, what is measured with it, and that predicting uses it."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import run
from PIL import Image
from tiny import CLASSES, make_spec

from edgecls.config import ExportConfig
from edgecls.errors import ConfigError, DataError
from edgecls.export import artifact
from edgecls.export.artifact import ExportResult, export_run
from edgecls.export.calibration import ExportSamples
from edgecls.export.inspect import Inspection, draw_rates, find_good, inspect
from edgecls.images.dataset import Split
from edgecls.inspection import Curve, Limit, choose_threshold, count_rates, measure_curve
from edgecls.model_file.read import read_model_file, read_spec
from edgecls.model_file.write import attach_spec
from edgecls.runtime.classifier import Classifier, load
from edgecls.training.run.run_folder import read_record, write_record


@pytest.fixture(scope="module")
def exported(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """Two files whose threshold lets half of the defects of the validation images pass."""
    config = ExportConfig(good_class="bright", max_missed=0.6, max_drop=1)
    return export_run(tiny_run, config, out=tmp_path_factory.mktemp("inspected") / "export")


@pytest.mark.parametrize("name", ["model-fp32.tflite", "model-fp32.onnx"])
def test_the_threshold_is_chosen_on_the_validation_scores_of_the_file(
    exported: ExportResult, tiny_run: Path, name: str
) -> None:
    spec, record = read_spec(exported.folder / name), read_record(tiny_run)
    entry = next(each for each in read_entries(exported) if each["path"] == name)
    found = entry["inspection"]
    assert spec.good_class == found["good_class"] == "bright" and spec.good_threshold == found["threshold"]
    assert found["limit"] == {"kind": "missed", "rate": 0.6}
    with load(exported.folder / name) as classifier:
        parts = {}
        for part in ("val", "test"):
            pairs = [(path, i) for i, label in enumerate(CLASSES) for path in record["split"][part][label]]
            predictions = classifier.predict_batch(Path(record["data"]) / path for path, _ in pairs)
            parts[part] = np.stack([each.scores for each in predictions]), np.array([i for _, i in pairs])
            # Predicting uses the threshold of the file.
            missed = sum(not each.defect and i != 0 for each, (_, i) in zip(predictions, pairs, strict=True))
            alarms = sum(bool(each.defect) and i == 0 for each, (_, i) in zip(predictions, pairs, strict=True))
            counts = found["validation" if part == "val" else "held_out"]
            assert (missed, alarms) == (counts["missed"], counts["false_alarms"])
    scores, labels = parts["val"]
    assert found["threshold"] == choose_threshold(measure_curve(scores, labels, 0), Limit("missed", 0.6)).threshold
    # Of 6 defects, floor(0.6 * 7) - 1 = 3 may be missed.
    assert count_rates(scores, labels, 0, found["threshold"]).missed <= 3
    assert found["highest_score"] == count_rates(*parts["test"], 0).to_json()
    assert sum(found["histogram"]["defects"]) == found["held_out"]["defects"] == 8
    # The file itself holds what another threshold is chosen from.
    stored: Any = spec.metrics["inspection"]
    assert stored["curve"]["defects"] == 6 and stored["held_out"] == found["held_out"]


def test_images_that_the_classifier_learned_from_choose_no_threshold() -> None:
    """The scores of before decide: the file, which learned from these images, would miss none."""
    spec = make_spec()
    part = Split(("a", "b", "c"), np.zeros((3, 2, 2, 1), np.uint8), np.array([0, 1, 2]))
    samples = ExportSamples(Path(), part, part, "test", validation=replace(part))
    unseen = np.array([[0.9, 0.1, 0], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], np.float32)
    classifier: Any = SimpleNamespace(spec=spec)
    scores = np.eye(3, dtype=np.float32)
    found = inspect(
        spec.labels[0], ExportConfig(max_missed=0.9), samples, classifier, scores, unseen, lambda done, total: None
    )
    assert found.validation == measure_curve(unseen, part.labels, 0)


def read_entries(result: ExportResult) -> list[dict[str, Any]]:
    return list(json.loads((result.folder / "export.json").read_text(encoding="utf-8"))["files"])


def test_mistakes_and_flips_are_listed_by_name(exported: ExportResult, tiny_run: Path) -> None:
    for entry in read_entries(exported):
        assert entry["mistakes"] == f"mistakes-fp32-{entry['format']}.csv"
        with (exported.folder / entry["mistakes"]).open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        assert rows[0] == ["path", "true", "predicted", "score", "float_predicted", "float_score"]
        assert len(rows) - 1 == round((1 - entry["accuracy"]) * exported.images)
        assert (exported.folder / f"flips-fp32-{entry['format']}.csv").is_file()
    assert (tiny_run / "mistakes.csv").read_text().startswith("path,true,predicted,score\n")


def test_the_rates_are_drawn(exported: ExportResult) -> None:
    for entry in read_entries(exported):
        with Image.open(exported.folder / entry["inspection"]["picture"]) as picture:
            assert picture.width > 500


def test_a_picture_needs_no_curve(tmp_path: Path) -> None:
    """Held-out images of one kind, and no validation image of the other."""
    scores, labels = np.eye(2, dtype=np.float32)[[0, 1, 1]], np.array([1, 1, 1])
    found = Inspection("a", 0, None, None, None, scores, labels, "test")
    draw_rates(found, tmp_path / "rates.png")
    draw_rates(Inspection("a", 0, None, None, Curve(1, 1, ((0.5, 0, 0),)), scores, labels, "test"), tmp_path / "b.png")
    assert (tmp_path / "rates.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    assert found.to_json()["held_out"]["false_alarm_rate"] is None


def test_the_class_is_that_of_the_export_or_else_of_the_run() -> None:
    record = {"config": {"good_class": "dark"}, "classes": list(CLASSES)}
    assert find_good(record, ExportConfig()) == "dark"
    assert find_good(record, ExportConfig(good_class="bright")) == "bright"
    old: dict[str, Any] = {"config": {}, "classes": list(CLASSES)}
    assert find_good(old, ExportConfig()) == ""
    with pytest.raises(ConfigError, match="--max-missed 0.1 needs the name.*--good-class"):
        find_good(old, ExportConfig(max_missed=0.1))
    with pytest.raises(ConfigError, match="exclude each other"):
        find_good(record, ExportConfig(max_missed=0.1, max_false_alarms=0.1))
    with pytest.raises(DataError, match="did you mean 'dark'"):
        find_good(old, ExportConfig(good_class="Dark"))


def test_changed_validation_images_are_refused(run_copy: Path) -> None:
    record = read_record(run_copy)
    write_record(run_copy, record | {"val_sha256": "0" * 64})
    with pytest.raises(DataError, match="the val images in .* changed"):
        export_run(run_copy, ExportConfig(good_class="bright"))


def test_evaluate_says_missed_defects_and_tries_other_limits(
    exported: ExportResult, tiny_data: Path, tmp_path: Path
) -> None:
    file = exported.folder / "model-fp32.onnx"
    found = json.loads(run("evaluate", file, tiny_data, "--json").stdout)["inspection"]
    assert found["threshold"] == read_spec(file).good_threshold and found["held_out"]["defects"] == 28
    strict = run("evaluate", file, tiny_data, "--max-missed", "0.2", "--json", "--mistakes", tmp_path / "m.csv")
    other = json.loads(strict.stdout)["inspection"]
    assert found["limit"] is None and other["limit"] == {"kind": "missed", "rate": 0.2}
    assert (tmp_path / "m.csv").read_text().startswith("path,true,predicted,score\n")
    text = run("evaluate", file, tiny_data, "--max-missed", "0.01")
    assert re.search(r"A defect is every image with a score of bright below 0\.\d+\. On these images:", text.stdout)
    assert "6 validation images are defects, but 99 are needed" in text.stderr
    refused = run("evaluate", file, tiny_data, "--good-class", "dark", "--max-missed", "0.1")
    assert refused.exit_code and "export it again" in refused.stderr
    plain = run("evaluate", file, tiny_data, "--good-class", "dark")
    assert "whose highest score is not dark" in plain.stdout


def test_predict_says_which_image_is_a_defect(exported: ExportResult, pictures: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "strict.onnx"
    model = read_model_file(exported.folder / "model-fp32.onnx")
    # So strict that the good image itself is called the likeliest defect.
    file.write_bytes(attach_spec(model.graph, replace(model.spec, good_threshold=1.0), "onnx"))
    bright = run("predict", file, pictures[0]).stdout
    assert "bright" not in bright.rpartition(": ")[2] and bright.endswith("(defect)\n")
    entry = json.loads(run("predict", file, pictures[0], "--json").stdout)[0]
    assert entry["defect"] is True and entry["label"] != "bright"
    assert entry["score"] == entry["scores"][entry["label"]] < entry["scores"]["bright"]
    rows = list(csv.DictReader(run("predict", file, *pictures, "--format", "csv").stdout.splitlines()))
    assert [row["defect"] for row in rows] == ["true"] * 3
    rejected = json.loads(run("predict", file, pictures[0], "--threshold", "1", "--json").stdout)[0]
    assert (rejected["label"], rejected["defect"]) == (None, None)


def test_export_prints_rates_and_refuses_two_limits(
    tiny_run: Path, exported: ExportResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "export_run", lambda *_, **__: exported)
    done = run("export", tiny_run, "--good-class", "bright", "--max-missed", "0.6")
    assert "A defect is every image with a score of bright below" in done.stdout and "8 defects missed" in done.stdout
    monkeypatch.undo()
    both = run("export", tiny_run, "--good-class", "bright", "--max-missed", "0.1", "--max-false-alarms", "0.1")
    assert both.exit_code and "exclude each other" in both.stderr


@pytest.mark.parametrize(("threshold", "index"), [(None, 1), (0.5, 1), (0.9, 2)])
def test_the_likeliest_defect_is_the_label_below_the_threshold(threshold: float | None, index: int) -> None:
    class Fixed:
        name, version, device, threads = "fixed", "0", "cpu", 1

        def run(self, image: np.ndarray) -> np.ndarray:
            return np.array([0.1, 0.7, 0.2], np.float32)

        def run_with_heatmap(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            raise NotImplementedError

    spec = make_spec(good_class="nut", good_threshold=threshold)
    prediction = Classifier(spec, Fixed()).predict(np.zeros((12, 10), np.uint8))
    assert (prediction.index, prediction.label) == (index, spec.labels[index])
    assert prediction.defect is (index != 1) and prediction.score == pytest.approx([0.1, 0.7, 0.2][index])
    assert Limit("missed", 0.01).option == "--max-missed 0.01"
