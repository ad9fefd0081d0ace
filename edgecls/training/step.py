"""A network for the training loop: one training step, one test step, its weights as plain arrays.

The loss is computed from logits, not from softmax scores: Keras clips scores at 1e-7, where the gradient of a confident
mistake vanishes.

Several GPUs or machines each compute the gradients of a part of the batch, and all take one step with the sum. So the
network learns the same on any number of them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.training.distributed.shared_batch import SharedBatch
from edgecls.training.distributed.workers import ALONE, Workers
from edgecls.training.history import Divergence
from edgecls.training.recipe import Recipe

if TYPE_CHECKING:
    import keras

# Keeps the update ratio of biases finite, as they start at zero.
SMALLEST_NORM = 1e-12


@dataclass(frozen=True)
class StepOutput:
    """What one training step did."""

    loss: float  # mean over the batch, regularization included
    correct: float  # number of images classified correctly before the step
    gradients: NDArray[np.float32]  # norm of each layer's gradients, float32 (layers,), before clipping
    updates: NDArray[np.float32] | None  # |change| / |weights| of each layer, float32 (layers,); None if not watched


class TrainableNetwork:
    """A Keras model that ends in a softmax Dense layer, with its optimizer.

    Attributes:
        layer_names: the trainable layers, from the image to the scores.
    """

    def __init__(self, model: keras.Model, recipe: Recipe, workers: Workers = ALONE) -> None:
        import keras
        import tensorflow as tf

        self._model, self._recipe = model, recipe
        layers = [layer for layer in model.layers if layer.trainable and layer.trainable_variables]
        self.layer_names = [layer.name for layer in layers]
        self._groups = [layer.trainable_variables for layer in layers]
        self._trainable = [variable for group in self._groups for variable in group]
        self._batch = SharedBatch(workers.strategy or _local_strategy(_devices(layers)))
        # These include the state of dropout's random numbers.
        self._variables = [variable for layer in model.layers if layer.trainable for variable in layer.variables]
        self._optimizer = _build_optimizer(recipe, self._trainable)
        self._best = [variable.numpy() for variable in self._variables]
        self._relu_model, self._relu_names = _relu_outputs(model)
        self._last = model.layers[-1]
        inner = keras.Model(model.input, tensors_of(model)[self._last.name][0])
        self._inner = self._batch.share_dropout(inner)
        self._kernels = [variable for variable in self._trainable if variable.path.endswith("kernel")]
        self._class_weights = tf.constant(recipe.class_weights or [1.0] * self._last.units, tf.float32)
        # One graph for every batch size: otherwise the last bits of a step would depend on earlier batch sizes.
        self._dtype = model.input.dtype
        signature = [tf.TensorSpec((None, *model.input.shape[1:]), self._dtype), tf.TensorSpec((None,), tf.int64)]
        self._train_steps = {
            watch: tf.function(functools.partial(self._learn, watch), input_signature=signature)
            for watch in (False, True)
        }
        self._test_step = tf.function(self._test, input_signature=signature)

    def _logits(self, x: Any, training: bool) -> Any:
        return self._inner(x, training=training) @ self._last.kernel + self._last.bias

    def _loss(self, logits: Any, labels: Any) -> Any:
        import tensorflow as tf

        recipe, classes = self._recipe, self._last.units
        target = tf.one_hot(labels, classes) * (1 - recipe.label_smoothing) + recipe.label_smoothing / classes
        losses = tf.nn.softmax_cross_entropy_with_logits(target, logits) * tf.gather(self._class_weights, labels)
        return tf.reduce_sum(losses)

    def _penalty(self) -> Any:
        import tensorflow as tf

        return self._recipe.l2 * tf.add_n([tf.reduce_sum(tf.square(kernel)) for kernel in self._kernels])

    def _learn(self, watch: bool, x: Any, labels: Any) -> tuple[Any, ...]:
        import tensorflow as tf

        loss, correct, gradients = self._gradients(x, labels)
        before = [tf.identity(variable) for variable in self._trainable] if watch else []
        self._optimizer.apply(gradients, self._trainable)
        updates = tf.zeros(0)
        if watch:
            changes = [new - old for new, old in zip(self._trainable, before, strict=True)]
            updates = self._norms(changes) / (self._norms(before) + SMALLEST_NORM)
        return loss, correct, self._norms(gradients), updates

    def _gradients(self, x: Any, labels: Any) -> tuple[Any, Any, list[Any]]:
        """Return (mean loss of the batch, number of correct answers, gradients)."""
        import tensorflow as tf

        count = tf.cast(tf.shape(labels)[0], tf.float32)

        def compute(x: Any, labels: Any, weight: Any, first: bool) -> list[Any]:
            with tf.GradientTape() as tape:
                logits = self._logits(x, True)
                loss = weight * self._loss(logits, labels) / count
                if self._recipe.l2 and first:
                    loss += self._penalty()
            return [loss, weight * _count_correct(logits, labels), *tape.gradient(loss, self._trainable)]

        loss, correct, *gradients = self._batch.sum(compute, x, labels)
        return loss, correct, gradients

    def _test(self, x: Any, labels: Any) -> list[Any]:
        import tensorflow as tf

        def compute(x: Any, labels: Any, weight: Any, first: bool) -> list[Any]:
            logits = self._logits(x, False)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            return [weight * tf.reduce_sum(losses), weight * _count_correct(logits, labels)]

        return self._batch.sum(compute, x, labels)

    @property
    def learning_rate(self) -> float:
        """Return the learning rate."""
        return float(self._optimizer.learning_rate)

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._optimizer.learning_rate.assign(value)

    def train_step(self, x: NDArray[Any], labels: NDArray[np.int64], *, watch: bool) -> StepOutput:
        """Learn from one batch, and return what the step did; `watch` measures the updates too."""
        loss, correct, gradients, updates = self._train_steps[watch](np.asarray(x, self._dtype), labels)
        return StepOutput(float(loss), float(correct), gradients.numpy(), updates.numpy() if watch else None)

    def test_step(self, x: NDArray[Any], labels: NDArray[np.int64]) -> tuple[float, float]:
        """Return (sum of cross-entropies, number of correct answers) of one batch."""
        loss, correct = self._test_step(np.asarray(x, self._dtype), labels)
        return float(loss), float(correct)

    def find_divergence(self, out: StepOutput, phase: str, epoch: int, step: int) -> Divergence | None:
        """Return what was not finite in this step, or None."""
        if np.isfinite(out.loss) and np.isfinite(out.gradients).all():
            return None
        bad = [name for name, norm in zip(self.layer_names, out.gradients, strict=True) if not np.isfinite(norm)]
        what = "gradient" if np.isfinite(out.loss) else "loss"
        return Divergence(phase, epoch, step, what, bad[0] if bad else None)

    def find_bad_layer(self) -> str | None:
        """Return the first layer, from the image, with weights that are not finite, or None."""
        groups = zip(self.layer_names, self._groups, strict=True)
        return next((name for name, group in groups if not all(np.isfinite(part).all() for part in group)), None)

    def dead_fractions(self, batches: Iterable[NDArray[Any]]) -> dict[str, float]:
        """Return the fraction of channels that are zero for all inputs, for each trainable layer with a ReLU."""
        if self._relu_model is None:
            return {}
        alive: list[Any] = [False] * len(self._relu_names)
        for x in batches:
            outputs = self._relu_model(np.asarray(x, self._dtype), training=False)
            # Keras returns a single output without a list.
            outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
            # Dead are channels, not positions: all positions share their weights.
            for i, output in enumerate(outputs):
                alive[i] |= (np.asarray(output) > 0).any(axis=tuple(range(output.ndim - 1)))
        return {name: float(1 - np.mean(living)) for name, living in zip(self._relu_names, alive, strict=True)}

    def remember_best(self) -> None:
        """Keep the current weights as the best."""
        self._best = [variable.numpy() for variable in self._variables]

    def recall_best(self) -> None:
        """Set the weights to the best."""
        for variable, value in zip(self._variables, self._best, strict=True):
            variable.assign(value)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything a checkpoint needs of the network."""
        groups = {"now": self._variables, "best": self._best, "optimizer": self._optimizer.variables}
        return {f"{group}/{i}": np.asarray(value) for group, values in groups.items() for i, value in enumerate(values)}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Set weights, best weights and optimizer to what `arrays` returned."""
        self._best = [arrays[f"best/{i}"] for i in range(len(self._variables))]
        for group, variables in (("now", self._variables), ("optimizer", self._optimizer.variables)):
            for i, variable in enumerate(variables):
                variable.assign(arrays[f"{group}/{i}"])

    def _norms(self, values: list[Any]) -> Any:
        """Return the norm of each layer's values, one tensor (layers,); `values` are in the order of the variables."""
        import tensorflow as tf

        norms, start = [], 0
        for group in self._groups:
            norms.append(tf.linalg.global_norm(values[start : start + len(group)]))
            start += len(group)
        return tf.stack(norms)


