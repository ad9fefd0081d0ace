"""Runs the application with uvicorn until SIGTERM or Ctrl-C; requests that have begun are finished first."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

from edgecls.errors import ConfigError, MissingDependency

# Open connections; each costs a few kB. uvicorn answers 503 to more.
MOST_CONNECTIONS = 200
GRACEFUL_S = 15
# A connection without a request in work is closed after so long, at most twice that: clients that send the head of a
# request slowly, or nothing, would take all connections.
IDLE_S = 15


def parse_address(text: str) -> tuple[str, int]:
    """Return the address and port of "ADDR:PORT", such as "0.0.0.0:8000" or "[::1]:8000".

    Raises:
        ConfigError: another form, or a port out of range.
    """
    address, colon, port = text.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    if not (colon and address and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ConfigError(f"an address has the form ADDR:PORT, such as 127.0.0.1:8000; received {text!r}")
    return address, int(port)


def listen(address: str, port: int) -> socket.socket:
    """Return a socket that listens at the address; port 0 takes a free one.

    Raises:
        ConfigError: the address is unknown, not this machine's, in use, or not allowed.
    """
    try:
        family, *_, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        # At once, because a second server may bind to an address until the first one listens.
        listener.listen()
    except OSError as error:
        raise ConfigError(f"cannot listen at {address}:{port}: {error.strerror}; choose another --bind") from error
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Return True if only this machine reaches the socket."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def own_names() -> set[str]:
    """Return the names of this machine in its network."""
    name = socket.gethostname().lower()
    return {name, f"{name.split('.')[0]}.local", name.split(".")[0]}


def _protocol() -> type[Any]:
    """Return uvicorn's protocol, which by itself waits for the head of a request for ever."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Protocol(H11Protocol):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._timer = self.loop.call_later(IDLE_S, self._watch, None)

        def connection_lost(self, exc: Exception | None) -> None:
            self._timer.cancel()
            super().connection_lost(exc)

        def _watch(self, finished: Any) -> None:
            """Close the connection if the last request is still the one that was `finished` before."""
            is_idle = self.cycle is None or self.cycle.response_complete
            if is_idle and self.cycle is finished:
                self.transport.close()
            else:
                self._timer = self.loop.call_later(IDLE_S, self._watch, self.cycle if is_idle else "none")

    return Protocol


def serve(app: Any, listener: socket.socket, on_stop: Callable[[], None]) -> None:
    """Answer requests at the socket until a signal ends it; `on_stop` is called first, to end what never ends.

    Raises:
        MissingDependency: uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingDependency(f"serve needs uvicorn ({error}): pip install 'edgecls[serve]'") from error

    class Server(uvicorn.Server):  # type: ignore[misc]
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            on_stop()
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        lifespan="off",
        server_header=False,
        loop="asyncio",
        http=_protocol(),
        ws="none",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=GRACEFUL_S,
    )
    Server(config).run(sockets=[listener])
