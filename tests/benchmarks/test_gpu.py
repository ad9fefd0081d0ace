from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gpu
import gpu_graphs
import numpy as np
import onnxruntime
import pytest
from tiny import Converted

if TYPE_CHECKING:
    from edgecls.export.artifact import ExportResult

ROOT = Path(__file__).resolve().parents[2]
CUDA = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
ROW: dict[str, Any] = {
    "device": "cuda",
    "precision": "fp16",
    "batch": 16,
    "p50_ms": {"numpy": 1.5, "CUDA graph": 1.4, "IO binding": 1.25},
    "per_second": {"numpy": 10666.7, "IO binding": 12800.0},
    "peak_gpu_mb": 512,
    "nodes": {"CUDAExecutionProvider": 58, "CPUExecutionProvider": 2},
    "valid": True,
    "causes": [],
}


@pytest.mark.parametrize(
    ("device", "available", "card", "reason"),
    [
        ("cuda", CUDA, "a card", ""),
        ("tensorrt", CUDA, "a card", ""),
        ("cuda", CUDA, "", "nvidia-smi finds no GPU"),
        ("tensorrt", CUDA[1:], "a card", "no TensorrtExecutionProvider, only CUDAExecutionProvider"),
        ("cuda", [], "a card", "no CUDAExecutionProvider"),
        ("cpu", ["CPUExecutionProvider"], "", ""),
    ],
)
def test_what_is_measured_and_why_not(device: str, available: list[str], card: str, reason: str) -> None:
    found = gpu.why_not(device, available, card)
    assert reason in found and bool(found) == bool(reason)


def test_a_card_that_was_busy_or_slowed_down_makes_no_valid_result() -> None:
    assert gpu.judge_gpu("0", ["Not Active", "Not Active"]) == []
    assert gpu.judge_gpu("[N/A]", []) == []
    assert gpu.judge_gpu("40", ["Not Active", "Active"]) == ["contention", "throttled"]


def test_nvidia_smi_is_asked_as_it_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        '#!/bin/sh\n[ "$3 $4" = "--query-gpu=name,driver_version --format=csv,noheader,nounits" ] || exit 2\n'
        "echo 'A Card, 580.1'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert gpu.ask_gpu("name", "driver_version") == ["A Card", "580.1"]
    assert gpu.ask_gpu("nonsense") == []
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert gpu.ask_gpu("name", "driver_version") == []


def test_the_table_shows_failures_doubts_and_what_the_cpu_ran() -> None:
    invalid = ROW | {"valid": False, "causes": ["throttled"], "peak_gpu_mb": None}
    failed = {"device": "tensorrt", "precision": "int8", "batch": 1, "failed": "exit code 1: no | parser"}
    no_recording = ROW | {"p50_ms": {"numpy": 1.5, "IO binding": 1.25}}
    header, fine, doubtful, plain, broken = gpu.table({"rows": [ROW, invalid, no_recording, failed]})
    assert fine == ["cuda", "fp16", "16", "1.50", "1.40", "1.25", "12800", "512 MB", "2 of 60"]
    assert doubtful[5] == "1.25 (not valid: throttled)" and doubtful[7] == ""
    assert plain[4:6] == ["", "1.25"]
    assert broken[3] == "failed: exit code 1: no / parser"
    assert {len(line) for line in (header, fine, doubtful, plain, broken)} == {9}


@pytest.mark.parametrize("precision", gpu.PRECISIONS)
def test_a_batch_gives_each_image_its_own_scores(converted: Converted, precision: str) -> None:
    fp32 = converted.graphs["fp32.onnx"]
    graph = gpu_graphs.BUILD[precision](fp32)

    def scores(graph: bytes, images: np.ndarray) -> np.ndarray:
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        found: np.ndarray = session.run(None, {session.get_inputs()[0].name: images})[0]
        return found

    shape = onnxruntime.InferenceSession(fp32, providers=["CPUExecutionProvider"]).get_inputs()[0].shape
    images = np.random.default_rng(1).integers(0, 256, (3, *shape[1:]), np.uint8)
    batched = scores(gpu_graphs.with_batch(graph, 3), images)
    single = np.concatenate([scores(graph, image[None]) for image in images])
    # onnxruntime may take another kernel for another batch, and round otherwise: by a step in int8.
    assert batched.shape == single.shape and np.abs(batched - single).max() <= {"fp32": 1e-5}.get(precision, 0.02)
    if precision != "int8":
        exact = np.concatenate([scores(fp32, image[None]) for image in images])
        assert np.abs(single - exact).max() < {"fp32": 1e-6, "fp16": 0.02}[precision]


def test_int8_keeps_to_what_tensorrt_can_read(converted: Converted) -> None:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(gpu_graphs.to_int8(converted.graphs["fp32.onnx"])).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    inner = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert len(inner) > 10
    for node in inner:
        zero_point = constants[node.input[2]]
        assert zero_point.dtype == np.int8 and not zero_point.any()


def test_the_whole_script_on_the_cpu(tiny_export: ExportResult, tmp_path: Path) -> None:
    options = ["--devices", "cpu,cuda", "--batches", "2", "--turns", "1", "--results", str(tmp_path)]
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), str(tiny_export.folder.parent), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    assert has_cuda or "skipped cuda: onnxruntime has no CUDAExecutionProvider" in done.stdout
    written = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    rows = [row for row in written["rows"] if row["device"] == "cpu"]
    assert [row["precision"] for row in rows] == ["fp32", "fp16", "int8"]
    for row in rows:
        assert "failed" not in row and row["ways_differ"] == 0 and set(row["nodes"]) == {"CPUExecutionProvider"}
        assert row["p50_ms"]["IO binding"] > 0
