"""How the network of an imported model is exported: rewritten where that gives the same scores, otherwise as it is."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecls.export.fuse import FusedModel
from edgecls.export.fuse_imported import fuse_imported
from edgecls.export.imported_layers import copy_layer, grouped_convolution

if TYPE_CHECKING:
    import keras

# Of a score, 0..1.
MOST_DIFFERENCE = 1e-4
CHECKED_IMAGES = 16


@dataclass(frozen=True, eq=False)
class Rewritten:
    """An imported network for inference.

    Attributes:
        exact: for float files.
        whole: for int8 files, with a whole `pad_gray`.
        problem: why they are the network as it is, as a sentence; "" if they are rewritten.
    """

    exact: FusedModel
    whole: FusedModel
    problem: str = ""


def rewrite(model: keras.Model, images: NDArray[np.uint8]) -> Rewritten:
    """Return the network of a run of an imported model for inference, with the same scores.

    Args:
        model: of `imported.build.build_network`, loaded from a run; it is not changed.
        images: uint8 (N, S, S, 1), 0..255: what the scores are compared on.
    """
    try:
        exact = fuse_imported(model, whole_gray=False)
        problem = _compare(model, exact, images[:CHECKED_IMAGES])
        if not problem:
            return Rewritten(exact, fuse_imported(model, whole_gray=True))
    except network_errors() as error:
        # The rewrite knows the usual networks; any other is converted as it is.
        problem = f"{type(error).__name__}, {error!s:.200}"
    plain = as_it_is(model)
    return Rewritten(plain, plain, f"the network is converted as it is, since it cannot be rewritten: {problem}")


def network_errors() -> tuple[type[Exception], ...]:
    """Return the errors with which Keras and TensorFlow refuse a network that they cannot rewrite or compute."""
    import tensorflow as tf

    return (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, tf.errors.OpError)


def as_it_is(model: keras.Model) -> FusedModel:
    """Return the network without any change but its input, which is float32 (1, S, S, 1), 0..255."""
    import keras

    image = keras.Input(model.input.shape[1:], batch_size=1, dtype="float32", name="centered_image")

    copy = functools.partial(copy_layer, grouped_as=grouped_convolution())
    core = keras.models.clone_model(model, input_tensors=image, clone_function=copy)
    core.set_weights(model.get_weights())
    return FusedModel(core, 0.0)


def _compare(model: keras.Model, fused: FusedModel, images: NDArray[np.uint8]) -> str:
    """Return "" or by how much the scores of `fused` differ."""
    wanted = model.predict(images, batch_size=1, verbose=0)
    # Layer by layer: in a graph, TensorFlow joins a grouped convolution and its bias, which some processors cannot run.
    found = np.concatenate(
        [fused.core(image[None].astype(np.float32) - fused.pad_gray, training=False).numpy() for image in images]
    )
    difference = float(np.abs(wanted - found).max())
    return "" if difference <= MOST_DIFFERENCE else f"its scores differ by {difference:.2g}"
