"""The runner of edgetpu_compiler, with a fake one that prints what the real one printed."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from edgecls.boards import edgetpu_compiler
from edgecls.errors import ExportError, MissingDependency, ModelFileError
from edgecls.model_file.read import read_graph, read_model_file, read_spec
from edgecls.model_file.tflite import BUILTINS, CUSTOM

# https://github.com/google-coral/edgetpu/issues/671, the table shortened
ALL_MAPPED = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 2270 ms.

Input model: rede_modelo3_73_segment_0_of_2.tflite
Input size: 5.21MiB
Output model: rede_modelo3_73_segment_0_of_2_edgetpu.tflite
Output size: 6.51MiB
On-chip memory used for caching model parameters: 6.02MiB
On-chip memory remaining for caching model parameters: 1.02MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 84
Operation log: rede_modelo3_73_segment_0_of_2_edgetpu.log

Operator                       Count      Status

CONV_2D                        83         Mapped to Edge TPU
QUANTIZE                       1          Mapped to Edge TPU
Compilation child process completed within timeout period.
Compilation succeeded!
"""
# https://github.com/google-coral/edgetpu/issues/490, the table shortened
SOME_ON_CPU = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 2006 ms.

Input model: detector.tflite
Input size: 4.24MiB
Output model: detector_edgetpu.tflite
Output size: 5.57MiB
On-chip memory used for caching model parameters: 4.21MiB
On-chip memory remaining for caching model parameters: 3.36MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 267
Operation log: detector_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will instead run on the CPU, which is slower. If possible, consider updating your model to use only operations supported by the Edge TPU. For details, visit g.co/coral/model-reqs.
Number of operations that will run on Edge TPU: 261
Number of operations that will run on CPU: 6

Operator                       Count      Status

DEQUANTIZE                     2          Operation is working on an unsupported data type
DEPTHWISE_CONV_2D              80         Mapped to Edge TPU
LOGISTIC                       1          Operation is otherwise supported, but not mapped due to some unspecified limitation
CONCATENATION                  1          More than one subgraph is not supported
SOFTMAX                        1          Operation version not supported
Compilation child process completed within timeout period.
Compilation succeeded!
"""  # noqa: E501
# https://github.com/google-coral/edgetpu/issues/512
TOO_LARGE = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.
ERROR: Restored original execution plan after delegate application failure.
Compilation failed: Compilation failed due to large activation tensors in model.
Compilation child process completed within timeout period.
Compilation failed!
"""
# https://github.com/google-coral/edgetpu/issues/211
INTERNAL = "Edge TPU Compiler version 14.1.317412892\n\nInternal compiler error. Aborting! \n"
# https://github.com/google-coral/edgetpu/issues/386
UNKNOWN_OP = """Edge TPU Compiler version 15.0.340273435
ERROR: Didn't find op for builtin opcode 'DEPTH_TO_SPACE' version '2'

ERROR: Registration failed.
"""


def test_a_report_without_cpu_lines_means_that_all_mapped() -> None:
    report = edgetpu_compiler.parse_report(ALL_MAPPED)
    assert (report.version, report.compiled, report.errors) == ("16.0.384591198", True, "")
    assert (report.on_tpu, report.on_cpu, report.subgraphs) == (84, 0, 1)
    assert (report.on_chip, report.off_chip) == ("6.02MiB", "0.00B")
    assert report.operations == (
        edgetpu_compiler.Operations("CONV_2D", 83, "Mapped to Edge TPU"),
        edgetpu_compiler.Operations("QUANTIZE", 1, "Mapped to Edge TPU"),
    )


def test_a_report_with_operations_on_the_cpu() -> None:
    report = edgetpu_compiler.parse_report(SOME_ON_CPU)
    assert (report.compiled, report.on_tpu, report.on_cpu) == (True, 261, 6)
    assert len(report.operations) == 5
    assert report.operations[2].status.endswith("due to some unspecified limitation")


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        (TOO_LARGE, "large activation tensors"),
        (INTERNAL, "Internal compiler error. Aborting!"),
        (UNKNOWN_OP, "'DEPTH_TO_SPACE' version '2'"),
        ("Edge TPU Compiler version 16.0.384591198\nInvalid model: x.tflite\nModel not quantized\n", "not quantized"),
        ("", ""),
    ],
)
def test_failures_keep_the_compilers_words(text: str, reported: str) -> None:
    report = edgetpu_compiler.parse_report(text)
    assert not report.compiled
    assert reported in report.errors
    assert "version 1" not in report.errors


