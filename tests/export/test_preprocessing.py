"""A run that pads a region of its images, from training to the exported file and the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import run

from edgecls.config import ExportConfig, TrainConfig
from edgecls.export.artifact import export_run
from edgecls.images.dataset import load_paths
from edgecls.images.decode import load_gray
from edgecls.model_file.read import read_spec
from edgecls.preprocessing import Preprocessing, read_preprocessing
from edgecls.report.page import write_report
from edgecls.runtime.classifier import load
from edgecls.training.run.run_folder import read_whole_record
from edgecls.training.train import train

HOW = Preprocessing(None, "pad", (2, 1, 30, 24))
SIZE = 16


@pytest.fixture(scope="module")
def padded_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = TrainConfig(
        arch="cnn", image_size=SIZE, filters=(4,), hidden=(8,), epochs=2, augment=None, resize=HOW.resize, roi=HOW.roi
    )
    folder = tmp_path_factory.mktemp("padded") / "run"
    train(tiny_data, folder, config)
    return folder


def test_every_stage_gets_the_same_pixels(padded_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    record = read_whole_record(padded_run)
    assert read_preprocessing(record["config"]) == HOW
    exported = export_run(padded_run, ExportConfig(precisions=("fp32",), max_drop=1), out=tmp_path / "export")
    assert write_report(padded_run).is_file()
    for file in exported.files:
        path = tmp_path / "export" / file.path
        spec = read_spec(path)
        assert spec.preprocessing == HOW and spec.format_version == 2
        done = run("selftest", path)
        assert done.exit_code == 0 and "golden images" in done.stdout
        with load(path) as classifier:
            name = record["split"]["test"]["bright"][0]
            expected = load_paths(tiny_data, [name], [0], SIZE, SIZE, preprocessing=HOW).images[0]
            assert np.array_equal(classifier.read(tiny_data / name), expected)
            assert not np.array_equal(expected, load_gray(tiny_data / name, SIZE, SIZE))
            answer = classifier.predict(tiny_data / name)
        (entry,) = json.loads(run("predict", path, tiny_data / name, "--json").stdout)
        assert entry["index"] == answer.index and entry["score"] == pytest.approx(answer.score, abs=1e-5)
        done = run("info", path)
        assert "resize               pad" in done.stdout and "roi                  (2, 1, 30, 24)" in done.stdout


def test_a_run_of_an_older_version_stretches() -> None:
    assert read_preprocessing({"image_size": 96, "bits": None}) == Preprocessing()
