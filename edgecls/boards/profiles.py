"""Boards: what each is, what installs there, what suits it. The data are TOML files in `devices/`.

Imports the standard library, `errors`, `validation` and `targets` only: a board must be able to ask.
"""

from __future__ import annotations

import functools
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

# Of an installed wheel, and of a checkout.
FOLDERS = (Path(__file__).parents[1] / "devices_data", Path(__file__).parents[2] / "devices")
# pyproject.toml's requires-python.
MIN_PYTHON = "3.10"
# Packages that run a kind of file, the one to be preferred first.
PACKAGES: dict[Format, tuple[str, ...]] = {"tflite": ("ai-edge-litert", "tflite-runtime"), "onnx": ("onnxruntime",)}
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
    tflite: str = ""  # the TensorFlow Lite release that it is; "" if it takes the files of every one
    opset: int = 0  # the newest that it loads; 0 for packages that read no ONNX, or if not known
    ir: int = 0
    numpy_max: int = 0  # newest major version of NumPy; 0 for any


@dataclass(frozen=True)
class System:
    """An operating system as it comes: its machine as `platform.machine` says it, its Python and its C library."""

    title: str
    machine: str
    python: str
    glibc: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class Latency:
    """A published time of one image, of somebody else's measurement. The last four are for `edgecls estimate`."""

    model: str
    runtime: str
    precision: str
    threads: str
    ms: float
    source: str
    engine: str = ""
    cores: int = 0  # that worked on it
    chip: str = ""  # in tables/processors.toml, where it is not the board's own
    left_out: str = ""  # why nothing can be learnt from it


@dataclass(frozen=True)
class Hardware:
    """What a board is made of; 0 or "the host's" where it differs."""

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
    """What to run on a board, and why."""

    format: Format
    precision: str
    engine: str
    threads: int
    why: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Profile:
    """A board.

    Attributes:
        name: what `--device` takes.
        title: for people.
        export_target: how int8 files must be made for it: a name in `export.targets`.
        systems: what it may run, the usual one first.
        hardware: what it is made of.
        recommended: what to run on it.
        latencies: published ones.
        accelerator: "edgetpu", "cuda" or "".
        device_tree: how /proc/device-tree/model begins on it; "" if it has none.
        notes: what one should know.
    """

    name: str
    title: str
    export_target: str
    systems: tuple[System, ...]
    hardware: Hardware
    recommended: Recommended
    latencies: tuple[Latency, ...] = ()
    accelerator: str = ""
    device_tree: str = ""
    notes: tuple[str, ...] = ()


def device_names() -> tuple[str, ...]:
    """Return the names of all boards, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def load_profile(name: str) -> Profile:
    """Return the board of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in device_names():
        raise ConfigError(f"no device {name!r}; 'edgecls devices' lists them: {', '.join(device_names())}")
    try:
        raw = _read(f"{name}.toml")
        if "extends" in raw:
            # What the 32-bit system of a board does not change.
            base = _without(_read(f"{raw['extends']}.toml"), "latencies", "device_tree")
            raw = base | _without(raw, "extends")
        systems = _read("tables/systems.toml")
        whole = raw | {"name": name, "systems": [systems[key] for key in raw["systems"]]}
        return build(Profile, whole, "it")
    except (ValueError, KeyError, TypeError, OSError) as error:
        path = _folder() / f"{name}.toml"
        raise ConfigError(f"the profile {path} cannot be used ({error}); mend it, or install edgecls again") from error


def load_profiles() -> tuple[Profile, ...]:
    """Return all boards, sorted by name."""
    return tuple(load_profile(name) for name in device_names())


def export_target(name: str | None) -> str | None:
    """Return the export target of a board; a target's own name, and None, stay as they are.

    Raises:
        ConfigError: neither a board nor a target.
    """
    if name is None or name in TARGETS:
        return name
    if name not in device_names():
        raise ConfigError(
            f"--device must be one of {', '.join(device_names())} or one of {', '.join(TARGETS)}; received {name!r}"
        )
    return load_profile(name).export_target


@functools.cache
def load_wheels() -> tuple[Wheel, ...]:
    """Return what PyPI offers, the newest first for each package."""
    return tuple(build(Wheel, row, "a wheel") for row in _read("tables/wheels.toml")["wheel"])


def find_wheel(package: str, system: System) -> Wheel | None:
    """Return the newest wheel of a package that installs on a system, or None."""
    return next((wheel for wheel in load_wheels() if wheel.package == package and _fits(wheel, system)), None)


def install_line(wheel: Wheel, system: System) -> str:
    """Return the pip line that is valid on a system for edgecls and this wheel."""
    packages = [f"'edgecls[{EXTRAS[wheel.package]}]'"]
    newest = next(other.version for other in load_wheels() if other.package == wheel.package)
    # The extra asks for a recent release. And 32-bit systems often run on a 64-bit kernel, which pip takes for 64-bit.
    if system.machine == "armv7l" or wheel.version != newest:
        packages = ["edgecls", f"'{wheel.package}=={wheel.version}'"]
    if version(system.python) < version(MIN_PYTHON):
        packages = [f"'{wheel.package}=={wheel.version}'"]
    if wheel.numpy_max:
        packages.append(f"'numpy<{wheel.numpy_max + 1}'")
    # Both install the same folder, and the one that came last wins.
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
    """Return a table that profiles share: a file in devices/tables."""
    return _read(f"tables/{name}.toml")


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
