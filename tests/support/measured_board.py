"""A benchmark's record as a board gives it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from benchmark_files import MACHINE, make_record, make_result

from edgecls.benchmark.record import Record, write_record
from edgecls.model_file.read import read_spec


def measured_record(path: Path, file: Path, board: str = "Raspberry Pi 4 Model B Rev 1.4", **changes: object) -> Record:
    model = {"sha256": read_spec(file).graph_sha256, "precision": "int8"}
    result = make_result(file=str(file), threads=4)
    result = dataclasses.replace(result, model=result.model | model, **changes)  # type: ignore[arg-type]
    record = make_record(result)
    record = dataclasses.replace(record, machine=MACHINE | {"board": board})
    write_record(record, path)
    return record
