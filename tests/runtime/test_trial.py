"""A file that crashes, hangs or is refused in the child process ends nothing but that process."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgecls import load
from edgecls.cli import main
from edgecls.errors import MissingDependency, ModelFileError
from edgecls.model_file.read import read_model_file
from edgecls.model_file.write import attach_spec
from edgecls.runtime.trial import try_in_child


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put an interpreter in the place of LiteRT, in child processes, that does this when it is imported."""
    (folder / "ai_edge_litert").mkdir(parents=True)
    (folder / "ai_edge_litert" / "__init__.py").write_text(f"import os, signal, time\n{body}\n")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])


@pytest.mark.parametrize("engine", ["litert", "openvino"])
def test_a_good_file_is_loaded(tiny_tflite: Path, engine: str) -> None:
    classifier = load(tiny_tflite, engine=engine, untrusted=True)
    assert classifier.engine.name == engine


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_is_reported(
    tiny_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    stand_in(tmp_path, monkeypatch, f"os.kill(os.getpid(), {int(number)})")
    with pytest.raises(ModelFileError, match=rf"litert crashed \({number.name}\) on the file .*; do not use this file"):
        load(tiny_tflite, untrusted=True)


def test_a_file_that_takes_for_ever_is_reported(
    tiny_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, "time.sleep(60)")
    with pytest.raises(ModelFileError, match="litert did not load the file within 2 s; do not use"):
        try_in_child(tiny_tflite.read_bytes(), "litert", 1, "cpu", most_seconds=2)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise KeyError('odd')", "KeyError: 'odd'"),
        ("os._exit(7)", "exit status 7"),
        # Far more than half of any machine's memory.
        ("bytearray(2**48)", "MemoryError"),
    ],
)
def test_another_failure_is_reported(
    tiny_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    stand_in(tmp_path, monkeypatch, body)
    with pytest.raises(ModelFileError, match=rf"litert failed on the file .*\({words}"):
        load(tiny_tflite, untrusted=True)


def test_what_loading_raises_keeps_its_class(
    tiny_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, graph, spec = read_model_file(tiny_tflite.read_bytes())
    fewer = attach_spec(graph, replace(spec, labels=("a", "b"), graph_sha256=""), "tflite")
    with pytest.raises(ModelFileError, match="the graph's output must be"):
        try_in_child(fewer, "litert", 1, "cpu")
    stand_in(tmp_path, monkeypatch, "raise ImportError('gone')")
    with pytest.raises(MissingDependency, match="pip install"):
        try_in_child(tiny_tflite.read_bytes(), "litert", 1, "cpu")


def test_modules_beside_the_file_are_not_imported(
    tiny_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ai_edge_litert.py").write_text("raise SystemExit('taken in')")
    (tmp_path / "json.py").write_text("raise SystemExit('taken in')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    try_in_child(tiny_tflite.read_bytes(), "litert", 1, "cpu")


@pytest.mark.parametrize(
    "command", [["predict", "{file}", "{image}"], ["selftest", "{file}"], ["evaluate", "{file}", "."]]
)
def test_the_option_reaches_the_child(
    command: list[str],
    int8: Path,
    pictures: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_in(tmp_path / "modules", monkeypatch, "os.kill(os.getpid(), signal.SIGSEGV)")
    arguments = [word.format(file=int8, image=pictures[0]) for word in command]
    done = CliRunner().invoke(main, [*arguments, "--untrusted"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Error: litert crashed (SIGSEGV) on the file" in done.stderr
