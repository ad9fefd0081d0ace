"""Activations for TFLite files, in a form whose operations all have a small range."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

# Of selu (Klambauer et al. 2017, https://arxiv.org/abs/1706.02515).
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


def bounded(core: keras.Model) -> keras.Model:
    """Return a network that gives the same scores, also as a TFLite file.

    TensorFlow writes softplus and mish with log(1 + exp(x)), and selu with exp(x). An int8 operation has 256 steps over
    its whole range: where x reaches 20, those of exp(x) are two million apart. In float32, exp(89) is infinite.

    Args:
        core: it is not changed, and returned if it has none of these activations.
    """
    import keras

    forms = {keras.activations.softplus: _softplus, keras.activations.mish: _mish, keras.activations.selu: _selu}
    if not any(getattr(layer, "activation", None) in forms for layer in core.layers):
        return core

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        new = type(layer).from_config(layer.get_config())
        if getattr(layer, "activation", None) in forms:
            new.activation = forms[layer.activation]
        return new

    image = keras.Input(batch_shape=core.input.shape, dtype=core.input.dtype, name=core.input.name)
    copied = keras.models.clone_model(core, input_tensors=image, clone_function=copy)
    copied.set_weights(core.get_weights())
    return copied


def _softplus(x: Any) -> Any:
    """Return log(1 + exp(x)) as max(x, 0) - log(sigmoid(|x|)): the sigmoid is in 0.5..1, its logarithm in -0.7..0."""
    from keras import ops

    return ops.subtract(ops.relu(x), ops.log(ops.sigmoid(ops.abs(x))))


def _mish(x: Any) -> Any:
    from keras import ops

    return ops.multiply(x, ops.tanh(_softplus(x)))


def _selu(x: Any) -> Any:
    """Return selu; TFLite's own ELU computes exp(x) for negative x alone."""
    from keras import ops

    negative = ops.multiply(ops.elu(ops.negative(ops.relu(ops.negative(x)))), _SELU_ALPHA)
    return ops.multiply(ops.add(ops.relu(x), negative), _SELU_SCALE)
