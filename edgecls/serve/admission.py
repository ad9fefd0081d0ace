"""How many requests may be in work at a time: the others are refused at once, so that memory cannot grow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

MOST_REQUESTS = 16
# Of all images that are held at a time.
MOST_BYTES = 96 * 1024 * 1024
# Of one image: photographs of phones have up to 25 MB.
MAX_BODY_BYTES = 32 * 1024 * 1024


class Busy(Exception):
    """There is no room for another request."""


class Admission:
    """Counts the requests in work, and the bytes of their images. Used by one event loop, so it needs no lock."""

    def __init__(self, requests: int = MOST_REQUESTS, size_bytes: int = MOST_BYTES) -> None:
        self._free_requests, self._free_bytes = requests, size_bytes
        self.in_work = 0

    @contextlib.contextmanager
    def admit(self, size_bytes: int) -> Iterator[None]:
        """Hold room for a request whose image has at most so many bytes; raise Busy if there is none."""
        if not self._free_requests or size_bytes > self._free_bytes:
            raise Busy
        self._free_requests -= 1
        self._free_bytes -= size_bytes
        self.in_work += 1
        try:
            yield
        finally:
            self._free_requests += 1
            self._free_bytes += size_bytes
            self.in_work -= 1
