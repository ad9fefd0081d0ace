"""TF_CONFIG as people and schedulers write it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any

import pytest

from edgecls.errors import ConfigError, TrainingError
from edgecls.progress import silent
from edgecls.training.distributed import cluster as cluster_module
from edgecls.training.distributed.cluster import EXAMPLE, Cluster, read_cluster, wait_for_others

TWO = {"worker": ["host1:2222", "[::1]:2223"]}


def read(cluster: Any, kind: Any = "worker", index: Any = 0, **more: Any) -> Cluster | None:
    return read_cluster(json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}, **more}))


def test_workers_are_counted_from_the_chief() -> None:
    assert read_cluster(EXAMPLE) == Cluster(("host1:2222", "host2:2222"), 0)
    assert read(TWO, index=1, environment="cloud") == Cluster(("host1:2222", "[::1]:2223"), 1)
    chief = {"chief": ["boss:1"], "worker": ["a:1", "b:1"]}
    assert read(chief, "chief") == Cluster(("boss:1", "a:1", "b:1"), 0)
    found = read(chief, index=1)
    assert found is not None and found.name(found.index) == "worker 2 (b:1)"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "{}",
        '{"environment": "cloud", "task": {"type": "master", "index": 0}}',
        '{"cluster": {}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_one_process_trains_alone(text: str) -> None:
    assert read_cluster(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{'cluster'", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "no object called 'cluster'"),
        ('{"cluster": []}', "no object called 'cluster'"),
        ('{"cluster": {"worker": "a:1"}}', "no list called 'worker'"),
        ('{"cluster": {"worker": ["a:1", "b:1"], "ps": ["c:1"]}}', "tasks of type ps; edgecls trains with chief and"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "of type None; it must be chief or worker"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": 1}', "no object called 'task'"),
        ('{"clusters": {"worker": ["a:1", "b:1"]}}', "has 'clusters', which TensorFlow does not read; write 'cluster'"),
        ('{"Cluster": {"worker": ["a:1", "b:1"]}}', "has 'Cluster', which"),
    ],
)
def test_what_is_wrong_is_reported_with_an_example(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_cluster(text)
    assert "TF_CONFIG" in str(caught.value) and EXAMPLE in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("index", [-1, 2, "0", 0.0, True, None])
def test_an_index_that_is_none_is_refused(index: Any) -> None:
    with pytest.raises(ConfigError, match="this process is worker .*, but there are 2, counted from 0"):
        read(TWO, index=index)


@pytest.mark.parametrize(
    "address", ["host", "host:", ":1", "host:0", "host:65536", "a b:1", "::1:2", 7, "host:1x", "a:1"]
)
def test_an_address_that_is_none_or_comes_twice_is_refused(address: Any) -> None:
    with pytest.raises(ConfigError, match="which is not host:port|names a:1 twice"):
        read({"worker": ["a:1", address]})


def test_whoever_does_not_listen_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            silent = f"127.0.0.1:{closed.getsockname()[1]}"
        answering = f"127.0.0.1:{listening.getsockname()[1]}"
        # Itself it does not ask.
        assert Cluster((silent, answering, silent), 0).list_silent() == [f"worker 2 ({silent})"]
        assert Cluster((silent, answering), 0).list_silent() == []


@pytest.mark.parametrize(
    ("said", "is_worker"), [(b"SSH-2.0-OpenSSH_9.2\r\n", False), (b"", False), (b"\0\0\x18\x04\0\0\0\0\0", True)]
)
def test_another_program_at_the_address_is_no_worker(said: bytes, is_worker: bool) -> None:
    """TensorFlow waited for it without end and without a word."""

    def answer() -> None:
        with listening.accept()[0] as one:
            one.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=answer)
        thread.start()
        assert Cluster(("127.0.0.1:1", address), 0).list_silent() == ([] if is_worker else [f"worker 1 ({address})"])
        thread.join()


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def start_first(addresses: tuple[str, ...]) -> threading.Thread:
    """Return the thread of the first worker, which listens and waits; it ends with the tests at the latest."""
    first = threading.Thread(target=wait_for_others, args=(Cluster(addresses, 0), silent), daemon=True)
    first.start()
    host, port = addresses[0].split(":")
    end = time.monotonic() + 30
    while True:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((host, int(port)), 5):
            return first
        assert time.monotonic() < end and first.is_alive()
        time.sleep(0.01)


def test_workers_wait_until_all_listen() -> None:
    addresses = (free_address(), free_address())
    first = start_first(addresses)
    reported: list[tuple[object, ...]] = []
    # The first one, which goes on when this one listens, need not listen any more then: TensorFlow does.
    with socket.create_server(("127.0.0.1", int(addresses[1].partition(":")[2]))):
        first.join(60)
    assert not first.is_alive()
    with socket.create_server(("127.0.0.1", int(addresses[0].partition(":")[2]))):
        wait_for_others(Cluster(addresses, 1), lambda *call: reported.append(call))
    assert reported == [("wait for other workers", 1, 1, "all have started")]


def test_a_worker_that_waits_for_long_still_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three, the first two took each other for lost after 128 looks, although the third came."""
    monkeypatch.setattr(cluster_module, "LOOK_EVERY_S", 0.01)
    addresses = (free_address(), free_address())
    first = start_first(addresses)
    host, port = addresses[0].split(":")
    for _ in range(300):
        with socket.create_connection((host, int(port)), 5):
            pass
    with socket.create_server(("127.0.0.1", int(addresses[1].partition(":")[2]))):
        first.join(60)
    assert not first.is_alive()


def test_whoever_does_not_come_and_a_port_that_is_taken_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "WAIT_S", 0)
    addresses = (free_address(), free_address())
    with pytest.raises(TrainingError, match=rf"worker 1 \({addresses[1]}\) did not start within 0 s"):
        wait_for_others(Cluster(addresses, 0), silent)
    with socket.create_server(("", int(addresses[0].partition(":")[2]))):
        with pytest.raises(
            TrainingError, match=rf"worker 0 \({addresses[0]}\), but cannot listen there: Address already"
        ):
            wait_for_others(Cluster(addresses, 0), silent)
