from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from choices import rewrite

from edgecls.boards.targets import TARGETS, find_target
from edgecls.config import ExportConfig
from edgecls.export import onnx, run_files, tflite
from edgecls.export.artifact import ExportResult
from edgecls.export.run_files import RunFile, export_missing, find_files, find_folder
from edgecls.model_file.read import read_model_file, read_spec
from edgecls.training.run.run_folder import read_record, write_record

HERE = find_target(None)


@pytest.fixture
def run(tmp_path: Path, tiny_run: Path, tiny_export: ExportResult) -> Path:
    """A run with its fp32 and int8 files, without fp16."""
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    shutil.copytree(tiny_export.folder, run / "export")
    return run


def names(files: Sequence[RunFile], *, there: bool) -> list[str]:
    return [file.path.name for file in files if file.is_there == there]


def test_what_is_there_and_what_is_missing(run: Path) -> None:
    files = find_files(run, HERE, 0.01)
    assert names(files, there=False) == ["model-fp16.tflite", "model-fp16.onnx"]
    assert len(files) == 6 and all(not file.problem for file in files)
    assert {file.path.parent for file in files} == {run / "export"}


def test_missing_files_are_exported_beside_the_others(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # test_artifact.py converts them.
    for module, kind in ((tflite, "tflite"), (onnx, "onnx")):
        graph = read_model_file(run / "export" / f"model-fp32.{kind}").graph
        monkeypatch.setattr(module, "to_fp16", lambda *_, graph=graph, **__: graph)
    before = {path: path.read_bytes() for path in (run / "export").glob("model-*")}
    files = export_missing(run, find_files(run, HERE, 1), HERE, 1)
    assert names(files, there=False) == []
    for name in ("model-fp16.tflite", "model-fp16.onnx"):
        spec = read_spec(run / "export" / name)
        assert spec.precision == "fp16" and spec.golden
    assert {path: path.read_bytes() for path in before} == before


def test_missing_files_hold_the_limit_of_the_others(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecls.export import artifact

    asked: list[ExportConfig] = []
    monkeypatch.setattr(artifact, "export_run", lambda _, config, **__: asked.append(config))
    for path in (run / "export").glob("model-*"):
        limit = {"kind": "false_alarms", "rate": 0.05}
        metrics = read_spec(path).metrics | {"inspection": {"limit": limit}}
        rewrite(path, good_class="dark", good_threshold=0.5, metrics=metrics)
    export_missing(run, find_files(run, HERE, 1), HERE, 1)
    (config,) = asked
    assert (config.good_class, config.max_missed, config.max_false_alarms) == ("dark", None, 0.05)


def test_files_without_images_inside_get_no_company_with_images(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecls.export import artifact

    asked: list[ExportConfig] = []
    monkeypatch.setattr(artifact, "export_run", lambda _, config, **__: asked.append(config))
    for path in (run / "export").glob("model-*"):
        rewrite(path, golden=())
    export_missing(run, find_files(run, HERE, 1), HERE, 1)
    (config,) = asked
    assert (config.golden, config.precisions, config.formats) == (False, ("fp16",), ("tflite", "onnx"))


def test_every_missing_file_is_exported_once_into_its_folder(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecls.export import artifact

    asked: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []

    def export_run(_: Path, config: ExportConfig, *, out: Path, **__: object) -> None:
        asked.append((out.name, config.precisions, config.formats))

    monkeypatch.setattr(artifact, "export_run", export_run)
    (run / "export/model-fp32.onnx").unlink()
    export_missing(run, find_files(run, TARGETS["arm64"], 1), TARGETS["arm64"], 1)
    both = ("tflite", "onnx")
    assert asked == [("export", ("fp32",), ("onnx",)), ("export", ("fp16",), both), ("export-arm64", ("int8",), both)]


def test_a_rejected_file_is_exported_again_only_if_its_drop_is_admitted(run: Path) -> None:
    good, bad = run / "export/model-int8.onnx", run / "export/model-int8.rejected.onnx"
    metrics = read_spec(good).metrics | {"drop": 0.015, "verdict": "failed: 1.50 points", "collapse": ""}
    rewrite(good, bad, metrics=metrics)
    (file,) = [file for file in find_files(run, HERE, 0.01) if file.path == bad]
    assert file.is_there and file.problem == "rejected at export: failed: 1.50 points"
    assert "model-int8.rejected.onnx" in names(find_files(run, HERE, 0.02), there=False)
    rewrite(bad, metrics=metrics | {"collapse": "answers one class"})
    assert "model-int8.rejected.onnx" in names(find_files(run, HERE, 0.02), there=True)


def test_files_for_another_processor_stay_where_they_are(run: Path) -> None:
    assert find_folder(run, HERE) == run / "export"
    assert find_folder(run, TARGETS["arm64"]) == run / "export-arm64"
    # Float files suit every processor.
    files = find_files(run, TARGETS["arm64"], 0.01)
    assert {file.path.parent.name for file in files if file.precision == "int8"} == {"export-arm64"}
    assert {file.path.parent.name for file in files if file.precision != "int8"} == {"export"}
    # Without a file that was made for a processor, there is room for any.
    for name in ("model-int8.onnx", "model-int8.tflite"):
        (run / "export" / name).unlink()
    assert find_folder(run, TARGETS["coral"]) == run / "export"


def test_tflite_files_are_alike_but_for_npus(run: Path) -> None:
    (run / "export/model-int8.onnx").unlink()
    assert find_folder(run, TARGETS["arm64"]) == run / "export"
    assert find_folder(run, TARGETS["coral"]) == run / "export-coral"
    assert find_folder(run, TARGETS["ethos-u"]) == run / "export-ethos-u"
    assert [file.format for file in find_files(run, TARGETS["coral"], 0.01)] == ["tflite"] * 3


def test_what_cannot_be_exported_says_why(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "model.keras").write_bytes(b"damaged")
    missing = [file for file in export_missing(run, find_files(run, HERE, 1), HERE, 1) if not file.is_there]
    assert len(missing) == 2 and all("could not be exported: " in file.problem for file in missing)
    monkeypatch.setattr(run_files, "find_spec", lambda _: None)
    missing = [file for file in export_missing(run, find_files(run, HERE, 1), HERE, 1) if not file.is_there]
    assert [file.problem for file in missing] == [run_files.NO_TENSORFLOW] * 2


def test_files_that_export_json_does_not_describe_are_missing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecls.export import artifact

    folder = run / "export"
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(artifact, "export_run", lambda _, config, **__: asked.append(config.precisions))
    whole = (folder / "model-int8.tflite").read_bytes()
    # Cut, and a whole file that another export wrote.
    for data in (b"", whole[: len(whole) // 2], (folder / "model-fp32.tflite").read_bytes()):
        (folder / "model-int8.tflite").write_bytes(data)
        found = find_files(run, HERE, 1)
        assert "model-int8.tflite" in names(found, there=False) and "model-int8.onnx" in names(found, there=True)
    asked.clear()
    (problem,) = (file.problem for file in export_missing(run, found, HERE, 1) if file.path.name == "model-int8.tflite")
    assert ("int8",) in asked and problem == "model-int8.tflite is not the file that export.json describes"


def test_files_of_an_earlier_training_are_missing(run: Path) -> None:
    record = read_record(run)
    del record["files"]
    write_record(run, record | {"seconds": 1.5})
    assert names(find_files(run, HERE, 1), there=True) == []
    # Without a record there is nothing to hold them against: their own checksums stand.
    (run / "export" / "export.json").unlink()
    assert len(names(find_files(run, HERE, 1), there=True)) == 4
