from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tiny import CLASSES, SIZE

from edgecls.config import ExportConfig
from edgecls.errors import ConfigError, DataError, ExportError, ModelFileError
from edgecls.export import job, onnx, tflite
from edgecls.export.artifact import export_run
from edgecls.export.fuse import FusedModel, fuse
from edgecls.export.quantization import prune
from edgecls.limits import PRECISIONS
from edgecls.model_file.read import read_graph, read_model_file, read_spec
from edgecls.runtime.classifier import load
from edgecls.training.run import run_folder
from edgecls.training.run.run_folder import SCORES_FILE, images_sha256, load_model, read_record

if TYPE_CHECKING:
    from edgecls.export.artifact import ExportResult

# The keys that scripts read.
RECORD_KEYS = {"float_accuracy", "images", "files"}
FILE_KEYS = {"path", "format", "precision", "bytes", "sha256", "accuracy", "drop", "agreement", "passed"}
NAMES = [f"model-{precision}.{kind}" for precision in ("fp32", "int8") for kind in ("tflite", "onnx")]
CONVERTERS = {
    (name, kind): module for kind, module in (("tflite", tflite), ("onnx", onnx)) for name in ("fp32", "int8")
}


@pytest.fixture(scope="module")
def fused(tiny_run: Path) -> FusedModel:
    return fuse(load_model(tiny_run))


