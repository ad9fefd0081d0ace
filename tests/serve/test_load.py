"""Many clients for a while: no errors, no growth, and no client waits much longer than the others."""

from __future__ import annotations

import concurrent.futures
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from server import Server, png, start_server

pytest.importorskip("starlette", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")

# The second one may be shortened, to try it: EDGECLS_LOAD_SECONDS=60 make test-slow.
DURATIONS_S = [3, pytest.param(int(os.environ.get("EDGECLS_LOAD_SECONDS", "600")), marks=pytest.mark.slow)]
# A short test shares its processors with others, so that a single pause would decide.
LEAST_SECONDS_OF_LATENCY = 60
MOST_GROWTH_BYTES = 24 * 2**20


@pytest.fixture
def server(tiny_tflite: Path) -> Iterator[Server]:
    with start_server(tiny_tflite) as server:
        yield server


def memory_of(server: Server) -> int:
    lines = server.ask("/metrics")[2].decode().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("process_resident_memory_bytes "))


def load(server: Server, clients: int, seconds: float) -> tuple[list[int], list[float]]:
    """Return the status and the latency in seconds of every request of so many clients.

    A client waits as long as a 503 asks it to, as a 503 without that would fail here.
    """
    images, end, lock = [png(seed) for seed in range(8)], time.monotonic() + seconds, threading.Lock()
    statuses: list[int] = []
    latencies: list[float] = []

    def work(client: int) -> None:
        while time.monotonic() < end:
            begun = time.monotonic()
            status, headers, _ = server.ask("/api/predict", "POST", images[client % len(images)])
            with lock:
                statuses.append(status)
                latencies.append(time.monotonic() - begun)
            if status == 503:
                time.sleep(float(headers["retry-after"]) * random.random())

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, range(clients)))
    return statuses, latencies


@pytest.mark.parametrize("seconds", DURATIONS_S)
def test_eight_clients_get_every_answer_and_memory_stays(server: Server, seconds: int) -> None:
    load(server, 8, 1)
    before = memory_of(server)
    statuses, latencies = load(server, 8, seconds)
    assert set(statuses) == {200} and len(statuses) > 10 * seconds
    assert memory_of(server) - before < MOST_GROWTH_BYTES
    p50, p99 = np.percentile(latencies, [50, 99])
    assert seconds < LEAST_SECONDS_OF_LATENCY or p99 < 3 * p50, (len(statuses), p50, p99)


@pytest.mark.parametrize("seconds", DURATIONS_S)
def test_fifty_clients_get_answers_or_503_and_memory_stays(server: Server, seconds: int) -> None:
    load(server, 50, 1)
    before = memory_of(server)
    statuses, _ = load(server, 50, seconds)
    assert set(statuses) == {200, 503}
    assert memory_of(server) - before < MOST_GROWTH_BYTES
