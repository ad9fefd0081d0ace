"""The sdist and the wheel: built as for a release, and what must lie in them."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# Named here, although git lists them too: without them a board, the demo, the report or a type checker fails.
NEEDED = (
    "edgecls/py.typed",
    "edgecls/demo_data/fashion-mnist.zip",
    "edgecls/devices_data/raspberry-pi-4b.toml",
    "edgecls/devices_data/tables/wheels.toml",
    "edgecls/report/report.html.jinja",
)


def build_packages(folder: Path) -> tuple[Path, Path]:
    """Return the sdist and the wheel that was made from it.

    Raises:
        SystemExit: they cannot be built, or PyPI would refuse them.
    """
    check_run([sys.executable, "-m", "build", "--outdir", folder, REPOSITORY])
    (sdist,), (wheel,) = folder.glob("edgecls-*.tar.gz"), folder.glob("edgecls-*.whl")
    check_run([sys.executable, "-m", "twine", "check", "--strict", sdist, wheel])
    return sdist, wheel


def check_contents(sdist: Path, wheel: Path) -> list[str]:
    """Return what is wrong with the files inside, one sentence each."""
    tracked = check_run(["git", "-C", REPOSITORY, "ls-files"]).splitlines()
    package = {name for name in tracked if name.startswith("edgecls/")}
    package |= {
        f"edgecls/devices_data/{name.removeprefix('devices/')}" for name in tracked if name.startswith("devices/")
    }
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if ".dist-info/" not in name}
    with tarfile.open(sdist) as tar:
        in_sdist = {name.split("/", 1)[1] for name in tar.getnames()} - {"PKG-INFO"}
    # What only a checkout needs begins with a dot.
    source = {name for name in tracked if not name.startswith(".")}
    return [
        *(f"the wheel lacks {name}" for name in sorted({*package, *NEEDED} - in_wheel)),
        *(f"the wheel holds {name}, which is no file of the package" for name in sorted(in_wheel - package)),
        *(f"the sdist lacks {name}" for name in sorted(source - in_sdist)),
        *(f"the sdist holds {name}, which git does not know" for name in sorted(in_sdist - {*tracked})),
    ]


def check_run(command: list[object], cwd: Path | None = None) -> str:
    """Return a command's stdout.

    Raises:
        SystemExit: it failed; the text holds the end of what it wrote.
    """
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        shown = " ".join(str(part) for part in command)
        raise SystemExit(f"{shown}\nexited with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-3000:]}")
    return done.stdout
