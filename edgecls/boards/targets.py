"""Targets: how int8 files are quantized for a kind of processor. Only NPUs need TFLite files of their own."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecls.errors import ConfigError
from edgecls.limits import FORMATS, Format

# Quantization steps from zero to the largest weight of a channel, symmetric int8.
WEIGHT_STEPS = 127


@dataclass(frozen=True)
class Target:
    """Choices of quantization for one kind of processor."""

    name: str  # accepted by `edgecls export --board`
    onnx_activations: str  # "uint8" or "int8"
    weight_bits: int  # 8, or 7 where products of full-range weights overflow 16 bits
    why: str  # the reason, with its source
    accelerator: str = ""  # of profiles.Profile; if it is an NPU, only TFLite files run, with what its compiler maps
    per_tensor: bool = False  # True for one scale for all weights of a layer, not one for each channel

    @property
    def formats(self) -> tuple[Format, ...]:
        """Return the formats that it runs."""
        return ("tflite",) if self.accelerator else FORMATS

    @property
    def weight_steps(self) -> int:
        """Steps from zero to the largest weight of a channel, as onnxruntime chooses them for these bits."""
        return WEIGHT_STEPS if self.weight_bits == 8 else 64


TARGETS = {
    target.name: target
    for target in (
        Target("x86-vnni", "uint8", 8, "VNNI multiplies uint8 by int8 without overflow (onnxruntime docs)"),
        Target("x86", "uint8", 7, "AVX2 adds products in 16 bits: 7-bit weights cannot overflow them"),
        Target("arm64", "int8", 8, "onnxruntime's ARM64 kernels are made for int8 by int8"),
        Target("coral", "int8", 8, "edgetpu_compiler takes TFLite only (https://coral.ai/docs/edgetpu)", "edgetpu"),
        Target("ethos-u", "int8", 8, "Arm's Vela takes TFLite only (https://pypi.org/project/ethos-u-vela)", "ethos-u"),
    )
}
# 8-bit weights and uint8 activations.
ANY = TARGETS["x86-vnni"]


def find_target(name: str | None, formats: Sequence[Format] = ()) -> Target:
    """Return the target of this name; for None, that of this machine.

    Raises:
        ConfigError: the name is unknown, or the target does not run one of `formats`.
    """
    chosen = name or detect_target()
    if chosen not in TARGETS:
        raise ConfigError(f"--board must be one of {', '.join(TARGETS)}; received {chosen!r}")
    target = TARGETS[chosen]
    if unfit := set(formats) - set(target.formats):
        runs = ", ".join(target.formats)
        raise ConfigError(f"--board {chosen} runs {runs} files; received --format {', '.join(unfit)}; leave it out")
    return target


def detect_target(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of this machine's target."""
    if platform.machine() in ("aarch64", "arm64", "armv7l"):
        return "arm64"
    flags = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    return "x86-vnni" if "avx512_vnni" in flags or "avx_vnni" in flags else "x86"
