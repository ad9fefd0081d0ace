"""Does this exported file run on that board? One function a rule; the Edge TPU's own rules are in `edgetpu`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from edgecls.boards import edgetpu
from edgecls.boards.edgetpu import COMPILED
from edgecls.boards.finding import Finding, Level
from edgecls.boards.profiles import (
    GPU_PACKAGE,
    MIN_PYTHON,
    PACKAGES,
    Profile,
    System,
    Wheel,
    find_wheel,
    install_line,
    version,
)
from edgecls.model_file.container import detect_kind
from edgecls.model_file.graph import Graph
from edgecls.model_file.metadata import ModelSpec, read_bytes, split_file
from edgecls.model_file.read import check_runnable, read_graph
from edgecls.model_file.tflite import BUILTINS

# (operation version, first TensorFlow Lite that has it), from LiteRT's tflite/tools/versioning/runtime_version.cc: of
# those that current converters write, the ones that tflite-runtime 2.14 lacks. For files that do not say it themselves.
RELEASES = {"FULLY_CONNECTED": ((13, "2.18.0"), (12, "2.17.0"), (11, "2.15.0"))}
# ai.onnx.ml, of trees and vectors, belongs to every onnxruntime; com.microsoft holds its own operators.
ONNX_DOMAINS = ("", "ai.onnx.ml", "com.microsoft")
# What the engines' kernels compute in; "" is a value whose type the file does not give.
DTYPES = ("", "float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool")
# MB of a whole process after predictions: with nothing but the engine, and per MB of the file. Measured on x86-64 with
# Python 3.11 (LiteRT 2.3.0: 60 and 76 MB for files of 2.8 and 9.0 MB; ONNX Runtime 1.32.0: 82 and 115 for 2.7 and 9.0).
MEMORY_MB = {"tflite": (51, 3.5), "onnx": (72, 4.8)}


def check_file(path: str | os.PathLike[str], profile: Profile) -> tuple[Finding, ...]:
    """Return what every rule says about an exported file on a board; `finding.is_yes` sums it up.

    Raises:
        ModelFileError: no such file, no contract in it, or damaged.
    """
    data = read_bytes(path)
    graph, spec = split_file(data)
    check_runnable(graph, detect_kind(data), spec.input_scale, spec.input_zero_point)
    return check_graph(read_graph(graph, detect_kind(data)), spec, len(graph), profile)


def check_graph(graph: Graph, spec: ModelSpec, size_bytes: int, profile: Profile) -> tuple[Finding, ...]:
    """Return what every rule says about a graph of so many bytes on a board."""
    findings = [*_check_systems(graph, profile)]
    if profile.accelerator == "edgetpu":
        findings += edgetpu.preflight(graph)
    else:
        findings += [_check_ops(graph, profile), _check_dtypes(graph), _check_shapes(graph)]
        findings += [_check_target(graph, spec, profile), *_check_speed(graph, spec, profile)]
    return (*findings, _check_memory(graph, size_bytes, profile))


def install_lines(graph: Graph, profile: Profile) -> dict[str, str]:
    """Return the pip line for every system of a board that can run this graph, by the system's title."""
    judged = ((system, *_judge_system(graph, system, profile)) for system in profile.systems)
    return {system.title: install_line(wheel, system) for system, wheel, problems in judged if wheel and not problems}


def _check_systems(graph: Graph, profile: Profile) -> Iterator[Finding]:
    """Yield the verdict on each of the board's systems; it takes one that works to run the file."""
    judged = [(system, *_judge_system(graph, system, profile)) for system in profile.systems]
    level: Level = "note" if any(not problems for _, _, problems in judged) else "no"
    for system, wheel, problems in judged:
        for rule, text in problems:
            yield Finding(rule, level, f"{system.title}: {text}")
        if wheel and not problems:
            note = f" ({system.note})" if system.note else ""
            yield Finding("wheel", "ok", f"{system.title}: {install_line(wheel, system)}{note}")


