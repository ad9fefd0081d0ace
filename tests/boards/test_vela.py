"""Vela's rules, its report and the files that it writes; with the real Vela where it is installed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graphs import node, onnx, tflite, value
from random_networks import diverse_images, random_network
from tiny import SIZE, make_spec

from edgecls.boards import compilers, ethosu, vela
from edgecls.boards.compatibility import check_file, check_graph
from edgecls.boards.profiles import load_profile
from edgecls.boards.rule_result import is_yes
from edgecls.boards.targets import TARGETS
from edgecls.errors import ConfigError, ExportError, MissingDependency
from edgecls.model_file.read import read_graph, read_model_file, read_spec
from edgecls.model_file.write import attach_spec
from edgecls.runtime.classifier import load

BOARDS = ("nxp-imx93", "ethos-u85-256")
IMX93 = load_profile("nxp-imx93")
# What Vela 5.2.0 printed for a file of ours, shortened, and its summary without some columns.
PRINTED = """
Warning (supported operators) operator: SPACE_TO_DEPTH, ofm: 'mobilenet_v2_1/space_to_depth_1/SpaceToDepth'
Reason: Unsupported opType

Network summary for m
Accelerator configuration               Ethos_U65_256
CPU operators = 4 (3.8%)
   CPU: Passthrough = mobilenet_v2_1/space_to_depth_1/SpaceToDepth (outputs [1, 16, 16, 4])
NPU operators = 100 (96.2%)
   NPU: Quantize = tfl.quantize (outputs [1, 32, 32, 1])
"""
SUMMARY = """network,system_config,core_clock,inference_time,sram_memory_used,dram_memory_used,\
on_chip_flash_memory_used,off_chip_flash_memory_used
m,Ethos_U65_High_End,1000000000.0,0.00021258,19.390625,507.78125,0.0,12.5
"""


def needs_vela() -> None:
    if vela.find_vela() is None:
        pytest.skip("Vela is not installed: pip install ethos-u-vela")


@pytest.fixture(scope="module")
def board_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 file that was made for Ethos-U NPUs, of a random network."""
    from edgecls.export import tflite as converter
    from edgecls.export.fuse import fuse

    graph = converter.to_int8(
        fuse(random_network("keras", SIZE, 0.35, "gap")),
        diverse_images(8, SIZE, np.random.default_rng(0)),
        TARGETS["ethos-u"],
    )
    path = tmp_path_factory.mktemp("board") / "model-int8.tflite"
    spec = make_spec(height=SIZE, width=SIZE, precision="int8", target="ethos-u", input_zero_point=128)
    path.write_bytes(attach_spec(graph, spec, "tflite"))
    return path


def test_the_report_is_read() -> None:
    report = vela.parse_report(PRINTED, SUMMARY, "5.2.0")
    assert (report.version, report.on_npu, report.on_cpu) == ("5.2.0", 100, 4)
    assert (report.sram_kb, report.dram_kb, report.flash_kb) == (19.390625, 507.78125, 12.5)
    assert report.estimate_ms == pytest.approx(0.21258)
    assert (report.clock_mhz, report.system) == (1000, "Ethos_U65_High_End")


@pytest.mark.parametrize(
    ("printed", "summary"), [("", SUMMARY), (PRINTED, ""), (PRINTED, SUMMARY.replace("inference_time", "time"))]
)
def test_a_report_of_another_form_is_an_error(printed: str, summary: str) -> None:
    with pytest.raises(ExportError, match="the report of vela 9 cannot be read"):
        vela.parse_report(printed, summary, "9")


