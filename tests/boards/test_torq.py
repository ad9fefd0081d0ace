"""The Torq compiler's commands, against programs of its documented interface: the real one needs Python 3.12."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from torq_programs import install

from edgecls.boards import compilers, torq
from edgecls.boards.compatibility import check_file
from edgecls.boards.profiles import load_profile
from edgecls.boards.rule_result import is_yes
from edgecls.errors import ExportError, MissingDependency, ModelFileError
from edgecls.model_file.read import read_model_file

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the programs are scripts")


def test_a_file_is_converted_and_compiled_without_its_metadata(
    tiny_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path / "bin")
    done = torq.compile_for_torq(tiny_tflite, tmp_path / "out")
    assert done.path == tmp_path / "out" / "tiny-int8.vmfb"
    assert list((tmp_path / "out").iterdir()) == [done.path]
    written = done.path.read_bytes()
    assert written == b"torq-compile\ntosa-converter-for-tflite --text\n" + read_model_file(tiny_tflite).graph
    assert done.report.size_bytes == len(written)


def test_a_missing_program_is_named_with_what_to_install(
    tiny_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(MissingDependency, match=r"tosa-converter-for-tflite is not installed; pip install 'torq-comp"):
        torq.compile_for_torq(tiny_tflite, tmp_path)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("print('error: no such op', file=sys.stderr); sys.exit(1)", "error: no such op"),
        ("sys.exit(0)", "it wrote no file"),
    ],
)
def test_a_failure_keeps_the_programs_words(
    first: str, words: str, tiny_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path / "bin", first)
    with pytest.raises(ExportError, match=rf"tosa-converter-for-tflite failed on tiny-int8.tflite: {words}"):
        torq.compile_for_torq(tiny_tflite, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_compilation_without_end_is_stopped(
    tiny_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("torq-compile", compilers.TIMEOUT_S)

    install(monkeypatch, tmp_path / "bin")
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ExportError, match="ran for more than 600 s"):
        torq.compile_for_torq(tiny_tflite, tmp_path)


def test_onnx_files_are_refused(tiny_onnx: Path) -> None:
    with pytest.raises(ModelFileError, match="takes TFLite files, and tiny-fp32.onnx is onnx"):
        torq.compile_for_torq(tiny_onnx)


def test_the_boards_processor_runs_the_file(tiny_tflite: Path) -> None:
    findings = check_file(tiny_tflite, load_profile("synaptics-coralboard"))
    assert is_yes(findings)
    assert any("edgecls[litert]" in finding.text for finding in findings)
