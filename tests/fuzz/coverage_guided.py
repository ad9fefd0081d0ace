"""Coverage-guided fuzzing with atheris: bytes that reach new lines are changed further. For hours, not for CI.

    PYTHONPATH=tests/support:tests/fuzz python tests/fuzz/coverage_guided.py image|model -max_total_time=600

Needs `pip install atheris`; further options are libFuzzer's. An error that is not ours ends it and leaves crash-...
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

atheris: Any = __import__("atheris")
with atheris.instrument_imports(include=["edgecls", "PIL"]):
    from edgecls.errors import EdgeclsError
    from edgecls.images.decode import load_gray
    from edgecls.model_file.read import detect_format, read_graph, read_model_file


def read_image(data: bytes) -> None:
    """Decode the bytes as an image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_gray(data, 32, 24)


def read_model(data: bytes) -> None:
    """Read the bytes as an exported file, and as a graph whether or not it has a contract."""
    kind = detect_format(data)
    try:
        read_model_file(data)
    except EdgeclsError:
        read_graph(data, kind)


def seeds(target: str) -> list[bytes]:
    """Return whole files to begin with."""
    if target == "image":
        from image_files import SEEDS

        return list(SEEDS)
    from tiny import make_spec

    from edgecls.model_file.write import attach_spec

    graphs = {"tflite": b"\x1c\0\0\0TFL3" + bytes(range(64)), "onnx": b"\x08\x08\x3a\x03\x12\x01g"}
    return [attach_spec(graph, make_spec(), kind) for kind, graph in graphs.items()]  # type: ignore[arg-type]


def main(target: str, options: list[str]) -> None:
    """Fuzz until libFuzzer's options say stop."""
    read = {"image": read_image, "model": read_model}[target]

    def one(data: bytes) -> None:
        try:
            read(data)
        except EdgeclsError:
            return

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds(target)):
            Path(corpus, str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], "-rss_limit_mb=1500", "-timeout=20", *options, corpus], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
