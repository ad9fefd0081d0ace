"""What an int8 file must look like for the processor that will run it. Imports `errors` only."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from edgecls.errors import ConfigError


@dataclass(frozen=True)
class Target:
    """Choices of quantization for one kind of processor.

    Attributes:
        name: what `edgecls export --device` takes.
        onnx_activations: "uint8" or "int8".
        weight_bits: 8, or 7 where products of full-range weights overflow 16 bits.
        per_channel_dense: False if every Dense must carry one scale in TFLite.
        why: the reason, with its source.
    """

    name: str
    onnx_activations: str
    weight_bits: int
    per_channel_dense: bool
    why: str


TARGETS = {
    target.name: target
    for target in (
        Target("x86-vnni", "uint8", 8, True, "VNNI multiplies uint8 by int8 without overflow (onnxruntime docs)"),
        Target("x86", "uint8", 7, True, "AVX2 adds products in 16 bits: 7-bit weights cannot overflow them"),
        Target("arm64", "int8", 8, True, "onnxruntime's ARM64 kernels are made for int8 by int8"),
        Target("coral", "uint8", 8, False, "the Edge TPU compiler takes one scale for a Dense layer (LiteRT#3596)"),
    )
}


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
