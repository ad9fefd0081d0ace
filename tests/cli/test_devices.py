"""edgecls devices, check and doctor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run, run_process

from edgecls.boards import edgetpu_compiler, vela
from edgecls.boards.profiles import Profile, board_names


def test_devices_lists_all() -> None:
    done = run("devices")
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(board_names())
    assert [entry["name"] for entry in json.loads(run("devices", "--json").stdout)] == list(board_names())


@pytest.mark.parametrize("name", board_names())
def test_devices_shows_one_with_its_sources(name: str) -> None:
    done = run("devices", name)
    assert done.exit_code == 0
    entry = json.loads(run("devices", name, "--json").stdout)
    for latency in entry["latencies"]:
        assert str(latency["ms"]) in done.stdout
        assert latency["source"] in done.stdout
    assert all(source in done.stdout for source in entry["hardware"]["sources"])


def test_devices_refuses_an_unknown_name() -> None:
    done = run("devices", "pi4")
    assert done.exit_code == 2
    assert "Unknown board 'pi4'. Did you mean raspberry-pi-4b?" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("devices", ""),
        ("devices", "", "--json"),
        ("check", "model.tflite", "--board", ""),
        ("estimate", "--arch", "mlp", "--board", ""),
        ("sweep", "photos", "--board", ""),
        ("choose", "run", "photos", "--board", ""),
        ("export", "run", "--int8", "--board", ""),
    ],
)
def test_an_empty_name_is_no_board(arguments: tuple[str, ...]) -> None:
    """As of a variable that is not set: all boards were shown, and a sweep measured this machine."""
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Unknown board ''. 'edgecls devices' lists all boards." in done.stderr


def test_check_says_yes(tiny_tflite: Path) -> None:
    done = run("check", tiny_tflite, "--board", "raspberry-pi-4b")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "pip install 'edgecls[litert]'" in done.stdout
    assert "yes: tiny-int8.tflite runs on Raspberry Pi 4 Model B, 64-bit" in done.stdout


def test_check_says_no_and_why(tiny_onnx: Path) -> None:
    done = run("check", tiny_onnx, "--board", "raspberry-pi-4b-32bit")
    assert done.exit_code == 1
    assert "PyPI has no onnxruntime for armv7l" in done.stdout
    assert "tiny-fp32.onnx does not run on raspberry-pi-4b-32bit: wheel" in done.stderr
    assert "yes:" not in done.stdout


def test_check_json_is_one_document(tiny_tflite: Path, tiny_onnx: Path) -> None:
    done = run_process("check", tiny_tflite, "--board", "raspberry-pi-5", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["runs"], document["board"]) == (0, True, "raspberry-pi-5")
    assert document["device"] == document["board"], "the key that scripts read"
    assert set(document["install"].values()) == {"pip install 'edgecls[litert]'"}
    refused = run("check", tiny_onnx, "--board", "coral-usb", "--json")
    document = json.loads(refused.stdout)
    assert (refused.exit_code, document["runs"]) == (1, False)
    assert "format" in {finding["rule"] for finding in document["findings"] if finding["level"] == "no"}


def test_the_old_spelling_of_the_board_option_works_and_is_hidden(tiny_tflite: Path) -> None:
    old, new = (run("check", tiny_tflite, option, "raspberry-pi-5") for option in ("--device", "--board"))
    assert (old.exit_code, old.stdout) == (new.exit_code, new.stdout) == (0, new.stdout)
    shown = run("check", "--help").stdout
    assert "--board" in shown and "--device" not in shown


def test_check_needs_a_known_board_and_a_file(tiny_tflite: Path, tmp_path: Path) -> None:
    assert run("check", tiny_tflite).exit_code == 2
    assert run("check", tiny_tflite, "--board", "pi9").exit_code == 2
    assert run("check", tmp_path / "none.tflite", "--board", "raspberry-pi-5").exit_code == 1


def test_check_compiles_for_coral_only(tiny_tflite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = run("check", tiny_tflite, "--board", "raspberry-pi-5", "--compile")
    assert (refused.exit_code, "has none of them" in refused.stderr) == (2, True)
    monkeypatch.setattr(edgetpu_compiler, "find_compiler", lambda: None)
    done = run("check", tiny_tflite, "--board", "coral-usb", "--compile")
    assert done.exit_code == 1
    assert f"edgetpu_compiler -s -o {tiny_tflite.parent} {tiny_tflite}" in done.stderr


def test_check_compiles_for_an_ethos_u(tiny_tflite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--board nxp-imx93 --compile" in run("check", tiny_tflite, "--board", "nxp-imx93").stdout

    def compile_for_npu(path: Path, profile: Profile) -> vela.VelaFile:
        report = vela.VelaReport("5.2.0", 67, 1, 19.4, 507.8, 0.0, 0.2126, 1000.0, "Ethos_U65_High_End")
        return vela.VelaFile(path, report, ("net/softmax (SOFTMAX)",))

    monkeypatch.setattr(vela, "compile_for_npu", compile_for_npu)
    shown = run("check", tiny_tflite, "--board", "nxp-imx93", "--compile").stdout
    assert "67 operations on the NPU, 1 on the CPU" in shown
    assert "SRAM 19 kB, DRAM 508 kB\n" in shown
    assert "0.21 ms, an estimate of Vela 5.2.0: Ethos_U65_High_End at 1000 MHz" in shown
    assert "net/softmax (SOFTMAX)" in shown
    document = json.loads(run("check", tiny_tflite, "--board", "nxp-imx93", "--compile", "--json").stdout)
    assert document["compiled"]["report"]["estimate_ms"] == 0.2126


def test_doctor_reports_this_machine() -> None:
    done = run("doctor", "--json")
    document = json.loads(done.stdout)
    assert document["works"] == (done.exit_code == 0)
    assert document["machine"]["packages"]["numpy"]
    assert f"Python {document['machine']['python']}" in run("doctor").stdout
