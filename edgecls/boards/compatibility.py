"""Checks whether an exported file runs on a board, one function for each rule; for the Edge TPU see `edgetpu`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from edgecls.boards import edgetpu, ethosu
from edgecls.boards.install import packages_of
from edgecls.boards.profiles import MIN_PYTHON, Profile, System, Wheel, find_wheel, install_line, version
from edgecls.boards.rule_result import Level, RuleResult
from edgecls.model_file.graph import Graph
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.read import check_runnable, read_graph, read_model_file
from edgecls.model_file.tflite import BUILTINS

# (operation version, first TensorFlow Lite that has it), for files that do not state it: what current converters write
# and tflite-runtime 2.14 lacks. From LiteRT's tflite/tools/versioning/runtime_version.cc.
RELEASES = {"FULLY_CONNECTED": ((13, "2.18.0"), (12, "2.17.0"), (11, "2.15.0"))}
# Every onnxruntime has ai.onnx.ml (trees and vectors) and com.microsoft (its own operators).
ONNX_DOMAINS = ("", "ai.onnx.ml", "com.microsoft")
# Types that the engines compute in; "" is a type that the file does not state.
DTYPES = ("", "float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool")
# The operation that stands for all that was compiled -> the chip.
COMPILED_FOR = {edgetpu.COMPILED: "an Edge TPU", ethosu.COMPILED: "an Arm Ethos-U"}
# MB of a process after predictions: of the engine alone, and per MB of the file. Measured on x86-64 with
# Python 3.11 (LiteRT 2.3.0: 60 and 76 MB for files of 2.8 and 9.0 MB; ONNX Runtime 1.32.0: 82 and 115 for 2.7 and 9.0).
MEMORY_MB = {"tflite": (51, 3.5), "onnx": (72, 4.8)}


def check_file(path: str | os.PathLike[str], profile: Profile) -> tuple[RuleResult, ...]:
    """Return the findings of all rules about an exported file on a board; see `finding.is_yes`.

    Raises:
        ModelFileError: as `read_model_file` and `check_runnable` raise it.
    """
    model = read_model_file(path)
    check_runnable(model)
    return check_graph(read_graph(model.graph, model.format), model.spec, len(model.graph), profile)


def check_graph(graph: Graph, spec: ModelSpec, size_bytes: int, profile: Profile) -> tuple[RuleResult, ...]:
    """Return the findings of all rules about a graph of `size_bytes` on a board."""
    findings = [*_check_systems(graph, profile)]
    if profile.accelerator == "edgetpu":
        findings += edgetpu.preflight(graph)
    elif profile.accelerator == "ethos-u":
        findings += ethosu.preflight(graph)
    else:
        findings += [_check_ops(graph, profile), _check_dtypes(graph), _check_shapes(graph)]
        findings += [_check_target(graph, spec, profile), *_check_speed(graph, spec, profile)]
    # Without a system there is no process of Python whose memory is known.
    return (*findings, *([_check_memory(graph, size_bytes, profile)] if profile.systems else ()))


def install_lines(graph: Graph, profile: Profile) -> dict[str, str]:
    """Return the pip command for every system of a board that can run this graph, by title."""
    judged = ((system, *_judge_system(graph, system, profile)) for system in profile.systems)
    return {system.title: install_line(wheel, system) for system, wheel, problems in judged if wheel and not problems}


def _check_systems(graph: Graph, profile: Profile) -> Iterator[RuleResult]:
    """Yield the findings about each of the board's systems; one suitable system is enough."""
    judged = [(system, *_judge_system(graph, system, profile)) for system in profile.systems]
    if not judged:
        yield RuleResult("system", "note", "no Python runs there: your own program runs the compiled file")
    level: Level = "note" if any(not problems for _, _, problems in judged) else "no"
    for system, wheel, problems in judged:
        for rule, text in problems:
            yield RuleResult(rule, level, f"{system.title}: {text}")
        if wheel and not problems:
            note = f" ({system.note})" if system.note else ""
            yield RuleResult("wheel", "ok", f"{system.title}: {install_line(wheel, system)}{note}")


def _judge_system(graph: Graph, system: System, profile: Profile) -> tuple[Wheel | None, list[tuple[str, str]]]:
    """Return the wheel that would run the graph, and the problems as (rule, text)."""
    on_gpu = profile.accelerator == "cuda" and graph.format == "onnx"
    packages = packages_of("litert" if graph.format == "tflite" else "onnxruntime", "cuda" if on_gpu else "cpu")
    wheels = [wheel for package in packages if (wheel := find_wheel(package, system))]
    problems = []
    if version(system.python) < version(MIN_PYTHON):
        bare = f"; {wheels[0].package} {wheels[0].version} can be installed without edgecls" if wheels else ""
        problems.append(("python", f"it has Python {system.python}, and edgecls needs {MIN_PYTHON} or newer{bare}"))
    if not wheels:
        where = f"{system.machine}, Python {system.python}, C library {system.glibc}"
        problems.append(("wheel", f"PyPI has no {' or '.join(packages)} for {where}; use another system or format"))
        return None, problems
    able = next((wheel for wheel in wheels if not _limits(graph, wheel)), None)
    return able or wheels[0], problems + ([] if able else _limits(graph, wheels[0]))


