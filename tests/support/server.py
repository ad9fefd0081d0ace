"""Runs `edgecls serve` in a process of its own, and talks to it over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tiny import HEIGHT, WIDTH


def png(seed: int = 0) -> bytes:
    """A PNG file of noise, larger than the tiny network's input."""
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT * 3, WIDTH * 2)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Server:
    """A running server: its process, address and token."""

    process: subprocess.Popen[str]
    port: int
    token: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers with lower-case names, and content."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            token = {"authorization": f"Bearer {self.token}"} if self.token else {}
            connection.request(method, path, body, token | (headers or {}))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def ask_json(self, path: str, method: str = "GET", body: bytes | None = None) -> Any:
        """Return the document; fails unless the status is 200."""
        status, _, content = self.ask(path, method, body)
        assert status == 200, (status, content)
        return json.loads(content)


@contextlib.contextmanager
def start_server(file: Path, *arguments: object, bind: str = "127.0.0.1:0") -> Iterator[Server]:
    """Yield a server on a free port; at the end it must stop on SIGTERM within 20 s."""
    command = [sys.executable, "-m", "edgecls", "serve", str(file), "--bind", bind, *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    ) as run:
        assert run.stdout is not None
        line = run.stdout.readline().strip()
        assert line.startswith("Open http://"), line
        address, _, token = line.partition("#token=")
        server = Server(run, int(address.rstrip("/").rpartition(":")[2]), token)
        try:
            _wait_until_ready(server)
            yield server
        finally:
            if run.poll() is None:
                run.terminate()
                run.wait(20)


def _wait_until_ready(server: Server) -> None:
    for _ in range(300):
        with contextlib.suppress(ConnectionError):
            server.ask("/")
            return
        time.sleep(0.1)
    raise AssertionError("the server does not answer")
