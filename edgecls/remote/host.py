"""Run one edgecls command on a host over the system's ssh: copy files, return the output, leave nothing there.

One connection carries everything, so the user's own ssh configuration, keys and jump hosts apply. `agent.py` is the
remote half.
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
# Several within the PATIENCE_S of agent.py.
HEARTBEAT_S = 10.0
# How long to wait for the remote half to end. It also ends by itself.
SHUTDOWN_S = 10.0
OPTIONS = {
    "ConnectTimeout": "15",
    # A board that lost its power is given up after half a minute.
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "3",
    # An existing shared connection is used. A new one would leave a process behind that keeps stderr open.
    "ControlMaster": "no",
    "ClearAllForwardings": "yes",
    "RemoteCommand": "none",
    "RequestTTY": "no",
}
# Python 2 must parse it too. A file in the home folder must not shadow a module.
_START = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "sys.version_info >= {oldest} or sys.exit(sys.stdout.write("
    """sys.argv[1] + '{{"old": "' + sys.version.split()[0] + '"}}' + chr(10))); """
    "exec(sys.stdin.buffer.read(int(sys.argv[2])))"
)


@dataclass(frozen=True)
class Host:
    """A machine that ssh reaches."""

    name: str  # as ssh takes it: `user@name`, `ssh://user@name:port`, or a name in the user's ssh configuration
    python: str = "python3"  # path to Python on the board
    asks: bool = False  # whether ssh may ask for a password or about a new host key; without a terminal it would hang

    @property
    def quoted_python(self) -> str:
        """Return `python` quoted for the remote shell, which still expands "~/"."""
        if self.python.startswith("~/"):
            return f"~/{shlex.quote(self.python[2:])}"
        return shlex.quote(self.python)

    def shell_line(self, token: str, size: int) -> str:
        """Return the remote command line: start this Python and let it read a program of `size` bytes."""
        start = _START.format(oldest=OLDEST_PYTHON)
        return f"exec {self.quoted_python} -c {shlex.quote(start)} {shlex.quote(token)} {size}"

    def ssh_command(self, line: str) -> list[str]:
        """Return the ssh command that runs a line in the remote shell."""
        options = OPTIONS if self.asks else OPTIONS | {"BatchMode": "yes"}
        return ["ssh", *(f"-o{name}={value}" for name, value in options.items()), "--", self.name, line]


class Connection:
    """One ssh process, and the remote Python that it started. `connect` opens and closes it.

    Attributes:
        facts: what `agent.describe` returned.
    """

    def __init__(self, host: Host, report: Callable[[str], object]) -> None:
        self.host = host
        self.facts: dict[str, Any] = {}
        self._token = f"{secrets.token_hex(8)} "
        self._report = report
        self._doing = ""
        self._stderr_lines: list[str] = []
        self._lock, self._closing = threading.Lock(), threading.Event()
        program = Path(__file__).with_name("agent.py").read_bytes()
        command = host.ssh_command(host.shell_line(self._token, len(program)))
        try:
            self._ssh = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except FileNotFoundError as error:
            raise MissingDependency("--host needs the program ssh: apt-get install openssh-client") from error
        assert self._ssh.stdin and self._ssh.stdout and self._ssh.stderr
        self._input, self._output, self._errors = self._ssh.stdin, self._ssh.stdout, self._ssh.stderr
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._heartbeat = threading.Thread(target=self._send_heartbeat, daemon=True)
        self._listener.start()
        self._write(program)

    def check_python(self, install: Callable[[dict[str, Any]], str]) -> None:
        """Return when the remote Python has answered that it can run edgecls.

        Args:
            install: returns the pip line that installs edgecls, given `facts`.

        Raises:
            RemoteError: ssh failed, or the Python is missing or has no edgecls.
        """
        facts = self._answer()
        host = self.host
        if "old" in facts:
            raise RemoteError(old_python_text(host.python, host.name, facts["old"], OLDEST_PYTHON))
        self.facts = facts
        if facts["missing"]:
            text = install_text(host.name, host.quoted_python, install(facts), facts["pip"])
            lacks = ", ".join(facts["missing"])
            raise RemoteError(f"{host.python} on {host.name} lacks {lacks}. {text}. Or name another with --python")
        with self._lock:
            self._doing = "copying files to it"
            for line in self._stderr_lines:
                self._report(line)

    def send(self, files: Mapping[str, Path | bytes], progress: Progress = silent) -> None:
        """Copy files.

        Args:
            files: `FileBundle.files`.
            progress: called after each file.

        Raises:
            DataError: a file cannot be opened, or became shorter while it was copied.
        """
        for place, (name, source) in enumerate(files.items()):
            with _open(source) as file:
                self._send_file(name, file)
            if self._ssh.poll() is not None:
                break  # The answer that `run` reads says why.
            progress(f"copying to {self.host.name}", place + 1, len(files))

    def run(self, arguments: Sequence[str]) -> Iterator[str]:
        """Yield the lines of the command's stdout as they come.

        Args:
            arguments: of edgecls, with the remote names of `FileBundle`.

        Raises:
            RemoteError: the files did not arrive.
        """
        self._write(_line({"run": list(arguments)}))
        self._heartbeat.start()
        answer = self._answer()
        if "error" in answer:
            raise RemoteError(
                f"{self.host.name} cannot store the files: {answer['error']}. Free space on it, or copy fewer images"
            )
        self._doing = f"running {arguments[0]}"
        for line in self._output:
            yield line.decode(errors="replace").removesuffix("\n")

    def finish(self) -> int:
        """Wait for the command and return its exit status, 0 to 2.

        Raises:
            RemoteError: the connection or the command was cut off.
        """
        status = self._wait()
        if status == SSH_FAILED:
            raise RemoteError(cut_text(self.host.name, self._doing, self._stderr_lines))
        if status > 2:
            raise RemoteError(
                f"edgecls on {self.host.name} ended with exit status {status}"
                f"{' (killed: its memory may be too small)' if status == 137 else ''}. Its messages are above"
            )
        return status

    def close(self) -> None:
        """End the remote command, if it still runs, and the connection."""
        self._closing.set()
        if self._heartbeat.is_alive():
            self._heartbeat.join()
        # The remote half stops at the end of its input.
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        try:
            self._ssh.wait(SHUTDOWN_S)
        except subprocess.TimeoutExpired:
            self._ssh.terminate()
        self._wait()
        self._output.close()
        self._errors.close()

    @property
    def last_stderr_line(self) -> str:
        """Return the last line of the host's stderr, or ""."""
        return self._stderr_lines[-1] if self._stderr_lines else ""

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
            raise RemoteError(cut_text(self.host.name, self._doing, self._stderr_lines))
        raise RemoteError(start_text(self.host.name, self.host.python, status, [*said, *self._stderr_lines]))

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
        # If nobody reads any more, the missing answer becomes the error.
        with contextlib.suppress(BrokenPipeError):
            self._input.write(data)
            self._input.flush()

    def _listen(self) -> None:
        for line in self._errors:
            text = line.decode(errors="replace").rstrip()
            with self._lock:
                self._stderr_lines.append(text)
                # Lines before the first answer are of ssh and belong to an error. Lines after `close` only say that the
                # command was stopped.
                if self._doing and not self._closing.is_set():
                    self._report(text)

    def _send_heartbeat(self) -> None:
        while not self._closing.wait(HEARTBEAT_S):
            self._write(b"\n")


def _open(source: Path | bytes) -> IO[bytes]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        return source.open("rb")
    except OSError as error:
        raise DataError(f"cannot copy {source}: {error.strerror}. Check that the file still exists") from error


def _line(value: dict[str, Any]) -> bytes:
    return f"{json.dumps(value)}\n".encode()


@contextlib.contextmanager
def connect(
    host: Host, install: Callable[[dict[str, Any]], str], report: Callable[[str], object]
) -> Iterator[Connection]:
    """Yield a connection to a host whose Python has edgecls.

    Args:
        host: to connect to.
        install: see `Connection.check_python`.
        report: gets each line of the command's stderr, from another thread.

    Raises:
        MissingDependency: this machine has no ssh. RemoteError: see `Connection.check_python`.
    """
    connection = Connection(host, report)
    try:
        connection.check_python(install)
        yield connection
    finally:
        connection.close()
