"""Build sdist and wheel, look into them, and use every extra in fresh environments; exit with 1 if anything fails."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from packages.contents import build_packages, check_contents
from packages.environments import BOUNDS, CommandFailed, make_environment
from packages.smoke import FORMATS, use

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# What the table shows of an environment: the packages that pyproject.toml names.
SHOWN = (
    *("numpy", "pillow", "click", "ai-edge-litert", "onnxruntime", "onnxruntime-gpu", "openvino"),
    *("mlcommons-loadgen", "ray", "pyarrow", "tensorflow", "keras", "tf2onnx", "onnx", "matplotlib", "jinja2", "rich"),
)


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m packages", description=__doc__)
    parser.add_argument("run", type=Path, help="the run folder of `edgecls demo`, with files that passed")
    parser.add_argument("--python", action="append", help="version or path; may be repeated (default: 3.10 to 3.13)")
    parser.add_argument("--extra", action="append", choices=FORMATS, help="may be repeated (default: all of them)")
    parser.add_argument("--bounds", choices=BOUNDS, action="append", help="of dependencies (default: both)")
    arguments = parser.parse_args()
    pythons = arguments.python or [python for python in PYTHONS if _is_here(python)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sdist, wheel = build_packages(folder)
        faults = check_contents(sdist, wheel)
        _print(*faults, f"{sdist.name} {sdist.stat().st_size:,} bytes, {wheel.name} {wheel.stat().st_size:,} bytes")
        for python in pythons:
            for extra in arguments.extra or FORMATS:
                for bounds in arguments.bounds or BOUNDS:
                    with tempfile.TemporaryDirectory(dir=folder) as environment:
                        fault = _try(Path(environment) / "e", python, extra, bounds, wheel, arguments.run.resolve())
                    faults += [fault] if fault else []
    _print(f"{len(faults)} faults")
    return 1 if faults or not pythons else 0


def _is_here(python: str) -> bool:
    found = subprocess.run(["uv", "python", "find", "--quiet", "--no-python-downloads", python], capture_output=True)
    if found.returncode:
        _print(f"left out: there is no Python {python} on this machine")
    return found.returncode == 0


def _try(folder: Path, python: str, extra: str, bounds: str, wheel: Path, run: Path) -> str:
    """Return what failed, or ""."""
    title, start, shown = f"{python} {f'[{extra}]' if extra else 'no extra'} {bounds}", time.monotonic(), ""
    try:
        environment = make_environment(folder, python, extra, bounds, wheel)
        title = title.replace(python, environment.python, 1)
        shown = ", ".join(f"{name} {environment.packages[name]}" for name in SHOWN if name in environment.packages)
        use(environment, extra, run)
    except CommandFailed as error:
        _print(f"{title}: FAILED ({shown})", str(error))
        return title
    _print(f"{title}: ok, {time.monotonic() - start:.0f} s ({shown})")
    return ""


def _print(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
