"""Train a grayscale image classifier, export it to int8 files and run them on small boards.

Light names only: importing this package needs numpy and Pillow, and no interpreter.
"""

import os as _os
import platform as _platform
import sys as _sys

from edgecls.errors import EdgeclsError
from edgecls.runtime.classifier import Classifier, Prediction, load

__version__ = "0.1.0"

# No engine may report its use; a variable that the user has set is kept. ONNX Runtime reports the name and hashes of
# each model that it loads, on Linux since 1.29; OpenVINO's converter reports its use, unless this package is missing:
# https://docs.openvino.ai/2026/about-openvino/additional-resources/telemetry.html
_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
_sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# TensorFlow reads this when it is imported. By itself it uses oneDNN's kernels only on x86-64 processors with VNNI, but
# they are faster on those with AVX2 alone too (`benchmarks/onednn.py`).
if _platform.machine() in ("x86_64", "AMD64"):
    _os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__all__ = ["Classifier", "EdgeclsError", "Prediction", "__version__", "load"]
