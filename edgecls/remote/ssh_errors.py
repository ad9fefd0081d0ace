"""Error messages for a host that cannot be used, from the output of ssh and of the remote Python."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

# Exit statuses: of a shell, and of ssh for its own failures.
NOT_EXECUTABLE, NOT_FOUND, SSH_FAILED = 126, 127, 255
# Pattern in the output of ssh -> meaning and remedy. The first match counts.
_FAULTS = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {host} has changed: the board was reinstalled, or another machine answers under its name. "
        "If you know why, {forget}, then log in once by hand: ssh {host}",
    ),
    (
        "Host key verification failed|No .* host key is known",
        "this computer does not know the host key of {host} yet; log in once by hand and confirm it: ssh {host}",
    ),
    (
        "Could not resolve hostname",
        "no host has the name in {host!r}; check the spelling, or use the board's IP address",
    ),
    (
        "Permission denied|Too many authentication failures",
        "{host} asks for a password; copy your key to it once: ssh-copy-id {host}",
    ),
    (
        "Connection refused|timed out|No route to host|Network is unreachable|Connection reset|Connection closed",
        "{host} does not answer; check that it is on, in this network, and has ssh enabled (Raspberry Pi: "
        "raspi-config, Interface Options, SSH)",
    ),
)


def start_text(host: str, python: str, status: int, heard: Sequence[str]) -> str:
    """Return why no Python answered.

    Args:
        host: as the user gave it.
        python: the command that should have started.
        status: exit status of ssh, which is that of the remote shell if ssh itself did not fail.
        heard: lines that ssh and the remote shell printed.
    """
    said = "\n".join(filter(None, heard))
    for pattern, text in _FAULTS:
        if status == SSH_FAILED and re.search(pattern, said):
            found = re.search(r"ssh-keygen -f .*", said)
            forget = f"forget the old key: {found[0].strip()}" if found else "remove the old key from known_hosts"
            return f"{text.format(host=host, forget=forget)} ({_last(heard)})"
    if status in (NOT_EXECUTABLE, NOT_FOUND):
        return f"{host} has no Python {python!r}; install it, or name another with --python ({_last(heard)})"
    return f"{python!r} could not be started on {host}: exit status {status}; {said or 'it printed nothing'}"


def cut_text(host: str, doing: str, heard: Sequence[str]) -> str:
    """Return that the connection was cut, and during what."""
    return (
        f"the connection to {host} was cut while {doing} ({_last(heard, 'last line')}). The board ends the work and "
        "removes the copies by itself. Check its power and network, and repeat the command"
    )


def old_python_text(python: str, host: str, version: str, oldest: tuple[int, int]) -> str:
    """Return that the remote Python is too old."""
    needed = ".".join(map(str, oldest))
    return f"{python!r} on {host} is Python {version}, edgecls needs {needed} or newer; name another with --python"


def install_text(host: str, python: str, line: str, has_pip: bool) -> str:
    """Return the local command that installs what the host lacks.

    Args:
        host: as the user gave it.
        python: the remote Python, quoted for a shell.
        line: a pip line, or a sentence that no wheel fits.
        has_pip: False if this Python has no pip or does not let pip change it; a new environment is made then.
    """
    if not line.startswith("pip "):
        return line
    new = "" if has_pip else f"{python} -m venv edgecls-env && "
    pip = f"{python} -m pip " if has_pip else "edgecls-env/bin/pip "
    remote_line = new + re.sub(r"\bpip (?=install|uninstall)", lambda _: pip, line)
    then = "" if has_pip else ", then pass --python edgecls-env/bin/python"
    return f"Install it: ssh {shlex.quote(host)} {_quote(remote_line)}{then}"


def _quote(line: str) -> str:
    # People read and type this line: prefer double quotes around single ones to escapes.
    return f'"{line}"' if "'" in line and not set(line) & set('"$`\\!') else shlex.quote(line)


def _last(heard: Sequence[str], who: str = "ssh") -> str:
    lines = [line for line in heard if line]
    return f"{who}: {lines[-1].removeprefix('ssh: ')}" if lines else "ssh printed nothing"
