"""edgecls predict: what it takes and writes. Plain files and --json are in test_cli_files.py."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from command_line import run
from PIL import Image
from tiny import CLASSES

from edgecls.cli import main
from edgecls.runtime import classifier as classifier_module

WAIT_S = 60


def labels_of(stdout: str) -> list[str]:
    return [line.rpartition(": ")[2].split()[0] for line in stdout.splitlines()]


def test_folders_patterns_and_files_in_the_order_given(int8: Path, pictures: list[Path]) -> None:
    folder = pictures[0].parent
    (folder / "notes.txt").write_text("no image")
    done = run("predict", int8, pictures[2], folder, folder / "*a*k.png")
    reported = "Left out 1 file: 1 *.txt (notes, tables, labels and settings).\n"
    assert (done.exit_code, done.stderr) == (0, reported)
    assert labels_of(done.stdout) == ["striped", *CLASSES, "dark"]


@pytest.mark.parametrize("bulk", [True, False])
def test_the_images_of_a_folder_are_those_that_train_takes(
    int8: Path, pictures: list[Path], tmp_path: Path, bulk: bool
) -> None:
    folder = tmp_path / "inbox"
    (folder / "@eaDir/0.png").mkdir(parents=True)
    (folder / "@eaDir/0.png/SYNOPHOTO_THUMB_M.png").write_bytes(pictures[0].read_bytes())
    (folder / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for number, picture in enumerate(pictures):
        (elsewhere / f"{number}.png").write_bytes(picture.read_bytes())
    (folder / "linked").symlink_to(elsewhere)
    (folder / "no suffix").write_bytes(pictures[0].read_bytes())
    with Image.open(pictures[0]) as image:
        image.convert("RGB").save(folder / "a.jfif", "JPEG")
    # The report of what is left out comes once, whatever the way.
    done = run("predict", int8, folder, *(("--out", tmp_path / "out") if bulk else ()))
    assert done.exit_code == 0
    assert done.stderr == (
        "Left out 2 files: 1 in @eaDir (thumbnails and attributes of a Synology NAS), "
        "1 .heic (not an image that can be read).\n"
    )
    images = 2 + len(pictures)
    assert done.stdout.startswith(f"{images} images;") if bulk else len(done.stdout.splitlines()) == images


def test_nothing_found_is_a_bad_image(int8: Path, pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("predict", int8, tmp_path / "empty", tmp_path / "*.bmp", pictures[1])
    assert done.exit_code == 1
    assert labels_of(done.stdout) == ["dark"]
    assert "empty: it is a folder" in done.stderr and "*.bmp" in done.stderr
    assert "2 of 3 images could not be read" in done.stderr


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_an_image_on_stdin(int8: Path, pictures: list[Path], flags: list[str]) -> None:
    arguments = ["predict", str(int8), "-", str(pictures[0]), *flags]
    done = CliRunner().invoke(main, arguments, input=pictures[2].read_bytes())
    assert (done.exit_code, done.stderr) == (0, "")
    if flags:
        assert [(each["image"], each["label"]) for each in json.loads(done.stdout)] == [
            ("-", "striped"),
            (str(pictures[0]), "bright"),
        ]
    else:
        assert done.stdout.startswith("-: striped")
    bad = CliRunner().invoke(main, ["predict", str(int8), "-"], input=b"no image")
    assert bad.exit_code == 1 and "1 of 1 image could not be read" in bad.stderr


def test_json_lines_are_the_entries_of_the_document(int8: Path, pictures: list[Path]) -> None:
    lines = run("predict", int8, *pictures, "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == json.loads(run("predict", int8, *pictures, "--json").stdout)


def test_csv_has_a_column_for_each_score(int8: Path, pictures: list[Path], tmp_path: Path) -> None:
    odd = tmp_path / 'a "b", c.png'
    odd.write_bytes(pictures[1].read_bytes())
    done = run("predict", int8, pictures[0], odd, "--format", "csv")
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert list(rows[0]) == ["image", "label", "index", "score", *(f"scores.{label}" for label in CLASSES)]
    assert [(row["image"], row["label"], row["index"]) for row in rows] == [
        (str(pictures[0]), "bright", "0"),
        (str(odd), "dark", "1"),
    ]
    for row in rows:
        assert row["score"] == row[f"scores.{row['label']}"] == max(row[f"scores.{label}"] for label in CLASSES)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_bad_image_is_left_out_and_told(int8: Path, pictures: list[Path], tmp_path: Path, form: str) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    done = run("predict", int8, pictures[0], tmp_path / "bad.png", pictures[2], "--format", form)
    assert done.exit_code == 1
    assert "bad.png" in done.stderr and "bad.png" not in done.stdout
    assert "1 of 3 images could not be read" in done.stderr
    assert len(done.stdout.splitlines()) == 2 + (form == "csv")


def test_an_image_that_is_read_as_nearly_black_is_a_warning(int8: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 30), 3000, np.uint16)).save(tmp_path / "12-bits.png")
    done = run("predict", int8, tmp_path)
    assert done.exit_code == 0 and labels_of(done.stdout)
    assert done.stderr.startswith("Warning: a 16-bit image has no value above 4095") and done.stderr.count("\n") == 1


def test_rejected_images_have_no_label(int8: Path, pictures: list[Path]) -> None:
    strict = ["--threshold", "1"]
    (row,) = csv.DictReader(run("predict", int8, pictures[1], *strict, "--format", "csv").stdout.splitlines())
    (entry,) = json.loads(run("predict", int8, pictures[1], *strict, "--json").stdout)
    text = run("predict", int8, pictures[1], *strict).stdout
    assert (row["label"], row["index"]) == ("", "1")
    assert (entry["label"], entry["index"]) == (None, 1)
    assert ": dark 0." in text and text.endswith(" (rejected)\n")
    assert "(rejected)" not in run("predict", int8, pictures[1], "--threshold", 0).stdout


def test_settings_reach_the_engine(int8: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    real = classifier_module.load

    def load(path: Path, **settings: Any) -> Any:
        seen.append(settings)
        return real(path)

    monkeypatch.setattr(classifier_module, "load", load)
    run("predict", int8, pictures[0])
    run(
        "predict",
        int8,
        pictures[0],
        "--engine",
        "ort",
        "--threads",
        3,
        "--device",
        "cuda",
        "--threshold",
        0.5,
        "--roi",
        "1,2,3,4",
        "--untrusted",
    )
    assert seen == [
        {"engine": None, "threads": None, "device": "cpu", "threshold": None, "roi": None, "untrusted": False},
        {"engine": "ort", "threads": 3, "device": "cuda", "threshold": 0.5, "roi": (1, 2, 3, 4), "untrusted": True},
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'IMAGES...', or --watch DIR"),
        (["{image}", "--json", "--format", "csv"], "--format jsonl"),
        (["--watch", ".", "--json"], "--format jsonl"),
        (["{image}", "--threshold", "2"], "2.0 is not in the range"),
        (["{image}", "--threads", "0"], "0 is not in the range"),
        (["{image}", "--engine", "tpu"], "'tpu' is not one of"),
        (["{image}", "--engine", "ort"], "engine 'ort' cannot run tflite files; these can: litert"),
        (["{image}", "--device", "cuda"], "no engine runs tflite files on device 'cuda'"),
        (["{image}", "--device", "edgetpu"], "run edgetpu_compiler"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, int8: Path, pictures: list[Path]) -> None:
    done = run("predict", int8, *(argument.format(image=pictures[0]) for argument in arguments))
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_a_watched_folder_that_is_not_there(int8: Path, tmp_path: Path) -> None:
    done = run("predict", int8, "--watch", tmp_path / "gone")
    assert done.exit_code == 1 and "cannot list folder" in done.stderr


@pytest.fixture
def watching(int8: Path, pictures: list[Path], tmp_path: Path) -> Any:
    """A process that has answered for one picture and now waits for others in `inbox`."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    command = [sys.executable, "-m", "edgecls", "predict", str(int8), str(pictures[0]), "--watch", str(inbox)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and labels_of(process.stdout.readline()) == ["bright"]
    yield SimpleNamespace(process=process, inbox=inbox)
    process.kill()
    process.wait(WAIT_S)
    process.stdout.close()
    process.stderr.close()  # type: ignore[union-attr]


