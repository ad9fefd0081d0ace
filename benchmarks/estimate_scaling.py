"""Does the estimator follow image size and width? Published latencies are of full-size networks only.

Untrained networks of several sizes and widths, exported and run here in LiteRT, one thread, in turns. Each is predicted
from the published latencies and one measurement here: that of the largest network of its precision.

python benchmarks/estimate_scaling.py    # four minutes; writes benchmarks/results/estimate-scaling.json
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from estimate_validation import quantile
from record import Watch, write_record

from edgecls.config import TrainConfig
from edgecls.estimate.estimate import published_fit
from edgecls.estimate.model import Run, fit_runs, run_of
from edgecls.estimate.operators import count_network
from edgecls.estimate.published_latencies import load_latencies, load_processor
from edgecls.export import tflite
from edgecls.export.fuse import fuse
from edgecls.networks.model import build_model
from edgecls.networks.weights import Weights

CONFIGS = tuple(
    TrainConfig(image_size=size, alpha=alpha)
    for size, alpha in ((224, 1.0), (224, 0.35), (160, 0.5), (128, 1.0), (96, 1.0), (96, 0.35))
)
CLASSES = 6
ROUNDS, CALLS = 60, 5
# A processor of the kind that this was written on, without latencies of its own: only the one measurement is known.
PROCESSOR = "x86-vnni"


def main() -> None:
    """Measure, predict, print and write."""
    runs, interpreters = [], []
    random = np.random.default_rng(0)
    for config in CONFIGS:
        model = build_model(config, CLASSES, Weights("none", None, None, "keras"))
        images = random.integers(0, 256, (16, config.image_size, config.image_size, 1)).astype(np.uint8)
        for precision, data in (
            ("fp32", tflite.to_fp32(fuse(model))),
            ("int8", tflite.to_int8(fuse(model, in_blocks=True), images)),
        ):
            runs.append(
                Run(count_network(config, CLASSES), load_processor(PROCESSOR), "xnnpack", precision, 1, own=True)
            )
            interpreters.append(_interpreter(data, images[0]))
    watch = Watch()
    times_ms = _measure(interpreters)
    rows = [
        _row(run, ms, anchor, anchor_ms)
        for run, ms in zip(runs, times_ms, strict=True)
        for anchor, anchor_ms in zip(runs[:2], times_ms[:2], strict=True)
        if anchor.precision == run.precision and anchor is not run
    ]
    print(
        "measured here:", [(run.network.name, run.precision, ms) for run, ms in zip(runs[:2], times_ms, strict=False)]
    )
    for row in rows:
        print(row)
    print("median error", np.median([row["error"] for row in rows]), "scores", quantile([row["score"] for row in rows]))
    print(write_record("estimate-scaling", {"rows": rows}, watch.verdict()))


def _interpreter(data: bytes, image: Any) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    return interpreter


def _measure(interpreters: list[Any]) -> list[float]:
    """Return each shortest call in ms: what others do on this machine lengthens the rest."""
    times: list[list[float]] = [[] for _ in interpreters]
    for _ in range(ROUNDS):
        for found, interpreter in zip(times, interpreters, strict=True):
            calls = []
            for _ in range(CALLS):
                start = time.perf_counter()
                interpreter.invoke()
                calls.append(time.perf_counter() - start)
            found.append(min(calls) * 1000)
    return [min(found) for found in times]


def _row(run: Run, ms: float, anchor: Run, anchor_ms: float) -> dict[str, Any]:
    latencies = load_latencies()
    known = [run_of(latency) for latency in latencies]
    fitted = fit_runs(
        [*known, anchor], [latency.ms for latency in latencies] + [anchor_ms], published_fit().prior_scales
    )
    mean, sd = fitted.predict(run)
    return {
        "network": run.network.name,
        "precision": run.precision,
        "multiply_adds": run.network.multiply_adds,
        "anchor_ms": round(anchor_ms, 4),
        "ms": round(ms, 4),
        "predicted_ms": round(math.exp(mean), 4),
        "error": round(abs(math.exp(mean) / ms - 1), 3),
        "score": round(abs(mean - math.log(ms)) / sd, 3),
    }


if __name__ == "__main__":
    main()