def _devices(layers: list[Any]) -> list[str]:
    """Return the devices of this machine among which batches are split: all GPUs if there are several, or none."""
    import keras
    import tensorflow as tf

    names = [device.name for device in tf.config.list_logical_devices("GPU")]
    # Batch normalization needs the statistics of the whole batch.
    if len(names) < 2 or any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers):
        return []
    return names


def _local_strategy(devices: list[str]) -> Any:
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(devices) if devices else tf.distribute.get_strategy()


def _count_correct(logits: Any, labels: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_sum(tf.cast(tf.argmax(logits, 1) == labels, tf.float32))


def tensors_of(model: keras.Model) -> dict[str, tuple[Any, Any]]:
    """Return the (first input, output) of each layer in this model's own graph.

    `layer.input` and `layer.output` belong to the first model that used the layer, and both parts of a split network
    share their layers with the whole.
    """
    nodes = [node for depth in model._nodes_by_depth.values() for node in depth if node.input_tensors]
    return {node.operation.name: (node.input_tensors[0], node.outputs[0]) for node in nodes}


def _build_optimizer(recipe: Recipe, variables: list[Any]) -> Any:
    import keras

    clip = recipe.clip_norm or None
    if recipe.weight_decay:
        optimizer = keras.optimizers.AdamW(recipe.learning_rate, weight_decay=recipe.weight_decay, global_clipnorm=clip)
        # Only kernels decay: pulling a bias or a normalization towards zero does not regularize.
        optimizer.exclude_from_weight_decay(
            [variable for variable in variables if not variable.path.endswith("kernel")]
        )
    else:
        optimizer = keras.optimizers.Adam(recipe.learning_rate, global_clipnorm=clip)
    optimizer.build(variables)
    return optimizer


def _relu_outputs(model: keras.Model) -> tuple[keras.Model | None, list[str]]:
    """Return (a model of the outputs of the ReLUs that follow trainable layers, the names of these layers)."""
    import keras

    outputs, names, last = [], [], None
    tensors = tensors_of(model)
    for layer in model.layers:
        # Normalization, frozen or not, may stand between a layer and its ReLU.
        if layer.weights and not (last and isinstance(layer, keras.layers.BatchNormalization)):
            last = layer.name if layer.trainable else None
        activation = getattr(layer, "activation", None)
        is_relu = isinstance(layer, keras.layers.ReLU) or getattr(activation, "__name__", "") in ("relu", "relu6")
        if is_relu and last is not None:
            outputs.append(tensors[layer.name][1])
            names.append(last)
            last = None
    return (keras.Model(model.input, outputs) if outputs else None), names
