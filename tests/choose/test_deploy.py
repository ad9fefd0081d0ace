from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from choices import FakeMachine, make_candidate, make_choice
from tiny import CLASSES

from edgecls import __version__
from edgecls.choose import rounds
from edgecls.choose.choice import Choice
from edgecls.choose.deploy import check_out, write_deploy
from edgecls.choose.rounds import time_candidates
from edgecls.errors import ConfigError

NAMES = {"choose.json", "model-int8.tflite", "predict.py", "report.md", "requirements.txt"}


@pytest.fixture
def choice(file_named: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Choice:
    monkeypatch.setattr(rounds, "run_benchmark", FakeMachine({"model-int8.tflite": 1.0}).run)
    found = [make_candidate("model-int8.tflite", file=file_named("model-int8.tflite"), threads=2)]
    return make_choice(found, timing=time_candidates(found, 1), int8="int8 won.")


def test_the_folder_holds_all_that_a_board_needs(
    choice: Choice, tmp_path: Path, file_named: Callable[[str], Path], pictures: list[Path]
) -> None:
    out = write_deploy(choice, tmp_path / "new" / "deploy")
    assert {path.name for path in out.iterdir()} == NAMES
    assert [path.name for path in out.parent.iterdir()] == ["deploy"]
    assert (out / "requirements.txt").read_text() == f"edgecls[litert]=={__version__}\n"
    assert (out / "model-int8.tflite").read_bytes() == file_named("model-int8.tflite").read_bytes()
    document = json.loads((out / "choose.json").read_text())
    assert document["recommended"]["threads"] == 2
    assert set(document["deploy"]) == NAMES - {"choose.json"}
    assert "pip install -r requirements.txt" in (out / "report.md").read_text()

    script = (out / "predict.py").read_text()
    ast.parse(script)
    assert len(script.splitlines()) <= 14
    assert 'engine="litert", threads=2, device="cpu"' in script
    moved = out.rename(tmp_path / "board")
    command = [sys.executable, str(moved / "predict.py"), *map(str, pictures), "absent.png"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(": ")[1].split()[0] for line in lines[:-1]] == list(CLASSES)
    assert lines[-1].startswith("cannot open image absent.png")
    done = subprocess.run(command[:2], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].endswith("python predict.py IMAGE...")


def test_a_board_gets_its_own_pip_lines(choice: Choice, tmp_path: Path) -> None:
    away = make_choice(choice.candidates, timing=choice.timing, device="raspberry-pi-4b-32bit", is_here=False)
    report = (write_deploy(away, tmp_path / "deploy") / "report.md").read_text()
    assert "tflite-runtime==" in report and "'numpy<2'" in report
    assert "Warning: timed on this machine" in report


def test_only_what_was_written_here_is_replaced(choice: Choice, tmp_path: Path) -> None:
    out = tmp_path / "deploy"
    check_out(out)
    out.mkdir()
    check_out(out)
    write_deploy(choice, out)
    check_out(out)
    write_deploy(choice, out)
    assert {path.name for path in out.iterdir()} == NAMES

    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="--overwrite"):
        check_out(out)
    check_out(out, overwrite=True)
    write_deploy(choice, out)
    assert not (out / "notes.txt").exists()

    (out / "predict.py").write_text("# changed by hand")
    with pytest.raises(ConfigError, match="changed since"):
        check_out(out)
    (out / "predict.py").unlink()
    with pytest.raises(ConfigError, match="did not write"):
        check_out(out)


@pytest.mark.parametrize("content", ["{}", "no JSON", "[" * 100_000, '{"deploy": 3}', '{"deploy": {"a": 1}}', "[]"])
def test_a_record_that_is_not_ours_protects_the_folder(content: str, tmp_path: Path) -> None:
    out = tmp_path / "deploy"
    out.mkdir()
    (out / "choose.json").write_text(content)
    with pytest.raises(ConfigError, match="did not write"):
        check_out(out)


def test_places_that_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="not a folder"):
        check_out(tmp_path / "file")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="current folder"):
        check_out(tmp_path, overwrite=True)


def test_a_failure_leaves_the_old_folder(choice: Choice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = write_deploy(choice, tmp_path / "deploy")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no space"):
        write_deploy(choice, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["deploy"]


def test_nothing_recommended_is_nothing_deployed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to deploy"):
        write_deploy(make_choice(()), tmp_path / "deploy")
