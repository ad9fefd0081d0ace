"""Classify the frames of a Raspberry Pi camera: one JSON line for each frame, until Ctrl-C.

sudo apt install python3-picamera2        # and a virtual environment made with --system-site-packages
python picamera_loop.py model-int8.tflite --threshold 0.8
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from picamera2 import Picamera2

import edgecls

WIDTH, HEIGHT = 1280, 720


def read_frames() -> Iterator[Any]:
    """Yield gray frames, uint8 (HEIGHT, WIDTH), each the latest of the camera."""
    with Picamera2() as camera:
        # YUV420 begins with the gray picture, so nothing is converted. The luma of a preview has the full range 0..255,
        # as in a JPEG file; the luma of a video does not.
        camera.configure(camera.create_preview_configuration(main={"format": "YUV420", "size": (WIDTH, HEIGHT)}))
        camera.start()
        while True:
            # Rows may be padded on the right.
            yield camera.capture_array("main")[:HEIGHT, :WIDTH]


def main(arguments: Sequence[str] | None = None) -> None:
    """Classify frames until Ctrl-C."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--threshold", type=float, help="the label is null if its score is lower")
    options = parser.parse_args(arguments)
    with edgecls.load(options.file, threshold=options.threshold) as classifier:
        classifier.warmup()
        for frame in read_frames():
            prediction = classifier.predict(frame)
            print(json.dumps({"label": prediction.label, "score": round(prediction.score, 4)}), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
