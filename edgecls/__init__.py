"""Train a grayscale image classifier, export it to int8 files and run them on small boards.

Light names only: importing this package needs numpy and Pillow, and no interpreter.
"""

from edgecls.errors import EdgeclsError
from edgecls.runtime.classifier import Classifier, Prediction, load
from edgecls.runtime.telemetry import switch_off as _switch_telemetry_off

__version__ = "0.1.0"

# Before any engine is imported.
_switch_telemetry_off()

__all__ = ["Classifier", "EdgeclsError", "Prediction", "__version__", "load"]
