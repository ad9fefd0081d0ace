from __future__ import annotations

import errno
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest
from command_line import check_stages, run, run_process
from tiny import SIZE

from edgecls import __version__
from edgecls.cli import COMMANDS, main
from edgecls.config import TrainConfig
from edgecls.export import tflite
from edgecls.model_file.read import read_model_file


# Help and usage
def test_the_list_of_commands_is_not_cut_short() -> None:
    lines = run("--help").output.splitlines()
    for name in COMMANDS:
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert not line.endswith("...") and len(line) <= 80


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=["edgecls", *COMMANDS])
def test_help_shows_an_example(command: list[str]) -> None:
    for flag in ("--help", "-h"):
        shown = run(*command, flag)
        assert shown.exit_code == 0, shown.output
        assert f"Example{'' if command else 's'}" in shown.output
        assert f"  edgecls {' '.join(command)}" in shown.output


def test_defaults_in_the_help_are_those_of_the_config() -> None:
    text = " ".join(run("train", "--help").output.split())
    assert f"[default: {TrainConfig.image_size}]" in text
    assert f"[default: {TrainConfig.learning_rate}]" not in text
    # Equal to True, and yet a default like any other.
    assert f"Width multiplier of MobileNetV2. [default: {TrainConfig.alpha}]" in text
    assert __version__ in run("--version").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["unknown"], "No such command"),
        (["tarin", "photos"], "Did you mean 'train'?"),
        (["train"], "Missing argument 'DATA...'"),
        (["train", "photos"], "Missing option '--out'"),
        (
            ["train", "photos", "--out", "x", "--image-size", "16"],
            "image size must be 32 to 1024 for mobilenet_v2; received 16",
        ),
        (["train", "photos", "--out", "x", "--dropout", "1"], "dropout must be"),
        (["train", "photos", "--out", "x", "--zoom", "-1"], "zoom must be"),
        (["train", "photos", "--out", "x", "--head", "tail"], "'tail' is not one of"),
        (["train", "photos", "--out", "x", "--epochs", "many"], "not a valid integer"),
        (["export", "run", "--format", "gif"], "'gif' is not one of"),
        (["export", "run", "--max-drop", "-0.1"], "max drop must be 0 to 1; received -0.1"),
        (["export", "run", "--int9"], "No such option"),
        (["predict", "file"], "Missing argument 'IMAGES"),
        (["predict", "file", "image", "--top-k", "0"], "0 is not in the range"),
        (["info"], "Missing argument 'FILE'"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


# What is missing or not ours
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "{gone}", "{image}"], "no such model file"),
        (["predict", "{image}", "{image}"], "is a PNG image. Pass a file that"),
        (["predict", "{bare}", "{image}"], "no edgecls metadata"),
        (["predict", "{folder}", "{image}"], "is a folder. Pass a file that"),
        (["info", "{bare}"], "no edgecls metadata"),
        (["info", "{gone}"], "no such model file"),
        (["evaluate", "{bare}", "{folder}"], "no edgecls metadata"),
        (["evaluate", "{file}", "{gone}"], "there is no such folder"),
        (["evaluate", "{file}", "{folder}"], "class folders"),
        (["export", "{gone}"], "is not a run folder"),
        (["export", "{folder}", "--int8"], "is not a run folder"),
        (["train", "{gone}", "--out", "{folder}/run", "--weights", "none"], "there is no such folder"),
        (["train", "{image}", "--out", "{folder}/run", "--weights", "none"], "it is a PNG image"),
    ],
)
def test_what_is_missing_or_not_ours_exits_with_1(
    arguments: list[str], message: str, int8: Path, pictures: list[Path], tmp_path: Path
) -> None:
    bare, folder = tmp_path / "bare.tflite", tmp_path / "folder"
    bare.write_bytes(read_model_file(int8.read_bytes()).graph)
    folder.mkdir()
    names = {"gone": tmp_path / "gone", "image": pictures[0], "bare": bare, "folder": folder, "file": int8}
    done = run(*(argument.format(**names) for argument in arguments))
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in done.stderr
    assert list(folder.iterdir()) == []


def test_training_never_replaces_what_is_there(tiny_data: Path, tiny_run: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for out, extra, message in (
        (tiny_run, [], "already holds a run"),
        (mine, [], "with other files"),
        (mine, ["--overwrite"], "with other files"),
        (mine / "thesis.txt", ["--overwrite"], "not a folder"),
    ):
        done = run("train", tiny_data, "--out", out, "--weights", "none", *extra)
        assert done.exit_code in (1, 2)
        assert message in done.stderr
    assert (mine / "thesis.txt").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "{run}/photos"],
        ["train", "{photos}", "--exclude", "{run}/photos/table.csv"],
        ["import", "{photos}/model.keras", "{run}/photos"],
        ["choose", "{run}", "{photos}"],
    ],
)
def test_what_a_command_reads_is_never_replaced_by_what_it_writes(
    arguments: list[str], run_copy: Path, tmp_path: Path
) -> None:
    (run_copy / "photos").mkdir()
    before = set(run_copy.iterdir())
    names = {"run": run_copy, "photos": tmp_path / "photos"}
    done = run(*(each.format(**names) for each in arguments), "--out", run_copy, "--overwrite")
    assert done.exit_code == 2 and f"would be lost, as {run_copy} is replaced with all that is in it" in done.stderr
    assert set(run_copy.iterdir()) == before


