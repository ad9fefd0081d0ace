"""This machine as a board: a real sshd on loopback with keys, configuration and temporary folder of its own."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class BoardSshd:
    """A board called "board" for every ssh that finds `bin` first in PATH.

    Attributes:
        folder: of keys and configurations.
        temporary: the board's folder for temporary files.
        bin: holds an ssh that reads `config` instead of the user's configuration.
        config: of ssh.
        known_hosts: with the board's key.
        python: starts the Python of these tests, with this edgecls.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.temporary, self.bin = folder, folder / "tmp", folder / "bin"
        self.config, self.known_hosts = folder / "config", folder / "known_hosts"
        self.temporary.mkdir()
        self.bin.mkdir()
        for name in ("host", "user", "other"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(command, check=True, timeout=WAIT_S)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.python = self.add_python("python")
        write_script(self.bin / "ssh", f'exec {shutil.which("ssh")} -F {shlex.quote(str(self.config))} "$@"')
        self.reset()
        self.process = self._start()

    def add_python(self, name: str, *lines: str, path: Path | None = None) -> Path:
        """Return a Python of the board that runs shell `lines` first and finds modules in `path` first."""
        paths = os.pathsep.join(str(each) for each in (path, ROOT) if each)
        start = f'exec {shlex.quote(sys.executable)} "$@"'
        return write_script(self.folder / name, *lines, f"export PYTHONPATH={shlex.quote(paths)}", start)

    def reset(self, **changes: object) -> None:
        """Write what ssh reads of the user: a configuration with `changes`, and the board's key."""
        options = {
            "HostName": "127.0.0.1",
            "Port": self.port,
            "IdentityFile": self.folder / "user",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
        }
        self.config.write_text("Host board\n" + "".join(f"  {k} {v}\n" for k, v in (options | changes).items()))
        self.know("host")

    def know(self, key: str) -> None:
        """Let the user's ssh take this key for the board's."""
        kind, value, *_ = (self.folder / f"{key}.pub").read_text().split()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {value}\n")

    def cut(self) -> None:
        """End every connection as a pulled plug does: without a word."""
        for pid in _descendants(self.process.pid):
            if _name(pid).startswith("sshd"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def wait_until_left(self) -> None:
        """Return when nothing of the board's work is left: no file, no process; fail if that does not come."""
        deadline = time.monotonic() + WAIT_S
        while left := [*self.temporary.iterdir(), *self._processes()]:
            assert time.monotonic() < deadline, f"left on the board: {left}"
            time.sleep(0.05)

    def wait_until_working(self) -> None:
        """Return when a command runs in a folder of its own."""
        deadline = time.monotonic() + WAIT_S
        while not self._processes():
            assert time.monotonic() < deadline, "nothing began to work on the board"
            time.sleep(0.05)

    def _processes(self) -> list[int]:
        """Return the processes whose working folder is, or was, a temporary one."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cwd"):
            with contextlib.suppress(OSError):
                if str(entry.readlink()).startswith(f"{self.temporary}/"):
                    found.append(int(entry.parent.name))
        return found

    def _start(self) -> subprocess.Popen[bytes]:
        assert SSHD is not None
        (self.folder / "authorized_keys").write_text((self.folder / "user.pub").read_text())
        options = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.folder / "host",
            "AuthorizedKeysFile": self.folder / "authorized_keys",
            "PidFile": "none",
            "UsePAM": "no",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "SetEnv": f"TMPDIR={self.temporary}",
        }
        (self.folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        if os.geteuid() == 0:
            # Debian's service makes it.
            Path("/run/sshd").mkdir(exist_ok=True)
        log = (self.folder / "sshd.log").open("wb")
        with log:
            process = subprocess.Popen([SSHD, "-D", "-e", "-f", self.folder / "sshd_config"], stderr=log)
        deadline = time.monotonic() + WAIT_S
        while b"Server listening" not in (self.folder / "sshd.log").read_bytes():
            assert process.poll() is None and time.monotonic() < deadline, (self.folder / "sshd.log").read_text()
            time.sleep(0.02)
        return process


@contextlib.contextmanager
def start_sshd(folder: Path) -> Iterator[BoardSshd]:
    """Yield a board; the test is skipped where there is no sshd."""
    if SSHD is None:
        pytest.skip("no sshd: apt-get install openssh-server")
    board = BoardSshd(folder)
    try:
        yield board
    finally:
        board.cut()
        board.process.terminate()
        board.process.wait(WAIT_S)


def write_script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return path


def _descendants(pid: int) -> list[int]:
    children = [int(text) for text in _read(f"/proc/{pid}/task/{pid}/children").split()]
    return children + [each for child in children for each in _descendants(child)]


def _name(pid: int) -> str:
    return _read(f"/proc/{pid}/comm").strip()


def _read(path: str) -> str:
    """Return what the system says of a process, nothing if it has ended meanwhile."""
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
