from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_graphs import run
from processor import skip_without_vnni
from random_networks import diverse_images, random_network
from tiny import SIZE

from edgecls.boards.targets import TARGETS, detect_target, find_target
from edgecls.errors import ConfigError
from edgecls.export import onnx as onnx_export
from edgecls.export.fuse import FusedModel, fuse
from edgecls.export.quantization import bias_correction, equalize
from edgecls.export.quantization.prepare import prepare


@pytest.fixture(scope="module")
def calibration() -> np.ndarray:
    return diverse_images(24, SIZE, np.random.default_rng(1))


@pytest.fixture(scope="module")
def prepared(calibration: np.ndarray) -> dict[str, FusedModel]:
    fused = fuse(random_network("torch", SIZE, 0.35, "gap"))
    with pytest.MonkeyPatch.context() as patch:
        # A network with random weights has no use for images of another camera.
        for module in (equalize, bias_correction):
            patch.setattr(module, "PERTURBED_FRACTION", 0)
        # Only the steps of the weights tell targets apart here.
        steps = {target.weight_steps for target in TARGETS.values()}
        made = {each: prepare(fused, calibration, each, max_kl=0) for each in steps}
    return {name: made[target.weight_steps] for name, target in TARGETS.items()}


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", "fpu avx2 avx512f avx512_vnni", "x86-vnni"),
        ("x86_64", "fpu avx2 avx_vnni", "x86-vnni"),
        ("x86_64", "fpu avx2 avx512f", "x86"),
        ("aarch64", "fp asimd asimddp", "arm64"),
    ],
)
def test_this_machine_is_recognized(
    machine: str, flags: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags : {flags}\n", encoding="utf-8")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert detect_target(cpuinfo) == expected
    monkeypatch.setattr(detect_target, "__defaults__", (cpuinfo,))
    assert find_target(None) is TARGETS[expected]


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"x86-vnni, x86, arm64, coral, ethos-u; received 'pi9'"):
        find_target("pi9")
    assert find_target("arm64") is TARGETS["arm64"]
    assert find_target(None).name == detect_target()


def test_a_coral_runs_tflite_alone() -> None:
    assert find_target("coral", ("tflite",)).formats == ("tflite",)
    assert [name for name, target in TARGETS.items() if target.accelerator] == ["coral", "ethos-u"]
    assert find_target("arm64", ("tflite", "onnx")).formats == ("tflite", "onnx")
    with pytest.raises(ConfigError, match="--board coral runs tflite files; received --format onnx; leave it out"):
        find_target("coral", ("tflite", "onnx"))


def convolution_weights(graph: bytes) -> list[np.ndarray]:
    tensors = onnx.load_from_string(graph).graph.initializer
    return [
        values for tensor in tensors if (values := numpy_helper.to_array(tensor)).dtype == np.int8 and values.ndim == 4
    ]


def test_seven_bit_weights_stay_in_seven_bits(prepared: dict[str, FusedModel], calibration: np.ndarray) -> None:
    full = convolution_weights(onnx_export.to_int8(prepared["x86-vnni"], calibration, TARGETS["x86-vnni"]))
    reduced = convolution_weights(onnx_export.to_int8(prepared["x86"], calibration, TARGETS["x86"]))
    assert max(np.abs(weights.astype(int)).max() for weights in full) == 127
    assert max(np.abs(weights.astype(int)).max() for weights in reduced) == 64


def test_arm64_computes_in_int8_and_still_takes_the_raw_image(
    prepared: dict[str, FusedModel], calibration: np.ndarray
) -> None:
    skip_without_vnni()
    unsigned = onnx_export.to_int8(prepared["x86-vnni"], calibration, TARGETS["x86-vnni"])
    signed = onnx_export.to_int8(prepared["arm64"], calibration, TARGETS["arm64"])
    graph = onnx.load_from_string(signed).graph
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    zero_points = {t.name: numpy_helper.to_array(t).dtype for t in graph.initializer if t.name.endswith("zero_point")}
    assert [name for name, dtype in zero_points.items() if dtype == np.uint8] == ["image_zero_point"]
    # Both round alike but for single steps, which so deep a network grows; they differ from float by 0.025.
    differences = np.abs(run(signed, calibration) - run(unsigned, calibration))
    assert differences.mean() < 0.01
    assert differences.max() < 0.04
