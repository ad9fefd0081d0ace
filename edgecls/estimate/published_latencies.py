"""Every published latency that an estimate learns from, and what it depends on."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from edgecls.boards.profiles import load_profiles, read_table

MachineKind = Literal["cpu", "edgetpu", "npu", "gpu"]


@dataclass(frozen=True)
class Processor:
    """A processor that runs networks."""

    name: str  # in devices/tables/processors.toml
    family: str  # of similar processors
    group: str  # of families
    kind: MachineKind  # "cpu", "edgetpu", "npu" or "gpu"
    ghz: float  # 0 if no source states it
    cores: int  # of one kind; 0 if boards differ
    macs: tuple[int, int]  # most multiply-adds per cycle and core, in 32-bit floats and in int8
    wide: bool  # True if it has int8 dot products


@dataclass(frozen=True)
class PublishedLatency:
    """A latency that somebody else measured and published."""

    model: str  # a name in `published_networks`
    processor: str  # in devices/tables/processors.toml
    engine: str  # for example "ncnn", "xnnpack", "opencv"
    precision: str  # "fp32", "fp16" or "int8"
    cores: int  # used
    ms: float  # of one image
    source: str  # where it is published
    ghz: float = 0  # clock during the measurement; 0 for the usual one
    runtime: str = ""  # the engine and other remarks in the source's words
    bits: int = 0  # of the system: 32, 64, or 0 if that is not known


@functools.cache
def load_processor(name: str) -> Processor:
    """Return the processor of this name."""
    table = read_table("processors")
    row = dict(table["processors"][name])
    family = table["families"][row["family"]]
    return Processor(
        name=name,
        **row,
        group=family["group"],
        kind=family["kind"],
        macs=tuple(family["macs"]),
        wide=family.get("wide", False),
    )


@functools.cache
def load_latencies() -> tuple[PublishedLatency, ...]:
    """Return the published latencies of all boards and of devices/tables/latencies.toml."""
    of_boards = [
        PublishedLatency(
            *(row.model, row.chip or profile.hardware.processor, row.engine, row.precision, row.cores, row.ms),
            source=row.source,
            runtime=row.runtime,
            bits=row.bits,
        )
        for profile in load_profiles()
        for row in profile.latencies
        if not row.left_out
    ]
    of_table = [
        PublishedLatency(
            *(model, rows["processor"], rows["engine"], precision, rows["cores"], ms),
            source=rows["source"],
            ghz=rows.get("ghz", 0),
        )
        for rows in read_table("latencies")["sets"]
        for precision in ("fp32", "int8")
        for model, ms in rows.get(precision, {}).items()
    ]
    return (*of_boards, *of_table)
