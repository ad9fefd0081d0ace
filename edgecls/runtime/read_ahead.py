"""Work on the next items in threads while the caller still has the last one. Imports the standard library alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Queue
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _End(NamedTuple):
    error: BaseException | None


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[tuple[Item, Result], None, None]:
    """Yield each item with its result, in order, worked out ahead by threads.

    A slow source does not hold back what is ready, as it is read in a thread of its own. At most 2 * `workers` + 2
    items are held at once. What `function` or the source raises comes in its turn, and ends it.

    Args:
        function: called in any thread, several at a time.
        items: read in one other thread, and no further once the caller closes this generator.
        workers: threads that call `function`.
    """
    queue: Queue[tuple[Item, Future[Result]] | _End] = Queue(2 * workers)
    stopped = threading.Event()

    def read(pool: ThreadPoolExecutor) -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if stopped.is_set():
                    break
                queue.put((item, pool.submit(function, item)))
        # Whatever a camera or a generator raises: the caller gets it, in its turn.
        except BaseException as raised:  # noqa: BLE001
            error = raised
        queue.put(_End(error))

    with ThreadPoolExecutor(workers, "edgecls-decode") as pool:
        # A daemon, because a camera may never give another frame and the program has to end.
        threading.Thread(target=read, args=(pool,), name="edgecls-read", daemon=True).start()
        try:
            while not isinstance(entry := queue.get(), _End):
                item, future = entry
                yield item, future.result()
            if entry.error is not None:
                raise entry.error
        finally:
            stopped.set()
            # The reader may wait for room; it looks at `stopped` before it takes another item.
            while not queue.empty():
                queue.get()
            pool.shutdown(wait=False, cancel_futures=True)