@pytest.mark.parametrize("name", BOARDS)
def test_the_file_for_the_board_leaves_nothing_to_the_cpu(name: str, board_file: Path, tmp_path: Path) -> None:
    needs_vela()
    profile = load_profile(name)
    assert is_yes(check_file(board_file, profile))
    done = vela.compile_for_npu(board_file, profile, tmp_path)
    assert (done.report.on_cpu, done.cpu_layers) == (0, ())
    assert done.report.on_npu > 60
    assert done.report.estimate_ms > 0 and done.report.sram_kb > 1
    assert done.path == tmp_path / "model-int8_vela.tflite"
    assert list(tmp_path.iterdir()) == [done.path]
    assert {node.op for node in read_graph(read_model_file(done.path).graph, "tflite").nodes} == {ethosu.COMPILED}
    source, compiled = read_spec(board_file), read_spec(done.path)
    assert compiled.labels == source.labels
    assert compiled.metrics == source.metrics | {"measured_on": "model-int8.tflite"}
    assert compiled.versions["vela"] == done.report.version
    found = check_file(done.path, profile)
    assert "compiled: every operation runs on the NPU" in [finding.text for finding in found]
    assert not is_yes(check_file(done.path, load_profile("raspberry-pi-4b")))
    with pytest.raises(ConfigError, match="compiled for an Arm Ethos-U, which edgecls has no engine for"):
        load(done.path)


def test_what_check_predicts_is_what_vela_does(int8: Path, tmp_path: Path) -> None:
    needs_vela()
    graph = read_graph(read_model_file(int8).graph, "tflite")
    predicted = [node.layer for node in graph.nodes if ethosu.reason_for_cpu(node)]
    done = vela.compile_for_npu(int8, IMX93, tmp_path)
    assert [layer.split(" (")[0] for layer in done.cpu_layers] == predicted
    assert len(predicted) == done.report.on_cpu > 2
    (finding,) = ethosu.preflight(graph)
    assert finding.level == "no"
    for operation in ("SPACE_TO_DEPTH", "DEQUANTIZE", "FULLY_CONNECTED", "SOFTMAX"):
        assert operation in finding.text
    assert "run: edgecls export RUN --int8 --board ethos-u" in finding.text


def test_rules() -> None:
    assert ethosu.reason_for_cpu(node("FOO", 1)) == "Vela does not have this operation"
    assert "float32" in ethosu.reason_for_cpu(node("ADD", 2, value("x", dtype="float32")))
    assert "no quantization" in ethosu.reason_for_cpu(node("ADD", 2, replace(value("x"), scales=0)))
    assert "scale per channel" in ethosu.reason_for_cpu(node("ADD", 2, replace(value("x"), scales=3)))
    assert "unknown shape" in ethosu.reason_for_cpu(node("ADD", 2, value("x", (-1, 8))))
    assert "four dimensions" in ethosu.reason_for_cpu(node("ADD", 2, value("x", (1,) * 5)))
    assert not ethosu.reason_for_cpu(node("ADD", 2, value("x")))
    (finding,) = ethosu.preflight(onnx())
    assert (finding.level, finding.rule) == ("no", "format")


def test_a_chip_without_python_has_no_pip_line_and_no_process() -> None:
    found = check_graph(tflite(), make_spec(), 1000, load_profile("ethos-u85-256"))
    rules = [finding.rule for finding in found]
    assert "memory" not in rules and "wheel" not in rules
    assert "your own program runs the compiled file" in found[0].text


def test_without_vela_the_error_names_the_package(board_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vela, "find_vela", lambda: None)
    with pytest.raises(MissingDependency, match=r"pip install ethos-u-vela .*--accelerator-config ethos-u65-256"):
        vela.compile_for_npu(board_file, IMX93)


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a vela in front of others that runs a line of Python."""

    def install(line: str) -> None:
        script = tmp_path / "vela"
        script.write_text(f"#!{sys.executable}\n{line}\n", encoding="utf-8")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(vela, "find_vela", lambda: str(script))

    return install


@pytest.mark.skipif(os.name == "nt", reason="the fake compiler is a script")
def test_a_failure_keeps_velas_words(failing: Callable[[str], None], board_file: Path, tmp_path: Path) -> None:
    failing("import sys; print('Error: no such thing'); sys.exit(1)")
    with pytest.raises(ExportError, match=r"failed on model-int8.tflite: Error: no such thing"):
        vela.compile_for_npu(board_file, IMX93, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_compilation_without_end_is_stopped(board_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("vela", compilers.TIMEOUT_S)

    monkeypatch.setattr(vela, "find_vela", lambda: "vela")
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ExportError, match="ran for more than 600 s"):
        vela.compile_for_npu(board_file, IMX93)
