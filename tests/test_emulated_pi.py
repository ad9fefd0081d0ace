"""What `python -m emulated_pi` decides; the emulation itself is run by `make pi-check`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from emulated_pi import check, kits, machine, pictures
from emulated_pi.__main__ import find_kits
from emulated_pi.check import Answers, compare
from emulated_pi.kits import Kit
from emulated_pi.machine import BOARDS, HOST, Machine
from PIL import Image

RNG = np.random.default_rng(0)


def answers(images: int = 5) -> Answers:
    pixels = np.random.default_rng(1).integers(0, 256, (images, 4, 4, 1), dtype=np.uint8)
    scores = np.tile(np.array([0.5, 0.3, 0.2], np.float32), (images, 1))
    return Answers({}, pixels, scores)


def kit(tolerance: float, exact: bool = True) -> Kit:
    return Kit("model.tflite", "", (), tolerance, exact)


def test_equal_answers_pass() -> None:
    result = compare(answers(), answers(), kit(0.0))
    assert result.passed and result.images == 5
    assert (result.pixels_differ, result.labels_differ, result.max_score_difference) == (0, 0, 0)


def test_one_other_pixel_fails() -> None:
    board = answers()
    board.pixels[3, 2, 1, 0] ^= 1
    result = compare(board, answers(), kit(1.0))
    assert not result.passed and result.pixels_differ == 1 and result.max_pixel_difference == 1


def test_pixels_are_compared_without_wrapping() -> None:
    board, reference = answers(), answers()
    board.pixels[0, 0, 0, 0], reference.pixels[0, 0, 0, 0] = 0, 255
    assert compare(board, reference, kit(1.0)).max_pixel_difference == 255


@pytest.mark.parametrize(("shift", "passed"), [(0.009, True), (0.011, False), (float("nan"), False)])
def test_scores_are_held_to_the_tolerance(shift: float, passed: bool) -> None:
    board = answers()
    board.scores[2, 0] += shift
    assert compare(board, answers(), kit(0.01)).passed is passed


def test_one_other_label_fails_even_within_the_tolerance() -> None:
    board = answers()
    board.scores[4] = board.scores[4, ::-1]
    result = compare(board, answers(), kit(1.0))
    assert not result.passed and result.labels_differ == 1


def test_kit_that_is_not_exact_may_be_off_now_and_then() -> None:
    board, reference = answers(40), answers(40)
    board.scores[:2] = board.scores[:2, ::-1]
    result = compare(board, reference, kit(0.01, exact=False))
    assert result.passed and result.labels_differ == 2 and result.median_score_difference == 0
    board.scores[2] = board.scores[2, ::-1]
    assert not compare(board, reference, kit(0.01, exact=False)).passed
    board = answers(40)
    board.scores[:] -= 0.02
    assert not compare(board, reference, kit(0.01, exact=False)).passed
    board = answers(40)
    board.scores[0, 0] = np.nan
    assert not compare(board, reference, kit(0.01, exact=False)).passed


def make_run(folder: Path, count: int) -> Path:
    for number in range(count):
        path = folder / "photos" / "a" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (150, 200), dtype=np.uint8)).save(path)
    names = [f"a/{number:03}.png" for number in range(count)]
    record = {"data": str(folder / "photos"), "split": {"train": {"a": ["none"]}, "test": {"a": names, "b": []}}}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_images_are_spread_over_the_test_split(tmp_path: Path) -> None:
    run = make_run(tmp_path, 9)
    assert [path.name for path in pictures.choose_images(run, None, 3)] == ["000.png", "003.png", "006.png"]
    assert len(pictures.choose_images(run, None, 200)) == 9
    assert len(pictures.choose_images(run, tmp_path / "photos", 4)) == 4


def test_no_images_say_what_to_pass(tmp_path: Path) -> None:
    run = make_run(tmp_path, 2)
    shutil.rmtree(tmp_path / "photos")
    for folder in (None, tmp_path):
        with pytest.raises(SystemExit, match="pass --images DIR"):
            pictures.choose_images(run, folder, 3)


def test_frames_are_full_of_detail_and_one_is_turned(tmp_path: Path) -> None:
    images = pictures.choose_images(make_run(tmp_path, 3), None, 3)
    frames = pictures.make_frames(images, tmp_path)
    sizes = {}
    for path in frames:
        with Image.open(path) as image:
            sizes[path.stem] = image.size
            assert np.asarray(image.convert("L"))[-100:, -100:].std() > 30
            assert (image.getexif().get(0x0112) == 6) == (path.stem == "frame-turned")
    assert sizes["frame-plain"] == (1920, 1080) and sizes["frame-odd"] == (1913, 1077)


def test_every_board_has_kits_that_there_are() -> None:
    assert all(set(board.kits) <= set(kits.KITS) for board in BOARDS.values())


def test_kits_without_their_file_are_left_out_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="run edgecls export"):
        find_kits(tmp_path, None)
    (tmp_path / "model-int8.tflite").touch()
    assert find_kits(tmp_path, None) == ["litert", "tflite-runtime"]
    assert "no model-int8.onnx in" in capsys.readouterr().err
    assert find_kits(tmp_path, ["litert"]) == ["litert"]
    with pytest.raises(SystemExit, match="no model-fp32.onnx"):
        find_kits(tmp_path, ["onnx-fp32"])


def test_board_runs_in_the_emulator_with_its_modules_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, object] = {}

    def record(command: list[str], env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.update(command=command, path=env["PYTHONPATH"])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(machine, "CACHE", tmp_path)
    monkeypatch.setattr(machine, "find_tool", lambda name: f"/tools/{name}")
    monkeypatch.setattr(subprocess, "run", record)
    machine.run(BOARDS["pi3"], ["-m", "edgecls"], [Path("/site")])
    root = str(tmp_path / "arm64")
    qemu = ["/tools/qemu-aarch64-static", "-L", root, "-cpu", "cortex-a53", f"{root}/usr/bin/python3.11"]
    assert seen == {"command": [*qemu, "-S", "-m", "edgecls"], "path": "/site"}
    cpuinfo = (tmp_path / "arm64/proc/cpuinfo").read_text()
    assert cpuinfo.count("processor") == 4 and cpuinfo.count("CPU part\t: 0xd03") == 4
    assert (tmp_path / "arm64/sys/devices/system/cpu/possible").read_text() == "0-3\n"


def test_missing_programs_come_with_their_apt_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "CACHE", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(SystemExit, match="needs Debian or Ubuntu with dpkg, apt, wget, gpgv: .*apt-get install dpkg"):
        machine.prepare_root(BOARDS["pi4"])


def test_tool_that_cannot_be_fetched_comes_with_its_apt_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 100, "", "E: Unable to locate package")

    monkeypatch.setattr(machine, "CACHE", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name, **_: None if name.startswith("qemu") else f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(SystemExit, match=r"Unable to locate package\n.*apt-get install qemu-user-static"):
        machine.find_tool("qemu-arm-static")


def test_failed_command_on_a_board_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, "out", "decode differs")

    monkeypatch.setattr(check, "run", fail)
    with pytest.raises(SystemExit, match=r"on Raspberry Pi 4, -m edgecls selftest m ended with 1:\noutdecode differs"):
        check.run_command(BOARDS["pi4"], "selftest", Path("m"), Path("i"), [])


def test_host_is_scored_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []

    def run(board: Machine, arguments: list[object], _: object) -> subprocess.CompletedProcess[str]:
        calls.append(board.name)
        np.savez(str(arguments[-1]), pixels=answers().pixels, scores=answers().scores)
        return subprocess.CompletedProcess([], 0, "{}", "")

    monkeypatch.setattr(check, "run", run)
    for board in (HOST, BOARDS["pi4"], HOST, BOARDS["pi4"]):
        assert len(check.score(board, "litert", Path("m"), [tmp_path], [], tmp_path).scores) == 5
    assert calls == ["x86", "pi4", "pi4"]
