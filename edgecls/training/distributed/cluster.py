"""Which processes train one network together, read from TF_CONFIG."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import socket
import time
from dataclasses import dataclass
from typing import Any

from edgecls.errors import ConfigError, TrainingError
from edgecls.progress import Progress

VARIABLE = "TF_CONFIG"
EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
# A chief is the first worker.
JOBS = ("chief", "worker")
ANSWER_S = 2.0
# A program that greets does so at once.
GREETING_S = 0.3
LOOK_EVERY_S = 1.0
# Time to start the command on the other machines.
WAIT_S = 600.0


@dataclass(frozen=True)
class Cluster:
    """All workers, and the index of this one."""

    addresses: tuple[str, ...]  # host:port of each; the first keeps the run
    index: int  # of this process

    def name(self, index: int) -> str:
        """Return the name of a worker in messages."""
        return f"worker {index} ({self.addresses[index]})"

    def list_silent(self) -> list[str]:
        """Return the names of the other workers that do not listen at their addresses."""
        others = [index for index in range(len(self.addresses)) if index != self.index]
        return [self.name(index) for index in others if not _answers(self.addresses[index])]


def read_cluster(text: str) -> Cluster | None:
    """Return the cluster in the text of TF_CONFIG, or None if it is empty or names no other process.

    Raises:
        ConfigError: TensorFlow does not accept it, or it names tasks that do not train.
    """
    if not text.strip():
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(f"is not JSON ({error}): {text[:80]!r}") from error
    jobs = _member(document, "cluster", dict, {})
    if unknown := [name for name in jobs if name not in JOBS]:
        raise _wrong(f"names tasks of type {', '.join(unknown)}; edgecls trains with chief and worker only")
    lists = {job: _member(jobs, job, list, []) for job in JOBS}
    addresses = [_check_address(each) for job in JOBS for each in lists[job]]
    if twice := [each for each in addresses if addresses.count(each) > 1]:
        raise _wrong(f"names {twice[0]} twice; every worker needs an address of its own")
    if len(addresses) < 2:
        return None
    task = _member(document, "task", dict, {})
    job, index = task.get("type"), task.get("index")
    if job not in JOBS:
        raise _wrong(f"says that this process is of type {job!r}; it must be chief or worker")
    if type(index) is not int or not 0 <= index < len(lists[job]):
        raise _wrong(f"says that this process is {job} {index!r}, but there are {len(lists[job])}, counted from 0")
    return Cluster(tuple(addresses), index + (len(lists["chief"]) if job == "worker" else 0))


def wait_for_others(cluster: Cluster, progress: Progress) -> None:
    """Listen at this worker's address until all other workers listen at theirs.

    Raises:
        TrainingError: a worker did not start in time, or the port is in use.
    """
    others, end = len(cluster.addresses) - 1, time.monotonic() + WAIT_S
    port, both = int(cluster.addresses[cluster.index].rpartition(":")[2]), socket.has_dualstack_ipv6()
    try:
        # On every network of this machine, as TensorFlow does later.
        family = socket.AF_INET6 if both else socket.AF_INET
        listening = socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise TrainingError(
            f"this process is {cluster.name(cluster.index)}, but cannot listen there: {error.strerror}; stop the "
            f"program that uses the port, or give another port in every worker's {VARIABLE}"
        ) from error
    with listening, contextlib.ExitStack() as visitors:
        listening.setblocking(False)
        while silent := cluster.list_silent():
            progress("wait for other workers", others - len(silent), others, ", ".join(silent))
            if time.monotonic() > end:
                raise TrainingError(
                    f"{' and '.join(silent)} did not start within {WAIT_S:g} s; start the same command on that machine "
                    f"with its own index in {VARIABLE}, and check that its port can be reached from here, and that no "
                    "other program uses it"
                )
            # Those of the last round have had their time.
            visitors.close()
            _accept_all(listening, visitors)
            time.sleep(LOOK_EVERY_S)
        progress("wait for other workers", others, others, "all have started")


def _accept_all(listening: socket.socket, visitors: contextlib.ExitStack) -> None:
    """Accept who looks whether this worker listens: after 128 whom nobody accepts, the system answers no other."""
    with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
        while True:
            visitors.enter_context(listening.accept()[0])


def _member(document: Any, name: str, kind: type, default: Any) -> Any:
    found = document.get(name, default) if isinstance(document, dict) else None
    if not isinstance(found, kind):
        raise _wrong(f"holds no {'object' if kind is dict else 'list'} called {name!r}")
    # Without its cluster, each machine would train alone.
    if name not in document and (near := [each for each in document if _is_misspelled(each, name)]):
        raise _wrong(f"has {near[0]!r}, which TensorFlow does not read; write {name!r}")
    return found


def _is_misspelled(key: str, name: str) -> bool:
    return bool(difflib.get_close_matches(name, [key.casefold()], cutoff=0.8))


def _check_address(address: Any) -> str:
    found = re.fullmatch(r"(?:\[[\da-fA-F:]+\]|[^\s:/\[\]]+):(\d{1,5})", address) if isinstance(address, str) else None
    if found is None or not 0 < int(found[1]) < 2**16:
        raise _wrong(f"has the address {address!r}, which is not host:port")
    return str(address)


def _wrong(what: str) -> ConfigError:
    return ConfigError(f"{VARIABLE} in the environment {what}; write {EXAMPLE}, or unset it to train on one machine")


def _answers(address: str) -> bool:
    """Return whether a worker listens at an address, and not another program, which greets or hangs up."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER_S) as found:
            found.settimeout(GREETING_S)
            try:
                # TensorFlow's server begins with HTTP/2's SETTINGS.
                return found.recv(9)[3:4] == b"\x04"
            except TimeoutError:
                # A worker that waits for others says nothing.
                return True
    except OSError:
        return False
