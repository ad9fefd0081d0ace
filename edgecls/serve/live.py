"""The live view: a thread reads images from a camera or a folder and classifies the latest one, again and again."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecls.errors import DataError, EdgeclsError
from edgecls.images.find import watch_folder
from edgecls.images.leftovers import LeftOut
from edgecls.model_file.metadata import ModelSpec
from edgecls.runtime.classifier import ChannelOrder
from edgecls.serve.session import Session

# Frames over which the frame rate is measured.
_RATE_FRAMES = 20
# Of the picture that the page shows; the network gets the frame itself.
SHOWN_PIXELS = 640


class Frame(NamedTuple):
    """An image of a source: its path, or a camera's array and the order of its channels."""

    image: Path | NDArray[np.uint8]
    channel_order: ChannelOrder | None
    name: str


class Live:
    """Classifies what a source yields, and keeps the last image and its answer for any number of readers.

    Args:
        session: that classifies.
        frames: an endless iterator; it is read in a thread.
    """

    def __init__(self, session: Session, frames: Iterator[Frame]) -> None:
        self._session, self._frames = session, frames
        self._times: deque[float] = deque(maxlen=_RATE_FRAMES)
        self._readers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.event: dict[str, Any] = {}
        self.picture = b""
        self.fault = ""
        self._thread = threading.Thread(target=self._run, name="edgecls-live", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end after its frame, and wake all readers."""
        self._stopped.set()
        self._wake()

    async def events(self) -> Any:
        """Yield each new event, or the latest of several that came meanwhile; ends after `stop`."""
        reader = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._readers.add(reader)
        seen = 0
        try:
            while not self._stopped.is_set():
                if self.event.get("number", 0) != seen:
                    seen = self.event["number"]
                    yield self.event
                reader[1].clear()
                try:
                    await asyncio.wait_for(reader[1].wait(), 10)
                except asyncio.TimeoutError:
                    # Lets the server notice that the reader is gone.
                    yield None
        finally:
            with self._lock:
                self._readers.discard(reader)

    def _wake(self) -> None:
        with self._lock:
            readers = list(self._readers)
        for loop, changed in readers:
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)

    def _run(self) -> None:
        try:
            for frame in self._frames:
                if self._stopped.is_set():
                    return
                self._classify(frame)
        except (EdgeclsError, OSError) as error:
            # A camera that was unplugged; the API goes on.
            self.fault = str(error)
            self._publish({"error": self.fault}, b"")
        except RuntimeError:
            # The session was closed while a frame waited.
            if not self._stopped.is_set():
                raise

    def _classify(self, frame: Frame) -> None:
        try:
            answer = self._session.submit(frame.image, name=frame.name, channel_order=frame.channel_order).result()
            picture = show(frame, self._session.classifier.spec)
        except DataError as error:
            self._publish({"image": frame.name, "error": str(error)}, b"")
            return
        self._times.append(time.perf_counter())
        rate = (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-9) if len(self._times) > 1 else 0.0
        entry = self._session.to_json(frame.name, answer, heatmap=True)
        self._publish(entry | {"frames_per_s": round(rate, 2)}, picture)

    def _publish(self, event: dict[str, Any], picture: bytes) -> None:
        number = self.event.get("number", 0) + 1
        if picture:
            self.picture = picture
        self.event = event | {"number": number, "time": round(time.time(), 3)}
        self._wake()


def show(frame: Frame, spec: ModelSpec) -> bytes:
    """Return a JPEG file of what the network sees of a frame, in gray, at most 640 pixels wide and high.

    Raises:
        DataError: the frame cannot be read.
    """
    from edgecls.images.decode import decode_part

    source: Path | Image.Image
    if isinstance(frame.image, np.ndarray):
        order = slice(2, None, -1) if frame.channel_order == "bgr" else slice(0, 3)
        rgb = frame.image if frame.image.ndim == 2 else np.ascontiguousarray(frame.image[:, :, order])
        source = Image.fromarray(rgb).convert("L")
    else:
        source = frame.image
    return to_jpeg(decode_part(source, spec.height, spec.width, spec.preprocessing))


def to_jpeg(picture: Image.Image) -> bytes:
    """Return a JPEG file of a picture, shrunk to at most 640 pixels wide and high."""
    picture.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def watched_frames(folder: Path, left_out: LeftOut | None = None) -> Iterator[Frame]:
    """Return an endless iterator over images that appear or change in a folder; `left_out` counts other files.

    Raises:
        DataError: the folder cannot be listed, now or later.
    """
    # Called at once, so that a folder that is missing is reported before the server starts.
    paths = watch_folder(folder, poll_s=0.2, left_out=left_out)
    return (Frame(path, None, path.name) for path in paths)
