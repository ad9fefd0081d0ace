"""Rebuilds the network of prepared.npz in Keras 2 or 3.

`edgecls export RUN --prepared` copies this file beside prepared.npz, for environments that have no edgecls.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def rebuild(path: str | Path, keras: Any) -> Any:
    """Return the network in a file as a model of the module `keras`: float32 (N, S, S, 1) -> scores (N, C).

    The input is the gray image, 0 to 255, less the mean in prepared.json. `keras` is the module keras, tf_keras or
    tensorflow.keras.
    """
    values: dict[str, Any] = {}
    with np.load(path, allow_pickle=False) as stored:
        for layer in json.loads(str(stored["layers"])):
            if layer["kind"] == "InputLayer":
                first = values[layer["name"]] = keras.Input(layer["settings"]["shape"], name=layer["name"])
                continue
            made = getattr(keras.layers, layer["kind"])(name=layer["name"], **layer["settings"])
            inputs = [values[name] for name in layer["inputs"]]
            last = values[layer["name"]] = made(inputs if len(inputs) > 1 else inputs[0])
            made.set_weights([stored[f"{layer['name']}/{name}"] for name in layer["weights"]])
    return keras.Model(first, last)
