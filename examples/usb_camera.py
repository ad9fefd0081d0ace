"""Classify every frame of a USB camera: one JSON line for each frame, until Ctrl-C.

pip install opencv-python-headless
python usb_camera.py model-int8.tflite --camera 0
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import cv2

import edgecls


def read_frames(number: int) -> Iterator[Any]:
    """Yield frames, uint8 (H, W, 3), in the order blue, green, red."""
    camera = cv2.VideoCapture(number)
    try:
        while True:
            seen, frame = camera.read()
            if not seen:
                raise SystemExit(f"camera {number} gives no frame; connect it, or try --camera {number + 1}")
            yield frame
    finally:
        camera.release()


def main(arguments: Sequence[str] | None = None) -> None:
    """Classify frames until Ctrl-C."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--camera", type=int, default=0)
    options = parser.parse_args(arguments)
    with edgecls.load(options.file) as classifier:
        # With one worker at most four frames wait while the network is busy, so none is old.
        for _, prediction in classifier.predict_iter(read_frames(options.camera), channel_order="bgr", workers=1):
            if isinstance(prediction, edgecls.EdgeclsError):
                raise prediction
            print(json.dumps({"label": prediction.label, "score": round(prediction.score, 4)}), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