def test_watching_answers_as_images_come_and_ends_with_ctrl_c(watching: Any, pictures: list[Path]) -> None:
    process, inbox = watching.process, watching.inbox
    content = pictures[1].read_bytes()
    with (inbox / "half.png").open("wb") as file:
        file.write(content[: len(content) // 2])
        file.flush()
        # It rests, so it is tried; when it is complete it comes again.
        assert "half.png" in process.stderr.readline()
        file.write(content[len(content) // 2 :])
    assert process.stdout.readline().startswith(f"{inbox / 'half.png'}: dark")
    (inbox / "b.png").write_bytes(pictures[2].read_bytes())
    assert process.stdout.readline().startswith(f"{inbox / 'b.png'}: striped")
    (inbox / "c.heic").write_bytes(b"\0\0\0\x18ftypheic")
    assert process.stderr.readline() == "Left out: .heic (not an image that can be read).\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(WAIT_S) == 1
    reported = "Left out 1 file: 1 .heic (not an image that can be read).\n"
    assert process.stderr.read() == reported + "Error: 1 of 4 images could not be read\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_watch_without_bad_images_ends_well(watching: Any, number: signal.Signals) -> None:
    time.sleep(0.3)
    watching.process.send_signal(number)
    assert watching.process.wait(WAIT_S) == 0
    assert watching.process.stderr.read() == ""


def test_ctrl_c_without_a_watch_is_no_success(
    int8: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch, file_named: Callable[[str], Path]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgecls.runtime.litert.LitertEngine.run", interrupt)
    assert run("predict", int8, *pictures).exit_code == 1
    assert run("predict", int8, *pictures, "--json").stdout == ""


def test_file_names_that_are_not_unicode(int8: Path, pictures: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png"))
    odd.write_bytes(pictures[1].read_bytes())
    (line,) = run("predict", int8, folder, "--format", "jsonl").stdout.splitlines()
    assert json.loads(line)["image"] == str(odd)
    assert run("predict", int8, folder, "--format", "csv").stdout.count("dark") == 2
