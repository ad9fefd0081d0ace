from __future__ import annotations

import base64
import hashlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_run import make_run

from edgecls.files import write_checked
from edgecls.report.gallery import ScoredImage, show
from edgecls.report.heatmaps import find_heatmaps
from edgecls.report.page import write_report
from edgecls.training.run import run_folder


@pytest.fixture
def run(tiny_heatmap: Path, tmp_path: Path) -> Path:
    """A run with a file that has heat maps."""
    run = make_run(tmp_path)
    (run / "export").mkdir()
    file = Path(shutil.copy(tiny_heatmap, run / "export" / "model-fp32.tflite"))
    entry = {"path": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "bytes": 1, "accuracy": 0.9}
    entry |= {"drop": 0.0, "agreement": 1.0, "passed": True, "flips": "", "verdict": "passed"}
    owner = {"path": str(run), "id": run_folder.run_id(run_folder.read_record(run))}
    write_checked(run / "export" / "export.json", {"run": owner, "files": [entry]})
    return run


def test_each_mistake_has_its_heat_map_below(run: Path) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    assert page.count('alt="Heat map of ') == page.count('alt="Enlarge ') == 2
    assert "what speaks for the predicted label, from model-fp32.tflite" in page


def test_without_heat_maps_the_page_is_silent_and_a_damaged_file_is_named(run: Path, tiny_tflite: Path) -> None:
    file = run / "export" / "model-fp32.tflite"
    shutil.copy(tiny_tflite, file)
    assert find_heatmaps(file.parent, [{"path": file.name}]) == (None, "")
    assert find_heatmaps(file.parent, []) == (None, "")
    file.write_bytes(b"no model")
    draw, text = find_heatmaps(file.parent, [{"path": file.name}])
    assert draw is None and text.startswith("Heat maps are missing: ")


def test_the_heat_map_is_that_of_the_predicted_label(run: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (60, 50), np.uint8)).save(tmp_path / "a.png")
    draw, _ = find_heatmaps(run / "export", [{"path": "model-fp32.tflite"}])
    predictions = [ScoredImage("a.png", "nut", label, 0.9) for label in ("bolt", "nut")]
    shown = list(show(tmp_path, predictions, None, draw))
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(each.heatmap)))) for each in shown]
    assert all(picture.shape == (60, 50, 3) for picture in pictures) and (pictures[0] != pictures[1]).any()
