"""Frames of a camera of this machine: picamera2 on a Raspberry Pi, else OpenCV."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from edgecls.errors import DataError, MissingDependency
from edgecls.serve.live import Frame

SIZE = (1280, 720)


def camera_frames(number: int) -> Iterator[Frame]:
    """Return an endless iterator over the frames of camera `number`, 0 for the first; the camera is opened now.

    Raises:
        MissingDependency: neither picamera2 nor OpenCV is installed.
        DataError: the camera cannot be opened, or later gives no frame.
    """
    if importlib.util.find_spec("picamera2"):
        return _read_picamera(_open_picamera(number), number)
    if importlib.util.find_spec("cv2"):
        return _read_opencv(_open_opencv(number), number)
    raise MissingDependency(
        "a camera needs picamera2 (on a Raspberry Pi: apt install python3-picamera2, and a venv with "
        "--system-site-packages) or OpenCV (pip install opencv-python-headless)"
    )


def _open_picamera(number: int) -> Any:
    from picamera2 import Picamera2

    try:
        camera = Picamera2(number)
        # picamera2's RGB888 has the bytes in the order blue, green, red.
        camera.configure(camera.create_video_configuration({"size": SIZE, "format": "RGB888"}))
        camera.start()
    except (RuntimeError, IndexError, OSError) as error:
        raise DataError(f"camera {number} cannot be opened: {error}; see: rpicam-hello --list-cameras") from error
    return camera


def _read_picamera(camera: Any, number: int) -> Iterator[Frame]:
    while True:
        yield Frame(camera.capture_array("main"), "bgr", f"camera {number}")


def _open_opencv(number: int) -> Any:
    import cv2

    camera = cv2.VideoCapture(number)
    if not camera.isOpened():
        raise DataError(f"camera {number} cannot be opened; try another number, and close programs that use it")
    # Otherwise a slow network would see old frames.
    camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return camera


def _read_opencv(camera: Any, number: int) -> Iterator[Frame]:
    while True:
        found, frame = camera.read()
        if not found:
            raise DataError(f"camera {number} gave no frame; check its cable and start the server again")
        yield Frame(frame, "bgr", f"camera {number}")
