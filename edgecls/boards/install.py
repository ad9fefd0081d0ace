"""The pip line that installs an engine on a machine. The wheels are listed in devices/tables/wheels.toml."""

from __future__ import annotations

import platform
import sys

# The first is preferred where its wheel fits.
ENGINE_PACKAGES = {
    "litert": ("ai-edge-litert", "tflite-runtime"),
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "torq": ("torq-runtime",),
}
# Advice where no wheel fits.
_OTHER_WAYS = {
    "ai-edge-litert": "use a 64-bit system, or Python 3.11 on 32-bit ARM",
    "onnxruntime": "use the .tflite file, or a 64-bit system",
    "onnxruntime-gpu": "take NVIDIA's own wheel for the Jetson from its Jetson Zoo",
    "openvino": "use another engine",
    "torq-runtime": "it needs Linux on x86-64 with Python 3.12 and a C library of 2.39 or newer",
}
# What macOS and Windows call the processors that have wheels.
_LINUX_NAMES = {"arm64": "aarch64", "AMD64": "x86_64"}
# `edgecls doctor` checks the C library too; here the newest one is assumed.
_NEWEST_GLIBC = "99"


def this_machine() -> str:
    """Return the processor that wheels are chosen by, such as "x86_64", "aarch64" or "armv7l"."""
    found = platform.machine()
    # A 32-bit Raspberry Pi OS may run on a 64-bit kernel, and this is the kernel's name.
    return "armv7l" if found == "aarch64" and sys.maxsize < 2**32 else found


def install_line(
    engine: str, device: str = "cpu", *, machine: str | None = None, python: tuple[int, int] | None = None
) -> str:
    """Return the pip line for edgecls with an engine, or a sentence that no wheel fits and what to do instead.

    Args:
        engine: a name in `ENGINE_PACKAGES`.
        device: a name in `engines.DEVICES`.
        machine: as `this_machine` names it; None takes this one.
        python: major and minor version; None takes this one.
    """
    # Imported late: the profiles are read only if an engine is missing.
    from edgecls.boards import profiles

    machine, python = machine or this_machine(), python or sys.version_info[:2]
    packages, version = packages_of(engine, device), f"{python[0]}.{python[1]}"
    on_linux = _LINUX_NAMES.get(machine, machine)
    system = profiles.System("this machine", on_linux, version, _NEWEST_GLIBC, source="this machine")
    wheel = next((found for package in packages if (found := profiles.find_wheel(package, system))), None)
    if wheel is None:
        return f"no wheel for {machine} with Python {version}: {_OTHER_WAYS[packages[0]]}"
    if engine == "litert" and machine != on_linux:
        # The extra names Linux' processors.
        return f"pip install edgecls {wheel.package}"
    return profiles.install_line(wheel, system)


def requirement(engine: str, version: str, device: str = "cpu") -> str:
    """Return the line of a requirements file that installs this version of edgecls with an engine."""
    from edgecls.boards.profiles import EXTRAS

    return f"edgecls[{EXTRAS[packages_of(engine, device)[0]]}]=={version}"


def packages_of(engine: str, device: str = "cpu") -> tuple[str, ...]:
    """Return the packages on PyPI that provide an engine for a device. One is enough; the first is preferred."""
    # TensorRT comes with the same wheel as CUDA; the Edge TPU's library is no Python package.
    if device in ("cuda", "tensorrt"):
        return ("onnxruntime-gpu",)
    return ENGINE_PACKAGES[engine]
