"""How an engine gets onto this machine: the one line whose wheels fit its processor and Python. Imports nothing heavy.

Wheels as they stand on PyPI: tflite-runtime ended with 2.14.0 for Python 3.11, and is all there is for 32-bit ARM.
"""

from __future__ import annotations

import platform
import sys

_X86, _ARM = ("x86_64", "AMD64"), ("aarch64", "arm64")
# onnxruntime and onnxruntime-gpu install the same folder, and the one that came last wins.
_GPU = "pip uninstall -y onnxruntime && pip install 'edgecls[gpu]'"
# (engine, device), machines, oldest and newest Python, line. The first row that fits counts.
_LINES: tuple[tuple[tuple[str, str], tuple[str, ...], tuple[int, int], tuple[int, int], str], ...] = (
    (("litert", "cpu"), ("x86_64", "aarch64"), (3, 10), (3, 99), "pip install 'edgecls[litert]'"),
    (("litert", "cpu"), ("arm64", "AMD64"), (3, 10), (3, 99), "pip install ai-edge-litert"),
    (("litert", "cpu"), ("armv7l",), (3, 10), (3, 11), "pip install 'tflite-runtime==2.14.0' 'numpy<2'"),
    (("onnxruntime", "cpu"), (*_X86, *_ARM), (3, 10), (3, 99), "pip install 'edgecls[onnx]'"),
    (("onnxruntime", "cuda"), _X86, (3, 10), (3, 99), _GPU),
    (("onnxruntime", "cuda"), ("aarch64",), (3, 11), (3, 99), _GPU),
    (("openvino", "cpu"), (*_X86, *_ARM), (3, 10), (3, 99), "pip install 'edgecls[openvino]'"),
)
# What pyproject.toml calls the extra of each.
_EXTRAS = {
    ("litert", "cpu"): "litert",
    ("onnxruntime", "cpu"): "onnx",
    ("onnxruntime", "cuda"): "gpu",
    ("openvino", "cpu"): "openvino",
}
_OTHER_WAYS = {
    ("litert", "cpu"): "use a 64-bit system, or Python 3.11 on 32-bit ARM",
    ("onnxruntime", "cpu"): "use the .tflite file, or a 64-bit system",
    ("onnxruntime", "cuda"): "take NVIDIA's own wheel for the Jetson from its Jetson Zoo",
    ("openvino", "cpu"): "use another engine",
}


def this_machine() -> str:
    """Return the processor that wheels are chosen by, such as "x86_64", "aarch64" or "armv7l"."""
    found = platform.machine()
    # A 32-bit Raspberry Pi OS may run on a 64-bit kernel, and this is the kernel's name.
    return "armv7l" if found == "aarch64" and sys.maxsize < 2**32 else found


def install_line(
    engine: str, device: str = "cpu", *, machine: str | None = None, python: tuple[int, int] | None = None
) -> str:
    """Return the pip line that installs an engine, or a sentence that no wheel fits and what to do instead.

    Args:
        engine: a name in `engines.ENGINES`.
        device: a name in `engines.DEVICES`.
        machine: as `this_machine` names it; None takes this one.
        python: major and minor version; None takes this one.
    """
    machine, python = machine or this_machine(), python or sys.version_info[:2]
    key = _key(engine, device)
    for wanted, machines, oldest, newest, line in _LINES:
        if wanted == key and machine in machines and oldest <= python <= newest:
            return line
    return f"no wheel for {machine} with Python {python[0]}.{python[1]}: {_OTHER_WAYS[key]}"


def requirement(engine: str, version: str, device: str = "cpu") -> str:
    """Return the line of a requirements file for this version of edgecls with an engine: its markers fit wheels."""
    return f"edgecls[{_EXTRAS[_key(engine, device)]}]=={version}"


def _key(engine: str, device: str) -> tuple[str, str]:
    # TensorRT comes with the same wheel as CUDA; the Edge TPU's library is no Python package.
    return engine, "cuda" if device in ("cuda", "tensorrt") else "cpu"