def compiled_graph(graph: bytes, left: int) -> bytes:
    """Return what the compiler makes of a graph: one custom operation in place of all but the last `left`."""
    import flatbuffers  # type: ignore[import-untyped]
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(graph, 0)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = CUSTOM
    code.customCode = "edgetpu-custom-op"
    model.operatorCodes.append(code)
    main = model.subgraphs[0]
    mapped, rest = main.operators[: len(main.operators) - left], main.operators[len(main.operators) - left :]
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = main.inputs, mapped[-1].outputs
    main.operators = [operator, *rest]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a compiler on PATH that prints a report and writes a file; returns what it was called with."""

    def install(report: str, written: bytes | None) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "report").write_text(report)
        (folder / "graph").write_bytes(written or b"")
        script = folder / "edgetpu_compiler"
        script.write_text(
            f"#!{sys.executable}\n"
            "import pathlib, sys\n"
            "here, call = pathlib.Path(__file__).parent, sys.argv[1:]\n"
            "(here / 'call').write_text('\\n'.join(call))\n"
            "given, out = pathlib.Path(call[-1]), pathlib.Path(call[call.index('-o') + 1])\n"
            "(here / 'given').write_bytes(given.read_bytes())\n"
            "graph = (here / 'graph').read_bytes()\n"
            "graph and (out / (given.stem + '_edgetpu.tflite')).write_bytes(graph)\n"
            "print((here / 'report').read_text())\n"
            "sys.exit(0 if graph else 1)\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return folder

    return install


def test_the_compiled_file_carries_the_metadata(compiler: Any, tiny_tflite: Path, tmp_path: Path) -> None:
    _, graph, spec = read_model_file(tiny_tflite.read_bytes())
    folder = compiler(ALL_MAPPED, compiled_graph(graph, left=0))
    done = edgetpu_compiler.compile_file(tiny_tflite, tmp_path / "out")
    assert done.path == tmp_path / "out" / "tiny-int8_edgetpu.tflite"
    assert done.cpu_layers == ()
    # The compiler got the graph alone, and the table was asked for.
    assert (folder / "given").read_bytes() == graph
    assert (folder / "call").read_text().startswith("-s\n-o\n")
    assert list((tmp_path / "out").iterdir()) == [done.path]
    completed = read_spec(done.path)
    assert completed.labels == spec.labels
    assert completed.metrics == spec.metrics | {"measured_on": "tiny-int8.tflite"}
    assert completed.versions["edgetpu_compiler"] == "16.0.384591198"


def test_layers_on_the_cpu_are_named_with_the_compilers_reason(
    compiler: Any, tiny_tflite: Path, tmp_path: Path
) -> None:
    _, graph, _ = read_model_file(tiny_tflite.read_bytes())
    last = [node.op for node in read_graph(graph, "tflite").nodes][-2:]
    assert last == ["SOFTMAX", "QUANTIZE"]
    compiler(SOME_ON_CPU, compiled_graph(graph, left=2))
    done = edgetpu_compiler.compile_file(tiny_tflite, tmp_path / "out")
    assert len(done.cpu_layers) == 2
    assert done.cpu_layers[0].endswith("(SOFTMAX): Operation version not supported")
    assert done.cpu_layers[1].endswith("(QUANTIZE): no reason given")


@pytest.mark.parametrize("report", [TOO_LARGE, INTERNAL, UNKNOWN_OP, ALL_MAPPED])
def test_a_failed_compilation_leaves_nothing(compiler: Any, report: str, tiny_tflite: Path, tmp_path: Path) -> None:
    compiler(report, None)
    with pytest.raises(ExportError, match=r"edgetpu_compiler 1\d\.\d.* failed on tiny-int8.tflite"):
        edgetpu_compiler.compile_file(tiny_tflite, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_without_the_compiler_the_exact_commands_are_reported(
    tiny_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert edgetpu_compiler.find_compiler() is None
    with pytest.raises(MissingDependency) as caught:
        edgetpu_compiler.compile_file(tiny_tflite)
    reported = str(caught.value)
    assert f"edgetpu_compiler -s -o {tiny_tflite.parent} {tiny_tflite} && python -c " in reported
    assert "add_metadata(" in reported
    assert "_edgetpu.tflite" in reported


def test_metadata_are_added_to_compiled_files_only(tiny_tflite: Path, ignorant_graph: bytes, tmp_path: Path) -> None:
    plain = tmp_path / "plain.tflite"
    plain.write_bytes(ignorant_graph)
    with pytest.raises(ExportError, match="holds nothing for the Edge TPU"):
        edgetpu_compiler.add_metadata(tiny_tflite, plain)
    with pytest.raises(ModelFileError, match="no edgecls metadata"):
        edgetpu_compiler.add_metadata(plain, tiny_tflite)
    assert BUILTINS[CUSTOM] == "CUSTOM"
