"""The export folder while files are made in it, and what a killed process leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgecls.errors import ConfigError, ModelFileError
from edgecls.export import export_folder
from edgecls.export.export_folder import PARTIAL, ExportedFile, publish, read_entries, work_in
from edgecls.export.gate import Comparison
from edgecls.files import write_json

ENTRY = {"path": "model-int8.onnx", "bytes": 1, "accuracy": 1.0, "drop": 0.0, "agreement": 1.0}
ENTRY |= {"passed": True, "flips": "", "verdict": "passed"}


def exported(path: str) -> ExportedFile:
    comparison = Comparison(**{name: 0 for name in Comparison.__dataclass_fields__})  # type: ignore[arg-type]
    return ExportedFile(path, "onnx", "int8", 1, "0" * 64, comparison, 1.0, {}, "", "")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with work_in(tmp_path), pytest.raises(ConfigError, match=rf"another process is exporting into {tmp_path}; wait"):
        with work_in(tmp_path):
            pass
    with work_in(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    (tmp_path / f"{PARTIAL}abc" / "x").mkdir(parents=True)
    with work_in(tmp_path) as (partial, older):
        assert [path for path in tmp_path.iterdir()] == [partial] and older == []


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
    older: list[dict[str, Any]] = [ENTRY, ENTRY | {"path": "model-fp32.onnx"}]
    write_json(folder / "export.json", {"files": older})
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
        read_entries(tmp_path)