# Training and exporting in a process of their own
def test_train_and_export_say_what_they_did_and_nothing_else(
    tiny_data: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    settings = ["--image-size", SIZE, "--alpha", 0.35, "--weights", tiny_config.weights, "--epochs", 2, "--no-augment"]
    trained = run_process("train", tiny_data, "--out", out, *settings, "--effort", "quick")
    assert trained.returncode == 0, trained.stderr
    words = [line.split()[0] for line in trained.stdout.splitlines() if line]
    # Printed if an image is incorrect, which two epochs leave to chance.
    words = [word for word in words if word != "confusions"]
    assert words[:8] == ["classes", "weights", "network", "classifier:", "validation", "test", "macro", "time"]
    assert f"\nNext: edgecls export {out} --int8\n      edgecls report {out}\n" in trained.stdout
    assert trained.stdout.endswith(
        f"\nIs a smaller network as accurate? This tries shorter ones and smaller images: edgecls sweep {tiny_data}\n"
    )
    assert re.search(r"^classifier: validation accuracy [\d.]+ % \(best of 2 epochs, \d+ s\)$", trained.stdout, re.M)
    assert "bright, dark, striped" in trained.stdout
    stages = "read images", "number of blocks:", "classifier: features of", "train classifier", "score"
    check_stages(trained.stderr, stages)

    exported = run_process("export", out, "--int8", "--max-drop", 1)
    assert exported.returncode in (0, 1)
    assert (exported.returncode == 1) == ("rejected" in exported.stdout)
    lines = exported.stdout.splitlines()
    assert lines[0].split() == ["file", "bytes", "accuracy", "change", "agreement"]
    assert [line.split()[0].replace(".rejected", "") for line in lines[1:4]] == [
        "(Keras,",
        "model-int8.tflite",
        "model-int8.onnx",
    ]
    assert any(line.endswith(f"held-out images; files in {out / 'export'}") for line in lines)
    check_stages(
        exported.stderr, ("read held-out images", "convert model-int8", "score model-int8", "Error: model-int8")
    )


def test_a_file_that_lost_accuracy_exits_with_1(
    run_copy: Path, ignorant_graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tflite, "to_fp32", lambda *_, **__: ignorant_graph)
    done = run("export", run_copy, "--format", "tflite", "--max-drop", 0)
    assert done.exit_code == 1
    assert "model-fp32.rejected.tflite" in done.stdout
    assert "Error: model-fp32.rejected.tflite" in done.stderr
    assert not (run_copy / "export" / "model-fp32.tflite").exists()


def test_a_full_disk_is_reported_in_a_sentence(
    run_copy: Path, ignorant_graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(path: Path, *_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(tflite, "to_fp32", lambda *_, **__: ignorant_graph)
    monkeypatch.setattr(Path, "write_bytes", no_space)
    done = run("export", run_copy, "--format", "tflite")
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"Error: No space left on device: {run_copy}" in done.stderr
    assert list((run_copy / "export").iterdir()) == []


def test_names_that_no_system_takes_are_reported_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, words in (("x" * 300, "File name too long"), (tmp_path / "loop" / "run", "symbolic links|not a run")):
        for command in (["report"], ["export"]):
            done = run(*command, path)
            assert done.exit_code in (1, 2) and re.search(words, done.stderr), done


def test_an_output_that_is_no_folder_is_reported_in_a_sentence(
    run_copy: Path, ignorant_graph: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tflite, "to_fp32", lambda *_, **__: ignorant_graph)
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    for out in (blocked, blocked / "below"):
        done = run("export", run_copy, "--format", "tflite", "--out", out)
        assert done.exit_code in (1, 2)
        assert str(blocked) in done.stderr
    assert blocked.read_text() == "mine"


# Streams
def test_color_is_for_terminals_alone(int8: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgecls", "predict", str(int8), str(tmp_path / "gone.png")]
    piped = subprocess.run(command, capture_output=True, timeout=60)
    assert b"cannot open image" in piped.stderr
    assert b"\x1b" not in piped.stderr
    leader, follower = pty.openpty()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=follower, timeout=60)
    os.close(follower)
    shown = os.read(leader, 100_000)
    os.close(leader)
    assert b"\x1b[31mError: cannot open image" in shown


def test_predicting_imports_no_tensorflow(int8: Path, pictures: list[Path]) -> None:
    code = (
        "import sys; from edgecls.cli import main; main(sys.argv[1:], standalone_mode=False);"
        "print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "predict", str(int8), str(pictures[0])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert not {"tensorflow", "keras", "onnx", "onnxruntime"} & set(done.stderr.split())


def test_no_more_threads_is_reported_in_a_sentence(
    int8: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = run("evaluate", int8, tiny_data)
    assert done.exit_code == 1
    assert "Error: the machine cannot start another thread; close other programs, or allow more" in done.stderr


def test_an_unknown_error_keeps_its_traceback(int8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr("edgecls.model_file.read.read_spec", bug)
    with pytest.raises(RuntimeError, match="a bug of ours"):
        run("info", int8)


def test_commands_are_those_of_the_design() -> None:
    assert {"train", "export", "evaluate", "predict", "info", "demo"} <= set(COMMANDS)
    assert isinstance(main, click.Group)


@pytest.mark.parametrize(
    ("typed", "expected"), [("edgecls pre", "plain,predict"), ("edgecls export --boa", "plain,--board")]
)
def test_commands_and_options_complete(typed: str, expected: str) -> None:
    """Commands are imported when they are asked for; the shell still finds their names and options."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" ")), "_EDGECLS_COMPLETE": "bash_complete"}
    program = "from edgecls.cli import main; main(prog_name='edgecls')"
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | words, capture_output=True, text=True)
    assert done.stdout.split() == [expected]
