"""Run one edgecls command on a board, over the system's ssh: files go there, output comes back, nothing stays.

One connection carries everything, so that the user's own ssh configuration, keys and jump hosts are what counts.
`agent.py` is the other end. Python's standard library alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edgecls.errors import DataError, MissingDependency, RemoteError
from edgecls.progress import Progress, silent
from edgecls.remote.ssh_errors import SSH_FAILED, cut_text, install_text, old_python_text, start_text

OLDEST_PYTHON = (3, 10)
CHUNK_BYTES = 1 << 16
# Several within the board's patience.
BEAT_S = 10.0
# For the board to end its work, before its answer is waited for no longer; it does so all the same.
GOODBYE_S = 10.0
OPTIONS = {
    "ConnectTimeout": "15",
    # A board that lost its power says nothing: given up after half a minute.
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "3",
    # A shared connection may be used. Beginning one would leave a process behind that keeps stderr open.
    "ControlMaster": "no",
    "ClearAllForwardings": "yes",
    "RemoteCommand": "none",
    "RequestTTY": "no",
}
# Python 2 must understand it. A file in the home folder must not stand in for a module.
_START = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "sys.version_info >= {oldest} or sys.exit(sys.stdout.write("
    """sys.argv[1] + '{{"old": "' + sys.version.split()[0] + '"}}' + chr(10))); """
    "exec(sys.stdin.buffer.read(int(sys.argv[2])))"
)


@dataclass(frozen=True)
class Host:
    """A machine that ssh reaches.

    Attributes:
        name: as ssh takes it: `user@name`, `ssh://user@name:port`, or a name in the user's ssh configuration.
        python: the Python there that has edgecls.
        asks: whether ssh may ask for a password or about a new host key; without a terminal it would hang.
    """

    name: str
    python: str = "python3"
    asks: bool = False

    @property
    def quoted_python(self) -> str:
        """Return `python` for the shell there, which still knows its own home folder: "~/env/bin/python"."""
        if self.python.startswith("~/"):
            return f"~/{shlex.quote(self.python[2:])}"
        return shlex.quote(self.python)

    def shell_line(self, token: str, size: int) -> str:
        """Return what the shell there is given: start this Python, and let it read `size` bytes of program."""
        start = _START.format(oldest=OLDEST_PYTHON)
        return f"exec {self.quoted_python} -c {shlex.quote(start)} {shlex.quote(token)} {size}"

    def ssh_command(self, line: str) -> list[str]:
        """Return the ssh command that runs a line in the shell there."""
        options = OPTIONS if self.asks else OPTIONS | {"BatchMode": "yes"}
        return ["ssh", *(f"-o{name}={value}" for name, value in options.items()), "--", self.name, line]


class Connection:
    """One ssh process, and the Python that it started on a board. `connect` makes and ends it.

    Attributes:
        facts: what `remote_board.describe` said of that Python.
    """

    def __init__(self, host: Host, tell: Callable[[str], object]) -> None:
        self.host = host
        self.facts: dict[str, Any] = {}
        self._token = f"{secrets.token_hex(8)} "
        self._tell = tell
        self._doing = ""
        self._heard: list[str] = []
        self._lock, self._over = threading.Lock(), threading.Event()
        program = Path(__file__).with_name("agent.py").read_bytes()
        command = host.ssh_command(host.shell_line(self._token, len(program)))
        try:
            self._ssh = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except FileNotFoundError as error:
            raise MissingDependency("--host needs the program ssh: apt-get install openssh-client") from error
        assert self._ssh.stdin and self._ssh.stdout and self._ssh.stderr
        self._input, self._output, self._errors = self._ssh.stdin, self._ssh.stdout, self._ssh.stderr
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._listener.start()
        self._write(program)

    def greet(self, install: Callable[[dict[str, Any]], str]) -> None:
        """Return when the Python there has said that it can run edgecls.

        Args:
            install: returns, of `facts`, the pip line that would install it.

        Raises:
            RemoteError: ssh failed, or there is no such Python, or it has no edgecls.
        """
        facts = self._answer()
        host = self.host
        if "old" in facts:
            raise RemoteError(old_python_text(host.python, host.name, facts["old"], OLDEST_PYTHON))
        self.facts = facts
        if facts["missing"]:
            text = install_text(host.name, host.quoted_python, install(facts), facts["pip"])
            lacks = ", ".join(facts["missing"])
            raise RemoteError(f"{host.python} on {host.name} lacks {lacks}. {text}; or name another with --python")
        with self._lock:
            self._doing = "copying files to it"
            for line in self._heard:
                self._tell(line)

    def send(self, files: Mapping[str, Path | bytes], progress: Progress = silent) -> None:
        """Copy files.

        Args:
            files: `FileBundle.files`.
            progress: told of each.

        Raises:
            DataError: a file cannot be opened, or became shorter meanwhile.
        """
        for place, (name, source) in enumerate(files.items()):
            with _open(source) as file:
                self._send_file(name, file)
            if self._ssh.poll() is not None:
                break  # Why, its answer tells.
            progress(f"copying to {self.host.name}", place + 1, len(files))

    def run(self, arguments: Sequence[str]) -> Iterator[str]:
        """Yield the lines that the command prints to stdout there, as they come.

        Args:
            arguments: of edgecls, with the names that `FileBundle` gave.

        Raises:
            RemoteError: the files did not arrive.
        """
        self._write(_line({"run": list(arguments)}))
        self._heart.start()
        answer = self._answer()
        if "error" in answer:
            raise RemoteError(
                f"{self.host.name} cannot keep the files: {answer['error']}; make room there, or copy fewer images"
            )
        self._doing = f"running {arguments[0]}"
        for line in self._output:
            yield line.decode(errors="replace").removesuffix("\n")

    def finish(self) -> int:
        """Return the command's exit status, 0 to 2, when it has ended.

        Raises:
            RemoteError: the connection was cut, or the command was.
        """
        status = self._wait()
        if status == SSH_FAILED:
            raise RemoteError(cut_text(self.host.name, self._doing, self._heard))
        if status > 2:
            raise RemoteError(
                f"edgecls on {self.host.name} ended with exit status {status}"
                f"{', killed: its memory may be too small' if status == 137 else ''}; what it said stands above"
            )
        return status

    def close(self) -> None:
        """End the work there, if it still goes on, and the connection."""
        self._over.set()
        if self._heart.is_alive():
            self._heart.join()
        # The end of its input is what the other end stops at.
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        try:
            self._ssh.wait(GOODBYE_S)
        except subprocess.TimeoutExpired:
            self._ssh.terminate()
        self._wait()
        self._output.close()
        self._errors.close()

    @property
    def last_words(self) -> str:
        """Return the last line that came from the board's stderr, or ""."""
        return self._heard[-1] if self._heard else ""

    def _wait(self) -> int:
        status = self._ssh.wait()
        self._listener.join()
        return status

    def _answer(self) -> dict[str, Any]:
        said = []
        for line in self._output:
            text = line.decode(errors="replace")
            said.append(text.strip())
            _, found, answer = text.partition(self._token)
            if found:
                facts: dict[str, Any] = json.loads(answer)
                return facts
        status = self._wait()
        if self._doing and status == SSH_FAILED:
            raise RemoteError(cut_text(self.host.name, self._doing, self._heard))
        raise RemoteError(start_text(self.host.name, self.host.python, status, [*said, *self._heard]))

    def _send_file(self, name: str, file: IO[bytes]) -> None:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        self._write(_line({"name": name, "bytes": size}))
        while size:
            chunk = file.read(min(size, CHUNK_BYTES))
            if not chunk:
                raise DataError(f"{file.name} became shorter while it was copied; try again when it is complete")
            self._write(chunk)
            size -= len(chunk)

    def _write(self, data: bytes) -> None:
        # If nobody reads any more, the answer that is missing, or that says why, tells.
        with contextlib.suppress(BrokenPipeError):
            self._input.write(data)
            self._input.flush()

    def _listen(self) -> None:
        for line in self._errors:
            text = line.decode(errors="replace").rstrip()
            with self._lock:
                self._heard.append(text)
                # Until the Python there has answered, it is ssh that speaks: a part of the error, if there is one. What
                # a command says of being stopped is no news to who stops it.
                if self._doing and not self._over.is_set():
                    self._tell(text)

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            self._write(b"\n")


def _open(source: Path | bytes) -> IO[bytes]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        return source.open("rb")
    except OSError as error:
        raise DataError(f"cannot copy {source}: {error.strerror}; check that it is still there") from error


def _line(value: dict[str, Any]) -> bytes:
    return f"{json.dumps(value)}\n".encode()


@contextlib.contextmanager
def connect(
    host: Host, install: Callable[[dict[str, Any]], str], tell: Callable[[str], object]
) -> Iterator[Connection]:
    """Yield a connection to a board whose Python has edgecls.

    Args:
        host: to connect to.
        install: see `Connection.greet`.
        tell: gets each line of the command's stderr, from another thread.

    Raises:
        MissingDependency: there is no ssh here.
        RemoteError: see `Connection.greet`.
    """
    connection = Connection(host, tell)
    try:
        connection.greet(install)
        yield connection
    finally:
        connection.close()
