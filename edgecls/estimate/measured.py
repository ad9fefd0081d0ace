"""Latencies measured on the board itself, read from a benchmark record."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgecls.benchmark.record import Record, Result, read_record
from edgecls.boards.profiles import Profile
from edgecls.errors import ConfigError
from edgecls.estimate.estimate import KERNELS, BoardMeasurement, make_run
from edgecls.estimate.graph_operators import read_network
from edgecls.estimate.published_latencies import load_processor

# Device of a result -> kind of processor.
KINDS = {"cpu": "cpu", "edgetpu": "edgetpu", "cuda": "gpu"}


def read_measured(path: Path, profile: Profile, files: Iterable[Path] = ()) -> tuple[BoardMeasurement, ...]:
    """Return the latencies that `edgecls benchmark --json` measured on a board.

    The measured file is looked for among `files`, under its own path, and beside the record.

    Raises:
        BenchmarkError: no such record, or damaged.
        ConfigError: it is from another board, nothing in it can be used, or the measured file is missing.
    """
    record = read_record(path)
    _check_board(record, profile, path)
    kind = load_processor(profile.hardware.processor).kind
    reasons = [_why_not(result, kind) for result in record.results]
    results = [result for result, reason in zip(record.results, reasons, strict=True) if not reason]
    if not results:
        names = map(record.name_of, record.results)
        listed = "; ".join(f"{name}: {why}" for name, why in zip(names, reasons, strict=True))
        raise ConfigError(f"no result in {path} can calibrate {profile.name} ({listed}); measure a file for that board")
    return tuple(_measured(result, profile, path, list(files)) for result in results)


def _check_board(record: Record, profile: Profile, path: Path) -> None:
    board, arch = str(record.machine.get("board") or ""), record.machine.get("arch")
    machines = {system.machine for system in profile.systems}
    is_other = bool(profile.device_tree) and bool(board) and not board.startswith(profile.device_tree)
    if is_other or arch not in machines:
        was = board or f"a machine of {arch}"
        raise ConfigError(
            f"{path} was measured on {was}, not on {profile.title}; measure on that board, or choose the right --board"
        )


def _why_not(result: Result, kind: str) -> str:
    if result.scope != "invoke":
        return f"its scope is {result.scope}, not invoke"
    if not result.valid:
        return f"it is not valid: {', '.join(result.causes)}"
    if KINDS.get(result.device) != kind:
        return f"it ran on {result.device}"
    return "" if kind != "cpu" or result.engine in KERNELS else f"it ran in {result.engine}"


def _measured(result: Result, profile: Profile, path: Path, files: list[Path]) -> BoardMeasurement:
    """Return a result with its network, which is not in the record: the file is found by its sha256."""
    for file in (*files, Path(result.file), path.parent / Path(result.file).name):
        if not file.is_file():
            continue
        network, spec = read_network(file)
        if spec.graph_sha256 == result.model["sha256"]:
            run = make_run(network, profile, str(result.model["precision"]), result.engine, result.threads)
            return BoardMeasurement(run, result.p50_ms)
    raise ConfigError(
        f"the measured file {result.file!r} is missing, and its layers are needed; put it beside the record"
    )
