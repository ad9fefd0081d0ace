from __future__ import annotations

import hashlib
import html.parser
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from report_run import make_run

from edgecls.cli import main
from edgecls.config import TrainConfig
from edgecls.errors import MissingDependency, ModelFileError
from edgecls.files import write_checked
from edgecls.messages import templates
from edgecls.report.page import write_report
from edgecls.training.run import run_folder

VOID = {"meta", "img", "br"}
DIAGNOSIS = [
    {"name": "too-few-images", "severity": "warning", "text": "Class <b>nut</b> has 6.", "remedy": "Add some & more."},
    {"name": "no-problems", "severity": "note", "text": "No problems found.", "remedy": ""},
]
PHASE = {
    "name": "joint",
    "epochs": 4,
    "best_epoch": 2,
    "val_accuracy_before": 0.91,
    "val_accuracy_after": 0.905,
    "kept": False,
    "reason": "validation got worse",
}


class Page(html.parser.HTMLParser):
    """A page taken apart: its tags with their attributes, and its text; every tag is closed in its turn."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.style = "", ""
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.text = re.sub(r"\s+", " ", f"{self.text} {data}")

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] or "" for _, attributes in self.tags if attribute in attributes]


def test_the_page_stands_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path, diagnosis=DIAGNOSIS, phases=[PHASE])
    assert write_report(run) == run / "report.html"
    shown = Page(run / "report.html")
    assert {tag for tag, _ in shown.tags}.isdisjoint({"script", "link", "iframe", "object", "base"})
    sources, targets = shown.values("src"), shown.values("href")
    assert [tag for tag, _ in shown.tags].count("svg") == 6 and len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    linked = shown.values("xlink:href")
    assert linked and all(link.startswith(("#", "data:image/png;base64,")) for link in linked)
    ids = shown.values("id")
    assert len(ids) == len(set(ids)) and {f"#{name}" for name in ids} >= set(targets)
    assert "url(" not in shown.style and "@import" not in shown.style
    assert not [name for _, attributes in shown.tags for name in attributes if name.startswith("on")]
    assert all(shown.values("alt")) and len(shown.values("alt")) == len(sources)
    assert len(shown.values("aria-label")) == 6
    # Every section can be reached.
    sections = [attributes["id"] for tag, attributes in shown.tags if tag == "section"]
    assert targets == [f"#{name}" for name in sections]
    # A second style element would be the whole page's.
    assert [tag for tag, _ in shown.tags].count("style") == 1


def test_the_page_tells_what_the_run_came_to(tmp_path: Path) -> None:
    run = make_run(
        tmp_path,
        diagnosis=DIAGNOSIS,
        phases=[PHASE],
        seconds=83.2,
        versions={"keras": "3.15.1"},
        warnings=["1 image is <b>twice</b>"],
    )
    text = Page(write_report(run)).text
    # 16 of 18; Wilson's interval computed by hand.
    assert "88.89 % accuracy on 18 test images; 95 % interval 67.2 % to 96.9 %" in text
    assert "warning: too few images Class <b>nut</b> has 6. Try: Add some & more." in text
    assert "No problems found." in text and "note:" not in text and text.count("Try:") == 1
    assert "joint 4 2 91.00 % 90.50 % discarded validation got worse" in text
    assert "88.9 % accuracy on 18 test images; look at: too few images, a warning about the images" in text
    assert "1. bolt 6 83.3 % (43.6 to 97.0 %) 83.3 % (43.6 to 97.0 %) 83.3 % (" in text
    assert "bolt taken for nut : 1 of 6" in text and "All incorrect predictions, the most confident first" in text
    assert "✗ bolt 95 % , is nut 1/1.png" in text and "✗ nut 80 % , is bolt 0/0.png" in text
    assert (
        "83 s" in text
        and "1 image is <b>twice</b>" in text
        and "keras 3.15.1" in text
        and "All settings are the defaults." in text
    )
    assert f"edgecls train {tmp_path / 'images'} --out run " in text
    assert "Run edgecls export run --int8 ." in text


def _luminance(color: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    full = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(full[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colors_have_enough_contrast(tmp_path: Path) -> None:
    style = Page(write_report(make_run(tmp_path))).style
    schemes = [
        dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(schemes) == 2 and all(len(colors) == 12 for colors in schemes)
    # WCAG 2.2, 1.4.3 for text and 1.4.11 for lines and bars.
    for colors in schemes:
        for name, papers, ratio in (
            *((name, ("paper", "card"), 4.5) for name in ("ink", "soft", "link", "good", "bad", "warning")),
            *((name, ("paper",), 3) for name in ("train", "val", "bar")),
        ):
            for paper in papers:
                bright, dim = sorted((_luminance(colors[name]), _luminance(colors[paper])), reverse=True)
                assert (bright + 0.05) / (dim + 0.05) >= ratio, (name, paper, colors)


def test_names_are_text_and_not_markup(tmp_path: Path) -> None:
    classes = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }} & ä")
    run = make_run(tmp_path, classes=classes, diagnosis=DIAGNOSIS)
    shown = Page(write_report(run))
    assert "script" not in {tag for tag, _ in shown.tags}
    assert all(source.startswith("data:") for source in shown.values("src"))
    for name in classes:
        assert name in shown.text


def export_entry(path: str, **changes: Any) -> dict[str, Any]:
    entry = {
        "path": path,
        "sha256": hashlib.sha256(path.encode()).hexdigest(),
        "bytes": 2_818_512,
        "accuracy": 0.925,
        "drop": 0.0123,
        "agreement": 0.98,
        "passed": False,
        "flips": "",
        "verdict": "failed: 1.23 points of accuracy lost",
    }
    return entry | changes


def write_exports(run: Path, files: list[dict[str, Any]], run_id: str = "") -> None:
    """Write files that hold their names, and the export.json of them."""
    for entry in files:
        (run / "export" / entry["path"]).write_text(entry["path"])
    owner = {"path": str(run), "id": run_id or run_folder.run_id(run_folder.read_record(run))}
    write_checked(run / "export" / "export.json", {"run": owner, "files": files})


def test_exported_files_and_their_flips_are_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_report(run)
    plain = len(Page(run / "report.html").values("src"))
    (run / "export").mkdir()
    shutil.copy(run / "plots" / "mistakes.png", run / "export" / "flips.png")
    files = [export_entry("a.tflite", flips="flips.png"), export_entry("b.onnx", passed=True, flips="gone.png")]
    write_exports(run, files)
    shown = Page(write_report(run))
    assert "a.tflite 2.82 92.50 % -1.23 98.00 % no not yet unknown" in shown.text and "98.00 % yes" in shown.text
    assert "find the fastest: edgecls choose run" in shown.text
    assert len(shown.values("src")) == plain + 1
    assert "Images that a.tflite labels differently. failed: 1.23 points" in shown.text
    for text in ("{", (run / "export" / "export.json").read_text().replace("0.925", "0.995", 1)):
        (run / "export" / "export.json").write_text(text)
        with pytest.raises(ModelFileError, match=r"export\.json is damaged"):
            write_report(run)


INSPECTION = {
    "good_class": "bolt",
    "threshold": 0.8125,
    "limit": {"kind": "missed", "rate": 0.02},
    "doubt": "12 validation images are defects, but 49 are needed",
    "held_out": {
        **{"defects": 12, "missed": 1, "missed_rate": 1 / 12, "missed_low": 0.015, "missed_high": 0.354},
        **{"good": 6, "false_alarms": 2, "false_alarm_rate": 1 / 3, "false_alarm_low": 0.097, "false_alarm_high": 0.7},
    },
    "histogram": {"good": [0] * 30 + [1, 2, 0, 0, 0, 0, 0, 0, 0, 3], "defects": [9, 2] + [0] * 37 + [1]},
}


def test_missed_defects_are_shown_by_name(tmp_path: Path) -> None:
    run = make_run(tmp_path, wrong=[(0, 1, 0.8), (7, 0, 0.95), (13, 0, 0.97)], config=TrainConfig(good_class="bolt"))
    shown = Page(write_report(run))
    assert "edgecls export run --int8 --good-class bolt --max-missed 0.01" in shown.text
    assert shown.text.index("✗ bolt 97 % , is Mutter ä 2/1.png") < shown.text.index("✗ bolt 95 % , is nut 1/1.png")
    (run / "export").mkdir()
    files = [export_entry("a.tflite", inspection=INSPECTION), export_entry("b.onnx", inspection=None)]
    write_exports(run, files)
    shown = Page(write_report(run))
    assert "a.tflite 0.8125 1 of 12 (1.5 % to 35.4 %) 2 of 6 (9.7 % to 70.0 %) at most 2 % missed" in shown.text
    assert "a.tflite: 12 validation images are defects, but 49 are needed" in shown.text
    assert "Histograms of the score of bolt for good images and for defects" in shown.values("aria-label")
    assert "from 0.8125 on called bolt" in shown.text and "#missed" in shown.values("href")
    # A good class that only the export knows.
    other = make_run(tmp_path / "other", wrong=[])
    (other / "export").mkdir()
    write_exports(other, [export_entry("a.tflite", inspection=INSPECTION)])
    assert "takes no defect among the test images for bolt" in Page(write_report(other)).text


def test_measured_latencies_are_those_of_the_very_files(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for folder in ("export", "deploy"):
        (run / folder).mkdir()
    files = [export_entry(name) for name in ("a.tflite", "b.onnx", "c.onnx")]
    write_exports(run, files)
    best = {"p50_ms": 2.0, "ratio": 1.0, "round": "long", "valid": True, "engine": "litert", "threads": 2}
    rows = [
        best | {"sha256": files[0]["sha256"]},
        best | {"sha256": files[0]["sha256"], "p50_ms": 9.0, "ratio": 4.5, "threads": 1},
        best | {"sha256": files[1]["sha256"], "p50_ms": 7.0, "ratio": 1.9, "round": "short", "engine": "onnxruntime"},
        best | {"sha256": "0" * 64, "p50_ms": 1.0, "ratio": 0.5},
    ]
    (run / "deploy" / "choose.json").write_text(json.dumps({"recommended": best, "candidates": rows}))
    text = Page(write_report(run)).text
    assert "no 2.000 ms in litert, threads: 2 unknown" in text and "find the fastest" not in text
    # 1.9 times the recommended one's time: 7 ms were of another moment.
    assert "no about 3.80 ms in onnxruntime, threads: 2 unknown" in text and "no not yet unknown" in text
    (run / "deploy" / "choose.json").write_text("{")
    assert "find the fastest" in Page(write_report(run)).text


def test_accuracies_of_other_bytes_are_not_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "export").mkdir()
    write_exports(run, [export_entry(name) for name in ("a.tflite", "b.onnx", "c.onnx")])
    (run / "export" / "a.tflite").write_text("a.tfljte")
    (run / "export" / "c.onnx").unlink()
    shown = Page(write_report(run))
    assert "a.tflite 2.82" not in shown.text and "b.onnx 2.82" in shown.text and "c.onnx 2.82" not in shown.text
    assert "a.tflite was changed after its export; export it again" in shown.text
    assert "c.onnx is missing" in shown.text
    write_exports(run, [export_entry("a.tflite")], run_id="another")
    shown = Page(write_report(run))
    assert "a.tflite 2.82" not in shown.text and "are of an earlier training, another run" in shown.text


def test_a_run_without_its_images_has_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    shown = Page(write_report(run))
    assert shown.text.count("The image can no longer be read") == 2 and "✗ bolt 95 % , is nut 1/1.png" in shown.text
    assert shown.values("src") == []


def test_an_old_run_has_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "history.json").unlink()
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    # None of them was written then.
    del record["sha256"], record["files"]
    record["config"] = {"image_size": 96, "learning_rate": 0.005}
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    text = Page(write_report(run)).text
    assert "trained by an older edgecls" in text and "Diagnosis" not in text
    assert "--image-size 96 --learning-rate 0.005" in text


def test_many_classes_fit(tmp_path: Path) -> None:
    classes = [f"class {number} with a rather long and winding name" for number in range(40)]
    shown = Page(write_report(make_run(tmp_path, classes=classes)))
    assert f"40. {classes[-1]}" in shown.text
    # A wide plot keeps most of its width, and is scrolled.
    assert max(int(found) for found in re.findall(r"min-width: (\d+)px", " ".join(shown.values("style")))) > 700


def test_the_command_prints_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, opened = make_run(tmp_path), []
    monkeypatch.setattr("click.launch", lambda url: opened.append(url))
    done = CliRunner().invoke(main, ["report", str(run)])
    assert (done.exit_code, done.stdout, opened) == (0, f"{run / 'report.html'}\n", [])
    assert CliRunner().invoke(main, ["report", str(run), "--open"]).exit_code == 0
    assert opened == [str(run / "report.html")]
    refused = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert refused.exit_code == 1 and "not a run folder" in refused.stderr


def test_without_jinja_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match=r"pip install 'edgecls\[train\]'"):
        write_report(tmp_path)


def test_a_trained_run_has_its_page(run_copy: Path) -> None:
    shown = Page(write_report(run_copy))
    assert "bright, dark, striped" in shown.text and [tag for tag, _ in shown.tags].count("svg") >= 5


def test_phases_of_an_older_run_have_todays_names(tmp_path: Path) -> None:
    old = [PHASE | {"name": name} for name in ("head", "views", "unfreeze")]
    healthy = {"name": "healthy", "severity": "note", "text": "Nothing went wrong.", "remedy": "None is needed."}
    text = Page(write_report(make_run(tmp_path, phases=old, diagnosis=[healthy]))).text
    assert "classifier 4 2" in text and "augmented 4 2" in text and "fine-tuning 4 2" in text
    assert "healthy" not in text and "Nothing went wrong." in text
