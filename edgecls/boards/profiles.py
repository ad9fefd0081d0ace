"""Board profiles: hardware, systems, wheels and recommendations, read from the TOML files in `devices/`."""

from __future__ import annotations

import difflib
import functools
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecls.boards.targets import TARGETS
from edgecls.errors import ConfigError
from edgecls.limits import Format
from edgecls.validation import build

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# In an installed wheel, and in a checkout.
FOLDERS = (Path(__file__).parents[1] / "devices_data", Path(__file__).parents[2] / "devices")
# As in pyproject.toml's requires-python.
MIN_PYTHON = "3.10"
GPU_PACKAGE = "onnxruntime-gpu"
EXTRAS: dict[str, str] = {
    "ai-edge-litert": "litert",
    "tflite-runtime": "litert",
    "onnxruntime": "onnx",
    GPU_PACKAGE: "gpu",
    "openvino": "openvino",
}


@dataclass(frozen=True)
class Wheel:
    """One release of a package on PyPI, and where it installs."""

    package: str
    version: str
    machines: tuple[str, ...]
    python: tuple[str, str]  # the oldest and the newest
    glibc: str  # the oldest
    source: str
    tflite: str = ""  # its TensorFlow Lite release; "" if it runs the files of every release
    opset: int = 0  # the newest that it loads; 0 if it reads no ONNX or that is not known
    ir: int = 0
    numpy_max: int = 0  # newest major version of NumPy; 0 for any


@dataclass(frozen=True)
class System:
    """An operating system with its machine (as in `platform.machine`), Python and C library."""

    title: str
    machine: str
    python: str
    glibc: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class ProfileLatency:
    """A latency of one image that others published. The last five fields are for `edgecls estimate`."""

    model: str
    runtime: str
    precision: str
    threads: str
    ms: float
    source: str
    engine: str = ""
    cores: int = 0  # that were used
    chip: str = ""  # in tables/processors.toml, if it is not the board's own
    left_out: str = ""  # why it is not used
    bits: int = 0  # of the system, if the source has other latencies of the same board with another system


@dataclass(frozen=True)
class Hardware:
    """The hardware of a board; 0 or "the host's" where it differs between hosts."""

    soc: str
    cpu: str
    arch: str
    cores: int
    isa: tuple[str, ...]  # of neon, fp16, dotprod, i8mm, avx2, vnni
    memory_mb: int
    sources: tuple[str, ...]
    processor: str  # in tables/processors.toml
    memory_note: str = ""


@dataclass(frozen=True)
class Recommended:
    """The recommended file and engine for a board."""

    format: Format
    precision: str
    engine: str
    threads: int
    why: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Profile:
    """A board."""

    name: str  # the value of `--board`
    title: str  # for people
    export_target: str  # a name in `targets.TARGETS`, for int8 files
    systems: tuple[System, ...]  # operating systems, the usual one first
    hardware: Hardware  # processor and memory
    recommended: Recommended  # file and engine
    latencies: tuple[ProfileLatency, ...] = ()  # published ones
    accelerator: str = ""  # "edgetpu", "ethos-u", "torq", "cuda" or ""
    npu: str = ""  # of an Ethos-U: one of `npus` in tables/ethosu.toml
    device_tree: str = ""  # beginning of its /proc/device-tree/model; "" if it has none
    notes: tuple[str, ...] = ()  # for users


def board_names() -> tuple[str, ...]:
    """Return the names of all boards, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def load_profile(name: str) -> Profile:
    """Return the board of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in board_names():
        raise ConfigError(f"Unknown board {name!r}. {_suggest(name)}")
    try:
        raw = _read(f"{name}.toml")
        if "extends" in raw:
            # The 32-bit profile of a board repeats only what differs.
            base = _without(_read(f"{raw['extends']}.toml"), "latencies")
            raw = base | _without(raw, "extends")
        systems = _read("tables/systems.toml")
        whole = raw | {"name": name, "systems": [systems[key] for key in raw["systems"]]}
        return build(Profile, whole, "it")
    except (ValueError, KeyError, TypeError, OSError) as error:
        path = _folder() / f"{name}.toml"
        reason = f"the profile {path} cannot be used ({error}); correct it, or install edgecls again"
        raise ConfigError(reason) from error


def load_profiles() -> tuple[Profile, ...]:
    """Return all boards, sorted by name."""
    return tuple(load_profile(name) for name in board_names())


def export_target(name: str | None) -> str | None:
    """Return the export target of a board; the name of a target, and None, are returned unchanged.

    Raises:
        ConfigError: neither a board nor a target.
    """
    if name is None or name in TARGETS:
        return name
    if name not in board_names():
        raise ConfigError(f"Unknown board {name!r}. {_suggest(name)} Or give a target: {', '.join(TARGETS)}.")
    return load_profile(name).export_target


@functools.cache
def load_wheels() -> tuple[Wheel, ...]:
    """Return the wheels on PyPI, for each package the newest first."""
    return tuple(build(Wheel, row, "a wheel") for row in _read("tables/wheels.toml")["wheel"])


def find_wheel(package: str, system: System) -> Wheel | None:
    """Return the newest wheel of a package that installs on a system, or None."""
    return next((wheel for wheel in load_wheels() if wheel.package == package and _fits(wheel, system)), None)


def install_line(wheel: Wheel, system: System) -> str:
    """Return the pip command that installs edgecls and this wheel on a system."""
    packages = [f"'edgecls[{EXTRAS[wheel.package]}]'"]
    newest = next(other.version for other in load_wheels() if other.package == wheel.package)
    # The extra requires a recent release. And pip takes a 32-bit system on a 64-bit kernel for 64-bit.
    if system.machine == "armv7l" or wheel.version != newest:
        packages = ["edgecls", f"'{wheel.package}=={wheel.version}'"]
    if version(system.python) < version(MIN_PYTHON):
        packages = [f"'{wheel.package}=={wheel.version}'"]
    if wheel.numpy_max:
        packages.append(f"'numpy<{wheel.numpy_max + 1}'")
    # Both install the same folder, and the later one overwrites it.
    first = "pip uninstall -y onnxruntime && " if wheel.package == GPU_PACKAGE else ""
    return f"{first}pip install {' '.join(packages)}"


def version(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, for comparison: "2.14.0rc1" -> (2, 14, 0)."""
    numbers = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def read_table(name: str) -> dict[str, Any]:
    """Return a table of devices/tables, which all profiles share."""
    return _read(f"tables/{name}.toml")


def _suggest(name: str) -> str:
    """Return a sentence with the boards whose names resemble a mistyped one, or with the command that lists all."""
    plain = {re.sub(r"\W", "", board): board for board in board_names()}
    wanted = re.sub(r"\W", "", name.lower())
    near = [board for text, board in plain.items() if wanted and wanted in text]
    near = near or [plain[text] for text in difflib.get_close_matches(wanted, plain, n=3)]
    # The 32-bit twin of a board that is listed anyway is left out.
    near = [board for board in near if not any(board != other and board.startswith(other) for other in near)]
    return f"Did you mean {' or '.join(near)}?" if 0 < len(near) < 4 else "'edgecls devices' lists all boards."


def _fits(wheel: Wheel, system: System) -> bool:
    oldest, newest = map(version, wheel.python)
    return (
        system.machine in wheel.machines
        and oldest <= version(system.python)[:2] <= newest
        and version(wheel.glibc) <= version(system.glibc)
    )


def _folder() -> Path:
    return next((folder for folder in FOLDERS if folder.is_dir()), FOLDERS[0])


@functools.cache
def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((_folder() / name).read_text(encoding="utf-8"))


def _without(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}
