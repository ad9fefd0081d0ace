"""What is installed on a machine: the wheel of this repository with one engine, in a folder of its own."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from emulated_pi.machine import CACHE, Machine, run

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Kit:
    """One way to install edgecls, and a file to run with it.

    Attributes:
        file: the exported file.
        extra: of edgecls, or "".
        packages: what pip is asked for besides.
        tolerance: how far scores may be from x86's, as fractions of 1: of the median image, or of every one if `exact`.
        exact: whether every label must be x86's.
    """

    file: str
    extra: str
    packages: tuple[str, ...]
    tolerance: float
    exact: bool = True


# 2 of 255, the half for the comparison; in fp32, other vector widths add in another order.
INT8, FP32 = 2.5 / 255, 1e-3
TFLITE_RUNTIME = ("tflite-runtime==2.14.0", "numpy<2")
# Not exact: kernels that add in floats, or round in another order, move a value by one step here and there, and fifty
# int8 layers make up to 0.1 of it where the network is in doubt. With all of ONNX Runtime's optimizations off, x86 and
# ARM are as far from each other. LiteRT's kernels add in integers and round alike everywhere.
KITS = {
    "litert": Kit("model-int8.tflite", "litert", (), INT8),
    "litert-fp32": Kit("model-fp32.tflite", "litert", (), FP32),
    "onnx": Kit("model-int8.onnx", "onnx", (), INT8, exact=False),
    "onnx-fp32": Kit("model-fp32.onnx", "onnx", (), FP32),
    "tflite-runtime": Kit("model-int8.tflite", "", TFLITE_RUNTIME, INT8, exact=False),
}


def build_wheel(folder: Path) -> Path:
    """Return the wheel of this repository."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, REPOSITORY]
    subprocess.run([str(part) for part in command], check=True)
    (wheel,) = folder.glob("edgecls-*.whl")
    return wheel


def install(machine: Machine, kit: str, wheel: Path) -> list[Path]:
    """Return the folders of modules of a kit, installed by the machine's own pip, so that its wheels are chosen.

    Raises:
        SystemExit: pip found no wheels that fit.
    """
    # What the wheel requires decides what pip installs; the code itself is renewed every time.
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        extra, packages = KITS[kit].extra, KITS[kit].packages
        wanted = repr((extra, packages, sys.version_info[:2])).encode() + archive.read(metadata)
        name = f"{machine.arch or 'host'}-{extra or kit}-{hashlib.sha256(wanted).hexdigest()[:12]}"
        site = CACHE / "kits" / name
        if not site.is_dir():
            partial = site.with_name(f"{site.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            _pip_install(machine, kit, wheel, partial)
            partial.rename(site)
        shutil.rmtree(site / "edgecls")
        archive.extractall(site)
    return [site, machine.debian_packages] if machine.arch == "armhf" else [site]


def _pip_install(machine: Machine, kit: str, wheel: Path, target: Path) -> None:
    sys.stderr.write(f"installing {kit} on {machine.title}: a minute\n")
    extra = f"[{KITS[kit].extra}]" if KITS[kit].extra else ""
    wanted: list[str] = [f"{wheel}{extra}", *KITS[kit].packages]
    options = ["--quiet", "--no-compile", "--disable-pip-version-check", "--only-binary=:all:", "--target", str(target)]
    if machine.arch == "armhf":
        # NumPy and Pillow have no such wheels on PyPI; they are Debian's here, and piwheels' on a real board.
        wanted = [str(wheel), "click", TFLITE_RUNTIME[0]]
        options.append("--no-deps")
    pip = [machine.debian_packages] if machine.arch else _host_pip()
    done = run(machine, ["-m", "pip", "install", *options, *wanted], pip)
    if done.returncode:
        raise SystemExit(f"pip cannot install {wanted} on {machine.title}:\n{done.stdout}{done.stderr}")


def _host_pip() -> list[Path]:
    import pip

    return [Path(pip.__file__).parents[1]]
