"""What to do when a board cannot be used: ssh's words, and those of the Python there, in sentences for people."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

# Exit statuses: of a shell, and of ssh for its own failures.
NOT_EXECUTABLE, NOT_FOUND, SSH_FAILED = 126, 127, 255
# What ssh says -> what it means and what to do. The first that fits counts.
_FAULTS = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {host} is not the one that this computer knows: the board was set up anew, or another machine "
        "answers in its place. If you know why, {forget}, then log in once by hand: ssh {host}",
    ),
    (
        "Host key verification failed|No .* host key is known",
        "this computer does not know the host key of {host} yet; log in once by hand and confirm it: ssh {host}",
    ),
    (
        "Could not resolve hostname",
        "there is no host of the name in {host!r}; check the spelling, or use the board's IP address",
    ),
    (
        "Permission denied|Too many authentication failures",
        "{host} does not let you in without a password; copy your key there once: ssh-copy-id {host}",
    ),
    (
        "Connection refused|timed out|No route to host|Network is unreachable|Connection reset|Connection closed",
        "{host} does not answer; check that it is on, in this network, and lets ssh in (Raspberry Pi: raspi-config, "
        "Interface Options, SSH)",
    ),
)


def start_text(host: str, python: str, status: int, heard: Sequence[str]) -> str:
    """Return why no Python answered.

    Args:
        host: as the user gave it.
        python: that was to be started.
        status: of ssh, which is that of the shell there if ssh itself did not fail.
        heard: lines of ssh and of the shell there.
    """
    said = "\n".join(filter(None, heard))
    for pattern, text in _FAULTS:
        if status == SSH_FAILED and re.search(pattern, said):
            found = re.search(r"ssh-keygen -f .*", said)
            forget = f"forget the old key: {found[0].strip()}" if found else "remove the old key from known_hosts"
            return f"{text.format(host=host, forget=forget)} ({_last(heard)})"
    if status in (NOT_EXECUTABLE, NOT_FOUND):
        return f"there is no Python {python!r} on {host}; install it, or name another with --python ({_last(heard)})"
    return f"{python!r} could not be started on {host}: exit status {status}; {said or 'it said nothing'}"


def cut_text(host: str, doing: str, heard: Sequence[str]) -> str:
    """Return that the connection was cut, in the middle of what."""
    return (
        f"the connection to {host} was cut while {doing} ({_last(heard, 'last heard')}). The board ends the work and "
        "removes the copies by itself; check its power and network, and repeat the command"
    )


def old_python_text(python: str, host: str, version: str, oldest: tuple[int, int]) -> str:
    """Return that the Python there is too old."""
    needed = ".".join(map(str, oldest))
    return f"{python!r} on {host} is Python {version}, edgecls needs {needed} or newer; name another with --python"


def install_text(host: str, python: str, line: str, has_pip: bool) -> str:
    """Return which command, typed here, installs what is missing there.

    Args:
        host: as the user gave it.
        python: there, quoted for a shell.
        line: of pip, or a sentence that nothing fits.
        has_pip: False if this Python has none, or refuses to be changed by it: then a new environment is made.
    """
    if not line.startswith("pip "):
        return line
    new = "" if has_pip else f"{python} -m venv edgecls-env && "
    pip = f"{python} -m pip " if has_pip else "edgecls-env/bin/pip "
    there = new + re.sub(r"\bpip (?=install|uninstall)", lambda _: pip, line)
    then = "" if has_pip else ", then pass --python edgecls-env/bin/python"
    return f"Install it: ssh {shlex.quote(host)} {_quote(there)}{then}"


def _quote(line: str) -> str:
    # What is read and typed by people, with one kind of quotes inside the other.
    return f'"{line}"' if "'" in line and not set(line) & set('"$`\\!') else shlex.quote(line)


def _last(heard: Sequence[str], who: str = "ssh") -> str:
    lines = [line for line in heard if line]
    return f"{who}: {lines[-1].removeprefix('ssh: ')}" if lines else "ssh said nothing"
