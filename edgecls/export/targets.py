"""What an int8 ONNX file must look like for the processor that will run it; TFLite files are alike for all.

Imports `errors` only.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from edgecls.errors import ConfigError

# Steps from zero to the largest weight of a channel in a symmetric int8 grid.
WEIGHT_STEPS = 127


@dataclass(frozen=True)
class Target:
    """Choices of quantization for one kind of processor.

    Attributes:
        name: what `edgecls export --device` takes.
        onnx_activations: "uint8" or "int8".
        weight_bits: 8, or 7 where products of full-range weights overflow 16 bits.
        why: the reason, with its source.
    """

    name: str
    onnx_activations: str
    weight_bits: int
    why: str

    @property
    def weight_steps(self) -> int:
        """Steps from zero to the largest weight of a channel that onnxruntime chooses for these bits."""
        return WEIGHT_STEPS if self.weight_bits == 8 else 64


TARGETS = {
    target.name: target
    for target in (
        Target("x86-vnni", "uint8", 8, "VNNI multiplies uint8 by int8 without overflow (onnxruntime docs)"),
        Target("x86", "uint8", 7, "AVX2 adds products in 16 bits: 7-bit weights cannot overflow them"),
        Target("arm64", "int8", 8, "onnxruntime's ARM64 kernels are made for int8 by int8"),
    )
}


ANY = TARGETS["x86-vnni"]
"""The plain choice: full weights, uint8 activations."""


def find_target(name: str | None) -> Target:
    """Return the target of this name, or that of this machine for None.

    Raises:
        ConfigError: there is none of this name.
    """
    chosen = name or detect_target()
    if chosen not in TARGETS:
        raise ConfigError(f"--device must be one of {', '.join(TARGETS)}; received {chosen!r}")
    return TARGETS[chosen]


def detect_target(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of the target that this machine is."""
    if platform.machine() in ("aarch64", "arm64", "armv7l"):
        return "arm64"
    flags = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    return "x86-vnni" if "avx512_vnni" in flags or "avx_vnni" in flags else "x86"
