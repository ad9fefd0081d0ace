"""What Classifier.predict costs above the bare interpreter, on an image that is ready.

    python benchmarks/predict_overhead.py FILE... [--threads 1] [--turns 40]

Every FILE runs in every engine that is installed and can. Both sides call the same interpreter in one process, taking
turns. The bare side is set_tensor, invoke, get_tensor (LiteRT), run (ONNX Runtime) or infer (OpenVINO), and nothing
else: raw scores, not even a label. Writes benchmarks/results/predict-overhead.json. Exits with 1 if an engine costs
more than 2 % and more than 50 microseconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from interleaved import time_interleaved
from numpy.typing import NDArray
from record import Watch, write_record

import edgecls
from edgecls.benchmark.measure import compare_times
from edgecls.model_file.read import detect_format
from edgecls.runtime.engines import ENGINES, is_installed

MOST_SHARE, MOST_US = 0.02, 50.0


def bare_call(engine: Any, image: NDArray[np.uint8]) -> Callable[[], object]:
    """Return a call of the engine's own interpreter: another copy of it would lie elsewhere in memory."""
    if engine.name == "litert":
        interpreter, source, target = engine._interpreter, engine._input, engine._output
        values = image.astype(np.float32) if engine._float_input else image

        def run() -> object:
            interpreter.set_tensor(source, values)
            interpreter.invoke()
            return interpreter.get_tensor(target)

        return run
    values = image.reshape(engine._shape).astype(engine._dtype)
    if engine.name == "onnxruntime":
        return lambda: engine._session.run(engine._outputs, {engine._input: values})
    return lambda: engine._request.infer({0: values}, share_inputs=True)[engine._output]


def measure(file: Path, engine: str, threads: int, turns: int) -> dict[str, Any]:
    """Return what one file costs in one engine."""
    with edgecls.load(file, engine=engine, threads=threads) as classifier:
        height, width = classifier.spec.height, classifier.spec.width
        image = np.random.default_rng(0).integers(0, 256, (height, width, 1), np.uint8)
        actions = {
            "bare": bare_call(classifier.engine, image[np.newaxis]),
            "edgecls": lambda: classifier.predict(image),
        }
        times = time_interleaved(actions, batches=turns)
        version = classifier.engine.version
    medians = {name: np.median(samples, axis=1) for name, samples in times.items()}
    over_us = float(np.median(medians["edgecls"] - medians["bare"])) * 1e3
    ratio = compare_times(times["edgecls"], times["bare"])
    return {
        "file": file.name,
        "engine": engine,
        "engine_version": version,
        "threads": threads,
        "bare_p50_ms": float(np.median(times["bare"])),
        "edgecls_p50_ms": float(np.median(times["edgecls"])),
        "over_us": over_us,
        "ratio": ratio.ratio,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "passed": over_us <= MOST_US or ratio.ratio <= 1 + MOST_SHARE,
    }


def main() -> None:
    """Measure all files in all engines, print a line for each, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=40)
    arguments = parser.parse_args()
    rows, watch = [], Watch()
    for file in arguments.files:
        kind = detect_format(file.read_bytes())
        for engine, entry in ENGINES.items():
            if kind not in entry.kinds or not is_installed(engine):
                continue
            rows.append(row := measure(file, engine, arguments.threads, arguments.turns))
            print(
                f"{row['file']:20} {engine:12} bare {row['bare_p50_ms']:.3f} ms, {row['over_us']:+.1f} us, ratio "
                f"{row['ratio']:.4f} [{row['ratio_low']:.4f}, {row['ratio_high']:.4f}] "
                f"{'passed' if row['passed'] else 'TOO MUCH'}",
                flush=True,
            )
    print(write_record("predict-overhead", {"rows": rows}, watch.verdict()))
    sys.exit(not all(row["passed"] for row in rows))


if __name__ == "__main__":
    main()
