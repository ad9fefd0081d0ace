"""Runs on the board: pixels and scores of many images in one process, as every start costs seconds under emulation.

    python score.py FILE LIST OUT.npz

LIST is a text file of image paths.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import numpy as np
import PIL
from PIL import features

import edgecls


def main() -> None:
    """Write pixels, uint8 (N, H, W, 1), and scores, float32 (N, C); print what this machine is."""
    file, names, out = sys.argv[1:]
    classifier = edgecls.load(file, threads=1)
    pixels = [classifier.read(name) for name in Path(names).read_text(encoding="utf-8").splitlines()]
    np.savez(out, pixels=np.stack(pixels), scores=classifier.scores(np.stack(pixels)))
    about = {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "engine": classifier.engine.name,
        "engine_version": classifier.engine.version,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "libjpeg_turbo": features.version("libjpeg_turbo"),
    }
    sys.stdout.write(json.dumps(about))


if __name__ == "__main__":
    main()
