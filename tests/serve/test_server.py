from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the extra serve")

from edgecls.errors import ConfigError
from edgecls.serve import server

ANSWER_S = 1.5


async def slow_app(scope: Any, receive: Any, send: Any) -> None:
    """Answers after longer than a connection may be idle."""
    import asyncio

    await asyncio.sleep(ANSWER_S if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(server, "IDLE_S", ANSWER_S / 4)
    import uvicorn

    started: list[uvicorn.Server] = []
    startup = uvicorn.Server.startup

    async def remember(self: uvicorn.Server, sockets: Any = None) -> None:
        started.append(self)
        await startup(self, sockets)

    monkeypatch.setattr(uvicorn.Server, "startup", remember)
    listener = server.listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.serve, args=(slow_app, listener, lambda: None))
    thread.start()
    while not (started and started[0].started):
        time.sleep(0.01)
    yield listener.getsockname()[1]
    started[0].should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def test_an_address_is_taken_from_the_first_moment() -> None:
    with contextlib.closing(server.listen("127.0.0.1", 0)) as first:
        with pytest.raises(ConfigError, match="in use; choose another --bind"):
            server.listen("127.0.0.1", first.getsockname()[1])


def test_clients_that_send_no_whole_head_are_cut_off_and_others_are_not(port: int) -> None:
    begun = time.monotonic()
    clients = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(server.MOST_CONNECTIONS + 5)]
    for number, client in enumerate(clients):
        if number % 2:
            client.sendall(b"POST / HTTP/1.1\r\nHost: loc")
    patient = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for client in clients:
        # Closed by the server: no more bytes, and no time-out of this side.
        while client.recv(1000):
            pass
        client.close()
    assert time.monotonic() - begun < 10
    for path in ("/", "/slow", "/"):
        patient.request("GET", path)
        answer = patient.getresponse()
        assert (answer.status, answer.read()) == (200, b"ok")
    patient.close()