def _judge_system(graph: Graph, system: System, profile: Profile) -> tuple[Wheel | None, list[tuple[str, str]]]:
    """Return the wheel that would run the graph, and what is in the way as (rule, text)."""
    packages = PACKAGES[graph.kind]
    if profile.accelerator == "cuda" and graph.kind == "onnx":
        packages = (GPU_PACKAGE,)
    wheels = [wheel for package in packages if (wheel := find_wheel(package, system))]
    problems = []
    if version(system.python) < version(MIN_PYTHON):
        bare = f"; {wheels[0].package} {wheels[0].version} without edgecls installs" if wheels else ""
        problems.append(("python", f"its Python is {system.python}, edgecls needs {MIN_PYTHON} or newer{bare}"))
    if not wheels:
        where = f"{system.machine}, Python {system.python}, C library {system.glibc}"
        problems.append(("wheel", f"PyPI has no {' or '.join(packages)} for {where}; use another system or format"))
        return None, problems
    able = next((wheel for wheel in wheels if not _limits(graph, wheel)), None)
    return able or wheels[0], problems + ([] if able else _limits(graph, wheels[0]))


def _limits(graph: Graph, wheel: Wheel) -> list[tuple[str, str]]:
    """Return what in the graph is too new for a wheel."""
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
    """Return the oldest TensorFlow Lite that runs a graph: its own word or its operations', the newer."""
    known = [
        release
        for node in graph.nodes
        for least, release in RELEASES.get(node.op, ())
        if graph.kind == "tflite" and node.version >= least
    ]
    return max([graph.min_runtime, *known], key=version)


def _check_ops(graph: Graph, profile: Profile) -> Finding:
    for node in graph.nodes:
        if node.op == COMPILED:
            text = f"compiled for an Edge TPU, which {profile.title} has not; use the file it was compiled from"
            return Finding("ops", "no", text)
        own = node.op in BUILTINS if graph.kind == "tflite" else node.domain in ONNX_DOMAINS
        if not own:
            name = f"{node.domain}.{node.op}".lstrip(".")
            return Finding("ops", "no", f"{node.layer} is a custom operation ({name}), which no wheel has; re-export")
    return Finding("ops", "ok", f"{len(graph.nodes)} operations, all of them built into the engine")


def _check_dtypes(graph: Graph) -> Finding:
    for tensor in graph.tensors:
        if tensor.dtype not in DTYPES:
            return Finding("dtypes", "no", f"{tensor.name} is {tensor.dtype}, which no engine computes in; re-export")
    return Finding("dtypes", "ok", ", ".join(sorted({tensor.dtype for tensor in graph.tensors} - {""})))


def _check_shapes(graph: Graph) -> Finding:
    for tensor in (*graph.inputs, *graph.tensors):
        if -1 in tensor.shape:
            text = f"{tensor.name} has the open shape {tensor.shape}: delegates are split there; export with batch 1"
            return Finding("shapes", "note", text)
    return Finding("shapes", "ok", "every shape is fixed")


def _check_target(graph: Graph, spec: ModelSpec, profile: Profile) -> Finding:
    made_for, wanted = spec.target, profile.export_target
    if graph.kind == "tflite" or spec.precision != "int8" or not made_for:
        return Finding("target", "ok", "the same for every processor")
    if made_for == wanted:
        return Finding("target", "ok", f"made for {made_for}")
    again = f"export with --device {profile.name}"
    if wanted == "x86" and profile.accelerator != "cuda":
        text = f"made for {made_for}: without VNNI its sums overflow 16 bits, and scores are wrong; {again}"
        return Finding("target", "no", text)
    return Finding("target", "note", f"made for {made_for}: the answers are right, but slower than need be; {again}")


def _check_speed(graph: Graph, spec: ModelSpec, profile: Profile) -> Iterator[Finding]:
    isa = profile.hardware.isa
    if spec.precision == "int8" and graph.kind == "onnx" and isa and not {"dotprod", "vnni"} & set(isa):
        text = "no int8 dot product here: ONNX Runtime is not expected to gain from int8; try the .tflite file"
        yield Finding("speed", "note", text)
    if spec.precision == "fp16" and isa and "fp16" not in isa and not profile.accelerator:
        yield Finding("speed", "note", "no fp16 arithmetic here: the file is smaller than fp32, not faster; try int8")


def _check_memory(graph: Graph, size_bytes: int, profile: Profile) -> Finding:
    base, factor = MEMORY_MB[graph.kind]
    need, has = round(base + factor * size_bytes / 2**20), profile.hardware.memory_mb
    if not has:
        return Finding("memory", "ok", f"about {need} MB for the process (memory: {profile.hardware.memory_note})")
    text = f"about {need} MB for the process, of {has} MB"
    if need > has:
        return Finding("memory", "no", f"{text}; train with a smaller --alpha, or export int8")
    # The system and the rest of the program need the other half.
    return Finding("memory", "note" if need > has / 2 else "ok", text)
