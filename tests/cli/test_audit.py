from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run

from edgecls.audit import audit as finding
from edgecls.config import TrainConfig
from edgecls.messages.numbers import percent
from edgecls.progress import Progress

real, known = finding.audit, dict[tuple[Path, TrainConfig], finding.Audit]()


@pytest.fixture
def found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found in the same images with the same settings is computed for the first command only."""

    def audit(data: Path, config: TrainConfig, progress: Progress) -> finding.Audit:
        if (data, config) not in known:
            known[data, config] = real(data, config, progress)
        return known[data, config]

    monkeypatch.setattr(finding, "audit", audit)


@pytest.mark.usefixtures("found_once")
def test_audit_writes_what_it_prints_and_a_table_that_train_reads(tiny_data: Path, tmp_path: Path) -> None:
    out, fix = tmp_path / "audit", tmp_path / "my moves.csv"
    shown = run("audit", tiny_data, "--image-size", 32, "--weights", "none", "--out", out, "--fix", fix)
    assert shown.exit_code == 0, shown.output
    assert (out / "audit.html").is_file() and fix.is_file()
    record = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    assert (
        record["images"] == 42
        and f"A linear classifier reaches {percent(record['accuracy']['with_leak'])}" in shown.output
    )
    assert "Classes: 3, each with 10 training images." in shown.output
    assert f"Next: edgecls train {tiny_data} --exclude '{fix}' --out run" in shown.output


def test_audit_refuses_what_train_refuses(tmp_path: Path) -> None:
    shown = run("audit", tmp_path / "gone", "--weights", "none")
    assert shown.exit_code == 1 and "there is no such folder" in shown.output
    shown = run("audit", tmp_path, "--class-from", "(", "--weights", "none")
    assert shown.exit_code == 2 and "no regular expression" in shown.output


def test_a_reviewed_table_is_not_replaced(tmp_path: Path) -> None:
    fix = tmp_path / "moves.csv"
    fix.write_text("image,action\n1.png,keep\n")
    shown = run("audit", tmp_path, "--fix", fix)
    assert shown.exit_code == 2 and "what you have reviewed in it would be lost" in shown.output
    assert fix.read_text() == "image,action\n1.png,keep\n"


@pytest.mark.usefixtures("found_once")
def test_files_of_other_programs_are_not_replaced(tiny_data: Path, tmp_path: Path) -> None:
    out, arguments = tmp_path / "audit", ("audit", tiny_data, "--image-size", 32, "--weights", "none", "--out")
    out.mkdir()
    for name, text in (("audit.html", "<!DOCTYPE html><title>Of another program</title>"), ("audit.json", '{"a": 1}')):
        (out / name).write_text(text)
        shown = run(*arguments, out)
        assert shown.exit_code == 2 and f"{name} exists, and edgecls did not write it" in shown.output, shown.output
        assert (out / name).read_text() == text
        (out / name).unlink()
    # Its own files are replaced.
    for _ in range(2):
        assert run(*arguments, out).exit_code == 0
    assert "audit of a data set" in (out / "audit.html").read_text(encoding="utf-8")
    shown = run(*arguments, out / "audit.json")
    assert shown.exit_code == 2 and "is no folder that takes files" in shown.output