@pytest.fixture
def converters(tiny_export: ExportResult, fused: FusedModel, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replaces converters by ready graphs: those of the tiny export, unless the test names others."""
    # Every run copy holds the same network: reading it once saves a second a test.
    monkeypatch.setattr(job, "fuse", lambda *_, **__: fused)
    monkeypatch.setattr(run_folder, "load_model", lambda *_, **__: None)

    def replace(**graphs: bytes) -> None:
        for (precision, kind), module in CONVERTERS.items():
            ready = read_model_file(tiny_export.folder / f"model-{precision}.{kind}").graph
            graph = graphs.get(f"{precision}_{kind}", ready)
            monkeypatch.setattr(module, f"to_{precision}", lambda *_, graph=graph, **__: graph)

    replace()
    return replace


def read_json(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "export.json").read_text(encoding="utf-8")))


def names_in(folder: Path) -> list[str]:
    """All but the tables of images, which test_inspect.py reads."""
    return sorted(path.name for path in folder.iterdir() if not path.match("*s-*-*.csv") or "layers" in path.name)


def test_the_record_lists_every_file(tiny_export: ExportResult, tiny_run: Path) -> None:
    record = read_json(tiny_export.folder)
    assert record.keys() >= RECORD_KEYS
    assert [entry["path"] for entry in record["files"]] == NAMES
    assert names_in(tiny_export.folder) == sorted([*NAMES, "export.json"])
    metrics = read_record(tiny_run)["metrics"]
    assert record["float_accuracy"] == metrics["test_accuracy"] == tiny_export.float_accuracy
    assert record["images"] == tiny_export.images == 12
    for entry in record["files"]:
        data = (tiny_export.folder / entry["path"]).read_bytes()
        assert entry.keys() >= FILE_KEYS
        assert entry["path"] == f"model-{entry['precision']}.{entry['format']}"
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert entry["passed"] is True
        assert entry["drop"] == pytest.approx(record["float_accuracy"] - entry["accuracy"])
        assert entry["per_class"].keys() == set(CLASSES)


@pytest.mark.parametrize("name", NAMES)
def test_the_metadata_holds_the_figures_of_the_file(tiny_export: ExportResult, tiny_run: Path, name: str) -> None:
    spec, run = read_spec(tiny_export.folder / name), read_record(tiny_run)
    entry = next(entry for entry in read_json(tiny_export.folder)["files"] if entry["path"] == name)
    same = ("accuracy", "drop", "agreement", "macro_f1")
    assert {key: spec.metrics[key] for key in same} == {key: entry[key] for key in same}
    assert spec.metrics["images"] == 12
    assert (spec.labels, spec.height, spec.width) == (CLASSES, SIZE, SIZE)
    assert (spec.precision, spec.input_dtype, spec.input_scale) == (entry["precision"], "uint8", 1.0)
    assert (spec.arch, spec.weights) == ("mobilenet_v2", run["weights"])
    assert spec.train_sha256 == run["train_sha256"]
    assert {"edgecls", "python", "keras"} <= spec.versions.keys()


def test_the_figures_are_read_off_the_file_in_its_runtime(tiny_export: ExportResult, tiny_run: Path) -> None:
    run = read_record(tiny_run)
    pairs = [(path, i) for i, name in enumerate(CLASSES) for path in run["split"]["test"][name]]
    float_guesses = np.load(tiny_run / SCORES_FILE).argmax(1)
    for entry in read_json(tiny_export.folder)["files"]:
        classifier = load(tiny_export.folder / entry["path"])
        guesses = np.array([classifier.predict(Path(run["data"]) / path).index for path, _ in pairs])
        assert entry["accuracy"] == pytest.approx((guesses == [i for _, i in pairs]).mean())
        assert entry["agreement"] == pytest.approx((guesses == float_guesses).mean())


def test_int8_is_calibrated_on_training_images(
    run_copy: Path, tiny_export: ExportResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    graph = read_model_file(tiny_export.folder / "model-int8.tflite").graph

    def to_int8(fused: object, calibration: np.ndarray, **_: object) -> bytes:
        seen.append(calibration)
        return graph

    monkeypatch.setattr(tflite, "to_int8", to_int8)
    config = ExportConfig(precisions=("int8",), formats=("tflite",), max_drop=1, calibration_images=9)
    result = export_run(run_copy, config)
    (calibration,) = seen
    assert calibration.shape == (9, SIZE, SIZE, 1)
    assert read_spec(result.folder / "model-int8.tflite").calibration_sha256 == images_sha256(calibration)


def test_all_precisions_in_one_call(run_copy: Path, converters: Callable[..., None]) -> None:
    result = export_run(run_copy, ExportConfig(precisions=PRECISIONS, max_drop=1))
    files = {file.path: file for file in result.files}
    assert list(files) == [f"model-{precision}.{kind}" for precision in PRECISIONS for kind in ("tflite", "onnx")]
    for kind in ("tflite", "onnx"):
        half = read_spec(result.folder / f"model-fp16.{kind}")
        assert (half.precision, half.target, half.calibration_sha256) == ("fp16", "", None)
        assert files[f"model-fp16.{kind}"].comparison.agreement == 1
        graphs = [read_model_file(result.folder / f"model-{name}.{kind}").graph for name in ("fp16", "fp32")]
        assert len(graphs[0]) < 0.6 * len(graphs[1])


def test_a_coral_gets_a_tflite_file_of_its_own(run_copy: Path) -> None:
    config = ExportConfig(precisions=("int8",), formats=("tflite",), max_drop=1, device="coral", layers=True)
    result = export_run(run_copy, config)
    data = (result.folder / "model-int8.tflite").read_bytes()
    spec = read_spec(result.folder / "model-int8.tflite")
    assert (spec.precision, spec.target) == ("int8", "coral")
    assert "FULLY_CONNECTED" not in {node.op for node in read_graph(data, "tflite").nodes}
    assert spec.metrics["images"] == 12
    table = (result.folder / "layers-int8-tflite.csv").read_text(encoding="utf-8").splitlines()
    assert result.files[0].worst_layer in [line.split(",")[0] for line in table[1:]]


def test_a_device_that_cannot_run_a_format_stops_the_export(run_copy: Path) -> None:
    with pytest.raises(ConfigError, match="--board coral runs tflite files; received --format onnx"):
        export_run(run_copy, ExportConfig(precisions=("int8",), device="coral"))
    assert not (run_copy / "export").exists()


def test_earlier_precisions_stay_in_the_record(run_copy: Path, converters: Callable[..., None]) -> None:
    export_run(run_copy, ExportConfig(precisions=("int8",), max_drop=1))
    before = {entry["path"]: entry for entry in read_json(run_copy / "export")["files"]}
    export_run(run_copy, ExportConfig(formats=("tflite",), max_drop=1))
    after = {entry["path"]: entry for entry in read_json(run_copy / "export")["files"]}
    assert after.keys() == {"model-int8.tflite", "model-int8.onnx", "model-fp32.tflite"}
    assert {name: after[name] for name in before} == before
    # A deleted file is no longer listed, and one written again is listed once.
    (run_copy / "export" / "model-int8.onnx").unlink()
    export_run(run_copy, ExportConfig(formats=("tflite",), max_drop=1))
    assert [entry["path"] for entry in read_json(run_copy / "export")["files"]] == [
        "model-int8.tflite",
        "model-fp32.tflite",
    ]


def test_a_worse_file_is_rejected_and_a_good_one_takes_its_place(
    run_copy: Path, converters: Callable[..., None], ignorant_graph: bytes
) -> None:
    folder, config = run_copy / "export", ExportConfig(formats=("tflite",), max_drop=0)
    converters(fp32_tflite=ignorant_graph)
    (file,) = export_run(run_copy, config).files
    assert not file.passed
    (entry,) = read_json(folder)["files"]
    assert (entry["path"], entry["passed"]) == ("model-fp32.rejected.tflite", False)
    assert entry["accuracy"] == pytest.approx(1 / 3)
    assert entry["drop"] == pytest.approx(2 / 3)
    assert not (folder / "model-fp32.tflite").exists()
    assert entry["sha256"] == hashlib.sha256((folder / entry["path"]).read_bytes()).hexdigest()

    converters()
    assert export_run(run_copy, config).files[0].passed
    assert [entry["path"] for entry in read_json(folder)["files"]] == ["model-fp32.tflite"]
    assert names_in(folder) == ["export.json", "model-fp32.tflite"]


def test_a_rejected_file_takes_the_place_of_a_good_one(
    run_copy: Path, converters: Callable[..., None], ignorant_graph: bytes
) -> None:
    config = ExportConfig(formats=("tflite",), max_drop=0)
    assert export_run(run_copy, config).notes == ()
    converters(fp32_tflite=ignorant_graph)
    (note,) = export_run(run_copy, config).notes
    assert note.startswith("model-fp32.tflite of an earlier export passed and was removed")
    assert export_run(run_copy, config).notes == ()
    names = names_in(run_copy / "export")
    assert "model-fp32.rejected.tflite" in names
    assert "model-fp32.tflite" not in names


@pytest.mark.parametrize(
    "failure", [ExportError("no such operator"), OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_a_failure_leaves_earlier_files_as_they_were(
    run_copy: Path, converters: Callable[..., None], monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    folder = run_copy / "export"
    export_run(run_copy, ExportConfig(formats=("tflite",), max_drop=1))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_: object, **__: object) -> bytes:
        raise failure

    monkeypatch.setattr(onnx, "to_fp32", fail)
    with pytest.raises(type(failure)):
        export_run(run_copy, ExportConfig(max_drop=1))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_first_export_that_fails_leaves_no_file(
    run_copy: Path, converters: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise ExportError("no such operator")

    monkeypatch.setattr(onnx, "to_fp32", fail)
    with pytest.raises(ExportError, match="no such operator"):
        export_run(run_copy, ExportConfig(max_drop=1))
    folder = run_copy / "export"
    assert not folder.exists() or names_in(folder) == []


def test_damaged_runs_are_named(run_copy: Path, converters: Callable[..., None], tmp_path: Path) -> None:
    config = ExportConfig(formats=("tflite",), max_drop=1)
    (run_copy / SCORES_FILE).write_bytes(b"")
    with pytest.raises(ModelFileError, match=f"{SCORES_FILE} cannot be read"):
        export_run(run_copy, config)
    with pytest.raises(ModelFileError, match="not a run folder"):
        export_run(tmp_path, config)
    with pytest.raises(DataError, match="--data"):
        export_run(run_copy, config, data=tmp_path / "nothing")


def test_a_damaged_record_stops_the_export_before_anything_is_written(
    run_copy: Path, converters: Callable[..., None]
) -> None:
    folder = run_copy / "export"
    folder.mkdir()
    (folder / "export.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"export.json is damaged .* delete it"):
        export_run(run_copy, ExportConfig(formats=("tflite",), max_drop=1))
    assert names_in(folder) == ["export.json"]


def test_progress_names_every_file(run_copy: Path, converters: Callable[..., None]) -> None:
    calls: list[tuple[str, int, int]] = []
    export_run(run_copy, ExportConfig(formats=("tflite",), max_drop=1), progress=lambda *call: calls.append(call))
    assert {stage for stage, _, _ in calls} >= {"convert model-fp32.tflite", "score model-fp32.tflite"}
    last = {stage: (done, total) for stage, done, total in calls}
    assert all(done == total for done, total in last.values())


@pytest.mark.slow
def test_int8_files_leave_out_channels_and_float_files_do_not(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The run has few and small images.
    monkeypatch.setattr(prune, "POSITIONS_PER_CHANNEL", 0)
    sizes = []
    for max_kl in (0, 1000):
        config = ExportConfig(precisions=("fp32", "int8"), formats=("onnx",), max_drop=1, prune=max_kl)
        sizes.append([file.bytes for file in export_run(run_copy, config).files])
    (all_float, all_int8), (few_float, few_int8) = sizes
    assert few_int8 < 0.98 * all_int8
    assert few_float == pytest.approx(all_float, rel=1e-3)


@pytest.mark.slow
def test_the_layer_that_loses_most_is_named_on_request(run_copy: Path) -> None:
    result = export_run(run_copy, ExportConfig(precisions=("int8",), formats=("tflite",), max_drop=1, layers=True))
    (file,) = result.files
    table = (result.folder / "layers-int8-tflite.csv").read_text(encoding="utf-8").splitlines()
    assert table[0] == "layer,snr_db,lost_db"
    lost = {name: float(loss) for name, _, loss in (line.split(",") for line in table[1:])}
    assert file.worst_layer == max(lost, key=lambda name: lost[name])
    assert len(lost) > 40
    assert {layer.name for layer in fuse(load_model(run_copy), in_blocks=True).core.layers} > set(lost)
