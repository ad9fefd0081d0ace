"""The remote half of `edgecls COMMAND --host`: receives files, runs one command beside them, and removes them.

`host.py` sends this text to the remote Python, so it uses the standard library alone. stdin carries lines of JSON, each
followed by the bytes of its file, then line breaks as a heartbeat. stdout carries answers, which begin with a token
because a login script may print too, and then the output of the command.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

if sys.platform == "win32":
    raise ImportError("--host runs commands on Linux and macOS only: Windows has no SIGHUP and no alarm")

NEEDED = ("edgecls", "click", "numpy", "PIL")
CHUNK_BYTES = 1 << 16
# A connection whose cable was pulled stays open and silent.
PATIENCE_S = 60
# A benchmark may take this long to end its workers.
GRACE_S = 20
STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


def serve(token: str, stream: IO[bytes]) -> int:
    """Run the requested command in a temporary folder and return its exit status; `token` begins every answer."""
    for number in STOPPING:
        signal.signal(number, _stop)
    _answer(token, describe())
    try:
        folder = Path(tempfile.mkdtemp(prefix="edgecls-"))
    except OSError as error:
        _answer(token, {"error": str(error)})
        return 1
    try:
        try:
            arguments = _receive(folder, stream)
        except OSError as error:
            _answer(token, {"error": str(error)})
            return 1
        _answer(token, {})
        return _run(arguments, folder)
    finally:
        shutil.rmtree(folder)


def describe() -> dict[str, Any]:
    """Return the facts about this Python that decide whether files are copied."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    marked = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists() and sys.prefix == sys.base_prefix
    narrow = platform.machine() == "aarch64" and sys.maxsize < 2**32
    installed = [each.version for each in importlib.metadata.distributions(name="edgecls")]
    return {
        "python": list(sys.version_info[:3]),
        "machine": "armv7l" if narrow else platform.machine(),
        "missing": missing,
        "edgecls": installed[0] if installed else "of unknown version",
        # Debian does not let pip change its Python.
        "pip": importlib.util.find_spec("pip") is not None and not marked,
    }


def _answer(token: str, value: dict[str, Any]) -> None:
    sys.stdout.write(f"{token}{json.dumps(value)}\n")
    sys.stdout.flush()


def _receive(folder: Path, stream: IO[bytes]) -> list[str]:
    """Write the received files into `folder` and return the arguments of the command."""
    while True:
        signal.alarm(PATIENCE_S)
        # A cut connection gives an empty line.
        entry = json.loads(stream.readline() or "null") or sys.exit(1)
        if "run" in entry:
            signal.alarm(0)
            arguments: list[str] = entry["run"]
            return arguments
        path = folder / entry["name"]
        path.parent.mkdir(exist_ok=True)
        with path.open("xb") as file:
            left = entry["bytes"]
            while left:
                signal.alarm(PATIENCE_S)
                chunk = stream.read(min(left, CHUNK_BYTES)) or sys.exit(1)
                left -= file.write(chunk)


def _run(arguments: list[str], folder: Path) -> int:
    # Temporary files of the engines are removed with the folder.
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "edgecls", *arguments]
    child = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, env=environment)
    # The new thread must not receive the signals: the main thread, which waits, would not wake.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    threading.Thread(target=_watch, args=(child,), daemon=True).start()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        status = child.wait()
    except SystemExit:
        _end(child)
        raise
    return status if status >= 0 else 128 - status


def _watch(child: subprocess.Popen[bytes]) -> None:
    """End the command when the heartbeat stops."""
    while select.select([0], [], [], PATIENCE_S)[0] and os.read(0, CHUNK_BYTES):
        pass
    _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGINT)
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _stop(number: int, _: object) -> None:
    # The end of a session sends several signals; cleaning up must not be interrupted. SIG_IGN would make Python warn
    # of a signal that is pending, so a function ignores them.
    for other in STOPPING:
        signal.signal(other, _ignore)
    sys.exit(128 + number)


def _ignore(number: int, _: object) -> None:
    pass


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1], sys.stdin.buffer))