def _limits(graph: Graph, wheel: Wheel) -> list[tuple[str, str]]:
    """Return what is too new in the graph for a wheel."""
    name, found = f"{wheel.package} {wheel.version}", []
    needed = min_runtime(graph)
    if wheel.tflite and version(needed) > version(wheel.tflite):
        found.append(("op versions", f"the file needs TensorFlow Lite {needed}, {name} is older; export int8 or fp32"))
    if wheel.opset and graph.opset > wheel.opset:
        found.append(("opset", f"the file's operator set is {graph.opset}; {name} loads up to {wheel.opset}"))
    if wheel.ir and graph.ir > wheel.ir:
        found.append(("ir version", f"the file's format is IR {graph.ir}; {name} loads up to {wheel.ir}"))
    return found


def min_runtime(graph: Graph) -> str:
    """Return the oldest TensorFlow Lite that runs a graph: what it states or its operations need, the newer of both."""
    known = [
        release
        for node in graph.nodes
        for least, release in RELEASES.get(node.op, ())
        if graph.format == "tflite" and node.version >= least
    ]
    return max([graph.min_runtime, *known], key=version)


def _check_ops(graph: Graph, profile: Profile) -> RuleResult:
    for node in graph.nodes:
        if chip := COMPILED_FOR.get(node.op):
            text = f"compiled for {chip}, which {profile.title} does not have; use the file it was compiled from"
            return RuleResult("ops", "no", text)
        own = node.op in BUILTINS if graph.format == "tflite" else node.domain in ONNX_DOMAINS
        if not own:
            name = f"{node.domain}.{node.op}".lstrip(".")
            return RuleResult(
                "ops", "no", f"{node.layer} is a custom operation ({name}), which no engine has; re-export"
            )
    return RuleResult("ops", "ok", f"{len(graph.nodes)} operations, all built into the engine")


def _check_dtypes(graph: Graph) -> RuleResult:
    for tensor in graph.tensors:
        if tensor.dtype not in DTYPES:
            return RuleResult("dtypes", "no", f"{tensor.name} is {tensor.dtype}, which no engine supports; re-export")
    return RuleResult("dtypes", "ok", ", ".join(sorted({tensor.dtype for tensor in graph.tensors} - {""})))


def _check_shapes(graph: Graph) -> RuleResult:
    for tensor in (*graph.inputs, *graph.tensors):
        if -1 in tensor.shape:
            text = f"{tensor.name} has the unknown shape {tensor.shape}, where delegates stop; export with batch size 1"
            return RuleResult("shapes", "note", text)
    return RuleResult("shapes", "ok", "every shape is fixed")


def _check_target(graph: Graph, spec: ModelSpec, profile: Profile) -> RuleResult:
    made_for, wanted = spec.target, profile.export_target
    if graph.format == "tflite" or spec.precision != "int8" or not made_for:
        return RuleResult("target", "ok", "the same for every processor")
    if made_for == wanted:
        return RuleResult("target", "ok", f"made for {made_for}")
    again = f"export with --board {profile.name}"
    if wanted == "x86" and profile.accelerator != "cuda":
        text = f"made for {made_for}: without VNNI its sums overflow 16 bits and scores are wrong; {again}"
        return RuleResult("target", "no", text)
    return RuleResult("target", "note", f"made for {made_for}: correct, but slower than necessary; {again}")


def _check_speed(graph: Graph, spec: ModelSpec, profile: Profile) -> Iterator[RuleResult]:
    isa = profile.hardware.isa
    if spec.precision == "int8" and graph.format == "onnx" and isa and not {"dotprod", "vnni"} & set(isa):
        text = "no int8 dot product: ONNX Runtime is not expected to be faster with int8; try the .tflite file"
        yield RuleResult("speed", "note", text)
    if spec.precision == "fp16" and isa and "fp16" not in isa and not profile.accelerator:
        yield RuleResult("speed", "note", "no fp16 arithmetic: the file is smaller than fp32, but not faster; try int8")


def _check_memory(graph: Graph, size_bytes: int, profile: Profile) -> RuleResult:
    base, factor = MEMORY_MB[graph.format]
    need, has = round(base + factor * size_bytes / 2**20), profile.hardware.memory_mb
    if not has:
        return RuleResult("memory", "ok", f"about {need} MB for the process (memory: {profile.hardware.memory_note})")
    text = f"about {need} MB for the process, of {has} MB"
    if need > has:
        return RuleResult("memory", "no", f"{text}; train with a smaller --alpha, or export int8")
    # The system and the rest of the program need memory too.
    return RuleResult("memory", "note" if need > has / 2 else "ok", text)
