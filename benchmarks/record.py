"""Write what a benchmark found, with what it depends on, to benchmarks/results/NAME.json. Runs on a board too."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

from edgecls.versions import tool_versions

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numpy", "pillow", "click", "ai-edge-litert", "tflite-runtime", "onnxruntime", "openvino")


def write_record(name: str, rows: list[dict[str, Any]], results: Path = RESULTS) -> Path:
    """Return the path of the JSON file that was written."""
    record = {
        "schema": 1,
        "date": datetime.date.today().isoformat(),
        "machine": {"cpu": _cpu_name(), "arch": platform.machine(), "cpus": os.cpu_count()},
        "python": platform.python_version(),
        "versions": tool_versions(*PACKAGES),
        "load_average": os.getloadavg()[0],
        "rows": rows,
    }
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def _cpu_name() -> str:
    # "Model" is a Raspberry Pi's last line, "model name" a PC's.
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [
        line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("model") and "name" in line[:10]
    ]
    boards = [line.split(":", 1)[1].strip() for line in lines if line.startswith("Model\t")]
    return (names + boards + [platform.processor()])[0]
