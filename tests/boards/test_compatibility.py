"""A failing and a passing case of every rule of `edgecls check` but those of the Edge TPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from graphs import node, onnx, tflite, value
from tiny import make_spec

from edgecls.boards.compatibility import check_file, check_graph, install_lines, min_runtime
from edgecls.boards.profiles import Profile, System, load_profile
from edgecls.boards.rule_result import RuleResult, is_yes
from edgecls.errors import ModelFileError
from edgecls.model_file.graph import Graph, Node
from edgecls.model_file.metadata import ModelSpec

PI4, PI4_32, PI5, X86 = map(load_profile, ("raspberry-pi-4b", "raspberry-pi-4b-32bit", "raspberry-pi-5", "desktop-x86"))


def findings(graph: Graph, profile: Profile = PI4, size_mb: float = 3, **spec: Any) -> tuple[RuleResult, ...]:
    return check_graph(graph, make_spec(**spec), int(size_mb * 2**20), profile)


def levels(rule: str, found: tuple[RuleResult, ...]) -> set[str]:
    return {finding.level for finding in found if finding.rule == rule}


def with_system(profile: Profile, machine: str = "aarch64", python: str = "3.11", glibc: str = "2.36") -> Profile:
    return replace(profile, systems=(System("a system", machine, python, glibc, source="a test"),))


def text(rule: str, found: tuple[RuleResult, ...]) -> str:
    return " ".join(finding.text for finding in found if finding.rule == rule)


def test_a_good_file_is_a_yes_with_the_install_line() -> None:
    found = findings(tflite(), precision="int8")
    assert is_yes(found)
    assert "pip install 'edgecls[litert]'" in text("wheel", found)
    assert set(install_lines(tflite(), PI4).values()) == {"pip install 'edgecls[litert]'"}


def test_python() -> None:
    assert levels("python", findings(tflite(), with_system(PI4, python="3.11"))) == set()
    found = findings(tflite(), with_system(PI4, python="3.9"))
    assert levels("python", found) == {"no"}
    assert "it has Python 3.9, and edgecls needs 3.10" in text("python", found)
    assert "ai-edge-litert 2.1.0" in text("python", found)
    # One system that works is enough; the others are reported.
    assert levels("python", findings(tflite(), PI4)) == {"note"}


def test_wheel() -> None:
    assert levels("wheel", findings(tflite(), PI4_32)) == {"ok", "note"}
    found = findings(onnx(), PI4_32)
    assert levels("wheel", found) == {"no"}
    assert "PyPI has no onnxruntime for armv7l, Python 3.11" in text("wheel", found)
    assert install_lines(onnx(), PI4_32) == {}
    assert levels("wheel", findings(tflite(), with_system(PI4, glibc="2.5"))) == {"no"}


def test_a_gpu_needs_the_gpu_package() -> None:
    lines = install_lines(onnx(), load_profile("desktop-nvidia"))
    assert set(lines.values()) == {"pip uninstall -y onnxruntime && pip install 'edgecls[gpu]'"}


@pytest.mark.parametrize(("needed", "runs"), [("1.14.0", True), ("2.14.0", True), ("2.17.0", False), ("", True)])
def test_op_versions_against_the_interpreter_that_installs(needed: str, runs: bool) -> None:
    graph = tflite(min_runtime=needed)
    assert is_yes(findings(graph, PI4_32)) == runs
    # LiteRT, which is newer, installs on the 64-bit system.
    assert is_yes(findings(graph, PI4))
    if not runs:
        assert "needs TensorFlow Lite 2.17.0, tflite-runtime 2.14.0 is older" in text(
            "op versions", findings(graph, PI4_32)
        )


@pytest.mark.parametrize(("version", "needed"), [(4, ""), (11, "2.15.0"), (12, "2.17.0"), (13, "2.18.0")])
def test_op_versions_count_where_the_file_is_silent(version: int, needed: str) -> None:
    graph = tflite(node("FULLY_CONNECTED", version), min_runtime="")
    assert min_runtime(graph) == needed
    assert levels("op versions", findings(graph, PI4_32)) == ({"no"} if needed else set())


def test_opset_and_ir_version() -> None:
    nano = with_system(load_profile("jetson-nano"), python="3.6", glibc="2.27")
    assert levels("opset", findings(onnx(opset=15), nano)) == set()
    assert levels("opset", findings(onnx(opset=16), nano)) == {"no"}
    assert "operator set is 16; onnxruntime 1.10.0 loads up to 15" in text("opset", findings(onnx(opset=16), nano))
    assert levels("ir version", findings(onnx(ir=8), nano)) == set()
    assert levels("ir version", findings(onnx(ir=9), nano)) == {"no"}
    assert is_yes(findings(onnx(opset=28, ir=14), PI5))
    assert not is_yes(findings(onnx(opset=29), PI5))


def test_ops() -> None:
    assert levels("ops", findings(tflite())) == {"ok"}
    found = findings(tflite(node("FlexErf", 1)))
    assert levels("ops", found) == {"no"}
    assert "net/flexerf is a custom operation (FlexErf)" in text("ops", found)
    assert "compiled for an Edge TPU" in text("ops", findings(tflite(node("edgetpu-custom-op", 1))))
    custom = Node("Magic", 0, "net/magic", (value("x"),), (value("z"),), domain="com.acme")
    assert "(com.acme.Magic)" in text("ops", findings(onnx(custom)))
    assert levels("ops", findings(onnx(replace(custom, domain="com.microsoft")))) == {"ok"}


def test_dtypes() -> None:
    assert levels("dtypes", findings(tflite())) == {"ok"}
    found = findings(tflite(node("ADD", 2, value("half", dtype="bfloat16"))))
    assert levels("dtypes", found) == {"no"}
    assert "half is bfloat16" in text("dtypes", found)


def test_shapes() -> None:
    assert levels("shapes", findings(tflite())) == {"ok"}
    found = findings(onnx(inputs=(value("image", (-1, 8, 8, 1)),)))
    assert levels("shapes", found) == {"note"}
    assert "image has the unknown shape (-1, 8, 8, 1)" in text("shapes", found)


@pytest.mark.parametrize(
    ("made_for", "device", "level"),
    [
        ("x86", "desktop-x86", "ok"),
        ("x86-vnni", "desktop-x86", "no"),
        ("arm64", "desktop-x86", "no"),
        ("x86", "desktop-x86-vnni", "note"),
        ("x86-vnni", "desktop-x86-vnni", "ok"),
        ("x86-vnni", "raspberry-pi-5", "note"),
        ("arm64", "raspberry-pi-5", "ok"),
        ("", "desktop-x86", "ok"),
    ],
)
def test_target(made_for: str, device: str, level: str) -> None:
    profile = load_profile(device)
    assert levels("target", findings(onnx(), profile, precision="int8", target=made_for)) == {level}
    # A float file, and a TFLite file, is the same for all.
    assert levels("target", findings(onnx(), profile, target=made_for)) == {"ok"}
    assert levels("target", findings(tflite(), profile, precision="int8", target=made_for)) == {"ok"}


def test_speed() -> None:
    assert levels("speed", findings(onnx(), PI4, precision="int8")) == {"note"}
    assert levels("speed", findings(onnx(), PI5, precision="int8")) == set()
    assert levels("speed", findings(tflite(), PI4, precision="int8")) == set()


def test_speed_of_fp16() -> None:
    # The metadata of this file are not read here, so a precision to come is no error.
    spec = object.__new__(ModelSpec)
    for name, content in vars(make_spec()).items():
        object.__setattr__(spec, name, content)
    object.__setattr__(spec, "precision", "fp16")
    assert levels("speed", check_graph(tflite(), spec, 1, PI4)) == {"note"}
    assert levels("speed", check_graph(tflite(), spec, 1, PI5)) == set()


def test_memory() -> None:
    def board(memory_mb: int) -> Profile:
        return replace(PI4, hardware=replace(PI4.hardware, memory_mb=memory_mb, memory_note="differs"))

    assert levels("memory", findings(tflite(), board(512))) == {"ok"}
    assert levels("memory", findings(tflite(), board(100))) == {"note"}
    assert levels("memory", findings(tflite(), board(50))) == {"no"}
    assert levels("memory", findings(tflite(), board(512), size_mb=200)) == {"no"}
    assert "memory: differs" in text("memory", findings(tflite(), board(0)))


def test_real_files(tiny_tflite: Path, tiny_tflite_fp32: Path, tiny_onnx: Path) -> None:
    for path in (tiny_tflite, tiny_tflite_fp32, tiny_onnx):
        assert is_yes(check_file(path, PI4))
    assert is_yes(check_file(tiny_tflite, PI4_32))
    assert not is_yes(check_file(tiny_onnx, PI4_32))


def test_exported_files_run_on_every_cpu(file_named: Callable[[str], Path]) -> None:
    for name in ("raspberry-pi-zero-2w", "raspberry-pi-4b-32bit", "jetson-nano", "rk3588", "desktop-x86"):
        assert is_yes(check_file(file_named("model-int8.tflite"), load_profile(name)))


def test_a_file_without_metadata_is_refused(tmp_path: Path, ignorant_graph: bytes) -> None:
    path = tmp_path / "bare.tflite"
    path.write_bytes(ignorant_graph)
    with pytest.raises(ModelFileError, match="no edgecls metadata"):
        check_file(path, PI4)
