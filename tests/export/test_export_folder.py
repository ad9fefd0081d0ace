"""The export folder while files are made in it, and what a killed process leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgecls.errors import ConfigError, ModelFileError
from edgecls.export import export_folder
from edgecls.export.export_folder import PARTIAL, Earlier, ExportedFile, publish, read_entries, work_in
from edgecls.export.gate import Comparison
from edgecls.files import LOCK_NAME, file_sha256, read_checked, write_checked

RUN, ID = Path("run"), "of this run"
ENTRY: dict[str, Any] = {"path": "model-int8.onnx", "sha256": "0" * 64, "bytes": 1, "flips": "", "verdict": "passed"}
ENTRY |= {"accuracy": 1.0, "drop": 0.0, "agreement": 1.0, "passed": True}


def exported(path: str) -> ExportedFile:
    values: dict[str, Any] = dict.fromkeys(Comparison.__dataclass_fields__, 0.0) | {"passed": True, "verdict": "passed"}
    comparison = Comparison(**values)
    return ExportedFile(path, "onnx", "int8", 1, "0" * 64, comparison, 1.0, {}, "", "")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        work_in(tmp_path, RUN, ID),
        pytest.raises(ConfigError, match=rf"another process is exporting into {tmp_path}; wait"),
    ):
        with work_in(tmp_path, RUN, ID):
            pass
    with work_in(tmp_path, RUN, ID):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    (tmp_path / f"{PARTIAL}abc" / "x").mkdir(parents=True)
    with work_in(tmp_path, RUN, ID) as (partial, older):
        assert sorted(tmp_path.iterdir()) == [tmp_path / LOCK_NAME, partial] and older == Earlier([])


@pytest.mark.parametrize("moment", range(4))
def test_killed_at_any_moment_the_record_tells_no_lie(
    tmp_path: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die before the first, second ... rename: an entry in export.json is of the file that lies there."""
    finished, folder = tmp_path / "new", tmp_path / "export"
    finished.mkdir()
    folder.mkdir()
    (finished / "model-int8.onnx").write_text("new")
    (folder / "model-int8.onnx").write_text("old")
    (folder / "model-fp32.onnx").write_text("kept")
    older = Earlier([ENTRY, ENTRY | {"path": "model-fp32.onnx"}])
    write_checked(folder / "export.json", {"files": older.entries})
    left, real = [moment], Path.replace

    def replace(self: Path, target: Path) -> Path:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        if moment < 3:
            with pytest.raises(KeyboardInterrupt):
                publish(finished, folder, {}, [exported("model-int8.onnx")], older)
        else:
            publish(finished, folder, {}, [exported("model-int8.onnx")], older)
    listed = {entry["path"] for entry in json.loads((folder / "export.json").read_text())["files"]}
    content = (folder / "model-int8.onnx").read_text()
    assert listed == {0: {"model-int8.onnx", "model-fp32.onnx"}, 3: {"model-fp32.onnx", "model-int8.onnx"}}.get(
        moment, {"model-fp32.onnx"}
    )
    assert content == ("old" if moment < 2 else "new")


@pytest.mark.parametrize("document", ["[]", "{}", '{"files": 3}', '{"files": [{}]}', "[" * 100_000, "\xff"])
def test_a_damaged_record_is_named(tmp_path: Path, document: str) -> None:
    (tmp_path / export_folder.RECORD_FILE).write_text(document, encoding="latin-1")
    with pytest.raises(ModelFileError, match=r"export\.json is damaged .*; delete it and export again"):
        read_entries(tmp_path, ID)


# Of whom the files are


def export(folder: Path, run: Path, run_id: str, *names: str, notes: tuple[str, ...] = ()) -> None:
    """Export as `artifact.export_run` does, without its minutes: each file holds its run and its name."""
    record = {"run": {"path": str(run.resolve()), "id": run_id}, "float_accuracy": len(run_id)}
    with work_in(folder, run, run_id) as (partial, older):
        assert [any(part in note for part in notes) for note in older.notes] == [True] * len(notes)
        files = []
        for name in names:
            (partial / name).write_text(f"{run_id} {name}")
            precision, kind = name.removeprefix("model-").split(".")
            files.append(replace(exported(name), precision=precision, format=kind, sha256=file_sha256(partial / name)))
        publish(partial, folder, record, files, older)


def names_of(folder: Path) -> list[str]:
    document = read_checked(folder / "export.json")
    for entry in document["files"]:
        assert file_sha256(folder / entry["path"]) == entry["sha256"]
        assert (folder / entry["path"]).read_text().startswith(document["run"]["id"])
    listed = sorted(entry["path"] for entry in document["files"])
    assert listed == sorted(path.name for path in folder.glob("model-*"))
    return listed


def test_files_of_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    mix, (one, two) = tmp_path / "mix", (tmp_path / name for name in ("one", "two"))
    export(mix, one, "1", "model-int8.tflite")
    before = {path.name: path.read_bytes() for path in mix.iterdir()}
    with pytest.raises(ConfigError, match=rf"{mix} holds files of another run \({one}\), .*another --out"):
        export(mix, two, "2", "model-fp32.onnx")
    assert {path.name: path.read_bytes() for path in mix.iterdir()} == before
    # The same run, whatever it is called by now.
    export(mix, two, "1", "model-fp32.onnx")
    assert names_of(mix) == ["model-fp32.onnx", "model-int8.tflite"]


@pytest.mark.parametrize("out", ["run/export", "run/export-arm64", "elsewhere"])
def test_files_of_a_run_trained_again_go(tmp_path: Path, out: str) -> None:
    run, folder = tmp_path / "run", tmp_path / out
    export(folder, run, "1", "model-int8.tflite", "model-fp32.onnx")
    (folder / "flips-fp32-onnx.png").touch()
    (folder / "mine.txt").touch()
    export(folder, run, "2", "model-int8.onnx", notes=("of an earlier training",))
    assert names_of(folder) == ["model-int8.onnx"]
    assert sorted(path.name for path in folder.iterdir()) == ["export.json", "mine.txt", "model-int8.onnx"]


def test_files_of_an_older_edgecls_have_an_unknown_run(tmp_path: Path) -> None:
    for folder in (tmp_path / "run" / "export", tmp_path / "mix"):
        export(folder, tmp_path / "run", "1", "model-int8.tflite")
        document = read_checked(folder / "export.json")
        del document["run"]
        (folder / "export.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=r"another run \(made by an older edgecls\)"):
        export(tmp_path / "mix", tmp_path / "run", "1", "model-fp32.onnx")
    export(tmp_path / "run" / "export", tmp_path / "run", "1", "model-fp32.onnx", notes=("an older edgecls",))
    assert names_of(tmp_path / "run" / "export") == ["model-fp32.onnx"]


def test_a_file_that_was_changed_is_not_listed_any_more(tmp_path: Path) -> None:
    export(tmp_path, RUN, ID, "model-int8.tflite", "model-int8.onnx", "model-fp32.onnx")
    (tmp_path / "model-int8.tflite").write_text("other bytes")
    (tmp_path / "model-fp32.onnx").unlink()
    export(tmp_path, RUN, ID, "model-fp16.onnx", notes=("int8.tflite was changed after its export", "is missing"))
    assert [entry["path"] for entry in read_checked(tmp_path / "export.json")["files"]] == [
        "model-int8.onnx",
        "model-fp16.onnx",
    ]
    export(tmp_path, RUN, ID, "model-int8.tflite")
    assert names_of(tmp_path) == ["model-fp16.onnx", "model-int8.onnx", "model-int8.tflite"]
