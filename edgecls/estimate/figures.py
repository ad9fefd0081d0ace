"""Every published latency that an estimate can learn from, with what it depends on."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edgecls.boards.profiles import Latency, load_profiles, read_table

MachineKind = Literal["cpu", "edgetpu", "gpu"]


@dataclass(frozen=True)
class Processor:
    """What does the arithmetic.

    Attributes:
        name: in devices/tables/processors.toml.
        family: of processors that are expected to be alike.
        group: of families.
        kind: "cpu", "edgetpu" or "gpu".
        ghz: 0 if no source states it.
        cores: of one kind; 0 if boards differ.
        macs: most multiply-adds a cycle and core, in 32-bit floats and in int8.
        wide: True where int8 has dot products.
    """

    name: str
    family: str
    group: str
    kind: MachineKind
    ghz: float
    cores: int
    macs: tuple[int, int]
    wide: bool


@dataclass(frozen=True)
class Figure:
    """A measured latency.

    Attributes:
        model: a name in `published_networks`.
        processor: in devices/tables/processors.toml.
        engine: that ran it: "ncnn", "xnnpack", "opencv" ...
        precision: "fp32", "fp16" or "int8".
        cores: that worked on it.
        ms: of one image.
        source: where it is published.
        ghz: of the processor at the time; 0 for its usual clock.
        runtime: the engine in the source's own words, and what it says besides.
    """

    model: str
    processor: str
    engine: str
    precision: str
    cores: int
    ms: float
    source: str
    ghz: float = 0
    runtime: str = ""


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
def load_figures() -> tuple[Figure, ...]:
    """Return the published latencies of all boards and of devices/tables/latencies.toml."""
    return (*_of_boards(), *_of_table())


@functools.cache
def left_out() -> tuple[tuple[str, Latency], ...]:
    """Return (board, latency) of what is published and cannot be learnt from; `Latency.left_out` says why."""
    return tuple((profile.name, row) for profile in load_profiles() for row in profile.latencies if row.left_out)


def digest(figures: Iterable[Figure]) -> str:
    """Return the sha256 of all that a fit to these figures depends on."""
    values = [(f.model, f.processor, f.engine, f.precision, f.cores, f.ms, f.ghz) for f in figures]
    return hashlib.sha256(repr((values, read_table("processors"))).encode()).hexdigest()


def _of_boards() -> list[Figure]:
    return [
        Figure(
            model=row.model,
            processor=row.chip or profile.hardware.processor,
            engine=row.engine,
            precision=row.precision,
            cores=row.cores,
            ms=row.ms,
            source=row.source,
            runtime=row.runtime,
        )
        for profile in load_profiles()
        for row in profile.latencies
        if not row.left_out
    ]


def _of_table() -> list[Figure]:
    return [
        Figure(
            model=model,
            processor=rows["processor"],
            engine=rows["engine"],
            precision=precision,
            cores=rows["cores"],
            ms=ms,
            source=rows["source"],
            ghz=rows.get("ghz", 0),
        )
        for rows in read_table("latencies")["sets"]
        for precision in ("fp32", "int8")
        for model, ms in rows.get(precision, {}).items()
    ]
