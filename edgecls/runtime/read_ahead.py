"""Reads and decodes ahead: threads compute the next results while the caller uses the last one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Queue
from typing import TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[tuple[Item, Result], None, None]:
    """Yield each item with its result, in order; threads compute the next results in the meantime.

    The items are read in a separate thread, so that a slow source does not delay finished results. At most
    2 * `workers` + 2 items are held. An error of `function` or of the source is raised in its turn, and is the last.

    Args:
        function: called in several threads at a time.
        items: read until the caller closes this generator.
        workers: threads that call `function`.
    """
    queue: Queue[tuple[Item, Future[Result]] | None] = Queue(2 * workers)
    stopped = threading.Event()

    def read(pool: ThreadPoolExecutor) -> None:
        try:
            for item in items:
                if stopped.is_set():
                    break
                queue.put((item, pool.submit(function, item)))
            queue.put(None)
        except BaseException as error:  # noqa: BLE001  # whatever a camera raises is passed on
            failed: Future[Result] = Future()
            failed.set_exception(error)
            queue.put((cast(Item, None), failed))

    with ThreadPoolExecutor(workers, "edgecls-decode") as pool:
        # A daemon thread, so that a camera without further frames does not keep the program from ending.
        threading.Thread(target=read, args=(pool,), name="edgecls-read", daemon=True).start()
        try:
            while entry := queue.get():
                yield entry[0], entry[1].result()
        finally:
            stopped.set()
            # Makes room for a waiting reader, which then sees `stopped`.
            while not queue.empty():
                queue.get()
            pool.shutdown(wait=False, cancel_futures=True)
