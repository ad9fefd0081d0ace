from __future__ import annotations

import platform
import sys

import pytest

from edgecls.boards.install import install_line, this_machine
from edgecls.runtime.engines import DEVICES, ENGINES

TFLITE_RUNTIME = "pip install edgecls 'tflite-runtime==2.14.0' 'numpy<2'"
UNINSTALL = "pip uninstall -y onnxruntime && "
GPU = f"{UNINSTALL}pip install 'edgecls[gpu]'"


@pytest.mark.parametrize(
    ("engine", "device", "machine", "python", "expected"),
    [
        ("litert", "cpu", "x86_64", (3, 14), "pip install 'edgecls[litert]'"),
        ("litert", "edgetpu", "aarch64", (3, 11), "pip install 'edgecls[litert]'"),
        # The extra names Linux' two.
        ("litert", "cpu", "arm64", (3, 12), "pip install edgecls ai-edge-litert"),
        ("litert", "cpu", "armv7l", (3, 11), TFLITE_RUNTIME),
        ("litert", "cpu", "armv7l", (3, 12), "no wheel for armv7l with Python 3.12: use a 64-bit system"),
        ("litert", "cpu", "armv6l", (3, 11), "no wheel for armv6l"),
        ("onnxruntime", "cpu", "aarch64", (3, 13), "pip install 'edgecls[onnx]'"),
        ("onnxruntime", "cpu", "armv7l", (3, 11), "no wheel for armv7l with Python 3.11: use the .tflite file"),
        ("onnxruntime", "cuda", "x86_64", (3, 12), GPU),
        ("onnxruntime", "tensorrt", "x86_64", (3, 12), GPU),
        # The last release for this Python, older than the newest.
        ("onnxruntime", "cuda", "x86_64", (3, 10), f"{UNINSTALL}pip install edgecls 'onnxruntime-gpu==1.23.2'"),
        ("onnxruntime", "cuda", "aarch64", (3, 11), GPU),
        ("onnxruntime", "cuda", "aarch64", (3, 10), "no wheel for aarch64 with Python 3.10: take NVIDIA's own"),
        ("openvino", "cpu", "x86_64", (3, 10), "pip install 'edgecls[openvino]'"),
        ("openvino", "cpu", "armv7l", (3, 11), "no wheel for armv7l"),
    ],
)
def test_the_line_fits_processor_and_python(
    engine: str, device: str, machine: str, python: tuple[int, int], expected: str
) -> None:
    assert install_line(engine, device, machine=machine, python=python).startswith(expected)


def test_every_engine_has_a_line_or_another_way_everywhere() -> None:
    for engine, entry in ENGINES.items():
        for device in DEVICES:
            if device in entry.devices:
                for machine in ("x86_64", "aarch64", "armv7l", "riscv64"):
                    line = install_line(engine, device, machine=machine, python=(3, 12))
                    assert line.startswith(("pip ", "no wheel for"))


def test_a_32_bit_python_on_a_64_bit_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert this_machine() == "aarch64"
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    assert this_machine() == "armv7l"
    monkeypatch.setattr(sys, "version_info", (3, 11, 2))
    assert install_line("litert") == TFLITE_RUNTIME
