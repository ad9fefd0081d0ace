"""edgecls estimate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import run, run_process
from measured_board import measured_record

from edgecls.boards.profiles import board_names
from edgecls.messages.numbers import percent

ARCH = ("--arch", "mobilenet_v2", "--image-size", "160", "--alpha", "0.5", "--classes", "6")


def test_a_file_on_a_board(int8: Path) -> None:
    done = run_process("estimate", int8, "--board", "raspberry-pi-4b", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert (found["device"], found["engine"], found["precision"], found["threads"]) == (
        "raspberry-pi-4b",
        "litert",
        "int8",
        4,
    )
    assert 0 < found["low_ms"] < found["p50_ms"] < found["high_ms"]
    assert found["interval"] == 0.8
    assert found["weight_bytes"] == found["weights"]
    assert found["operators"]["depthwise"] == 17
    assert all(row["source"] for row in found["nearest_references"])
    assert found["leans_on"] == found["nearest_references"]
    assert found["validation"]["figures"] == found["validation"]["latencies"]
    assert {"median_error", "coverage", "latencies"} <= found["validation"].keys()


def test_the_text_has_all_that_the_document_has(int8: Path) -> None:
    text = run("estimate", int8, "--board", "raspberry-pi-4b").stdout
    found = json.loads(run("estimate", int8, "--board", "raspberry-pi-4b", "--json").stdout)
    assert f"{found['multiply_adds'] / 1e6:.1f} M multiply-adds, {found['weight_bytes']:,} bytes" in text
    assert f"within {percent(found['validation']['median_error'], 0)}" in text
    assert f"{percent(found['validation']['coverage'], 0)} lay inside" in text
    assert "80 % interval" in text
    assert all(row["source"] in text for row in found["nearest_references"])


def test_a_network_that_was_not_trained_needs_no_tensorflow() -> None:
    done = run_process("estimate", *ARCH, "--precision", "int8", "--board", "raspberry-pi-4b")
    assert (done.returncode, done.stderr) == (0, "")
    assert "mobilenet_v2 0.5, 160x160: 47.8 M multiply-adds" in done.stdout


def test_all_boards_are_a_table(int8: Path) -> None:
    lines = run("estimate", int8).stdout.splitlines()[2:]
    assert sorted(line.split()[0] for line in lines) == sorted(board_names())
    assert any("use fp16 or fp32" in line for line in lines if line.startswith("desktop-nvidia"))
    documents = json.loads(run("estimate", int8, "--json").stdout)
    # The NPUs have no published latencies that an estimate could learn from.
    refused = {"desktop-nvidia", "nxp-imx93", "ethos-u85-256", "synaptics-coralboard"}
    assert {row["device"] for row in documents if "refused" in row} == refused


def test_onnx_files_run_in_onnx_runtime(file_named: Callable[[str], Path], tiny_onnx: Path) -> None:
    for file, evidence in ((file_named("model-fp32.onnx"), "new"), (tiny_onnx, "network")):
        found = json.loads(run("estimate", file, "--board", "raspberry-pi-5", "--json").stdout)
        assert (found["engine"], found["precision"], found["validation"]["evidence"]) == (
            "onnxruntime",
            "fp32",
            evidence,
        )


def test_a_measurement_calibrates(int8: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    measured_record(results, int8)
    done = run("estimate", int8, "--board", "raspberry-pi-4b", "--measured", results)
    assert done.exit_code == 0, done.stderr
    assert "calibrated  yes" in done.stdout
    # It was measured: 2 ms, within what one measurement is trusted to tell.
    found = json.loads(run("estimate", int8, "--board", "raspberry-pi-4b", "--measured", results, "--json").stdout)
    assert found["low_ms"] < 2 < found["high_ms"]
    assert found["calibrated"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "either FILE or --arch"),
        (("model.tflite", "--arch", "cnn"), "either FILE or --arch"),
        ((*ARCH, "--board", "pi9"), "'edgecls devices' lists all boards"),
        ((*ARCH, "--measured", "results.json"), "--measured needs --board"),
        ((*ARCH, "--board", "raspberry-pi-4b", "--threads", "9"), "threads must be 1 to 4"),
        ((*ARCH[:2], "--image-size", "5"), "image size must be"),
        ((*ARCH, "--classes", "1"), "at least 2"),
        ((*ARCH, "--precision", "fp32", "--board", "coral-usb"), "use int8"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], said: str) -> None:
    done = run("estimate", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_setting_of_another_architecture_is_named() -> None:
    done = run("estimate", "--arch", "mlp", "--image-size", "32", "--alpha", "0.5", "--board", "raspberry-pi-4b")
    assert done.exit_code == 0
    assert done.stderr == (
        "Warning: --alpha has no effect: it is a setting of mobilenet_v2, and the network is mlp (--arch)\n"
    )


def test_an_engine_that_does_not_run_the_file_is_refused(int8: Path) -> None:
    done = run("estimate", int8, "--engine", "onnxruntime", "--board", "raspberry-pi-4b")
    assert (done.exit_code, "cannot run tflite files" in done.stderr) == (2, True)


def test_a_file_has_its_own_size_and_precision(int8: Path) -> None:
    done = run("estimate", int8, "--image-size", "96")
    assert (done.exit_code, "--image-size needs --arch" in done.stderr) == (2, True)
    assert run("estimate", int8.with_name("none.tflite")).exit_code == 1


def test_the_former_name_of_the_option_board_still_works() -> None:
    arguments = ("estimate", *ARCH, "--precision", "int8", "--json")
    former, today = (run(*arguments, option, "raspberry-pi-4b").stdout for option in ("--device", "--board"))
    assert json.loads(former)["device"] == "raspberry-pi-4b" and former == today
    assert "--device" not in run("estimate", "--help").stdout
