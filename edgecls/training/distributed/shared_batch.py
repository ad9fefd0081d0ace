"""A batch split among several devices of one or more machines: each computes its part, all get the sum.

The result is that of one device with the whole batch, dropout included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

Compute = Callable[[Any, Any, Any, bool], list[Any]]


class SharedBatch:
    """Splits batches among the devices of a `tf.distribute` strategy; used while TensorFlow traces a step."""

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy
        self._parts: int = strategy.num_replicas_in_sync
        # These belong to the part that is being traced.
        self._count: Any = None
        self._mine = slice(0)
        self._masks: dict[str, Any] = {}

    def sum(self, compute: Compute, x: Any, labels: Any) -> list[Any]:
        """Return the sums, over all parts of the batch, of the tensors that `compute` returns of one.

        Args:
            compute: called on each device as compute(inputs, labels, weight, is first part); weight is 1, or 0 for an
                image that counts in another part.
            x: inputs of the whole batch.
            labels: of the whole batch.
        """
        import tensorflow as tf

        def compute_part(x: Any, labels: Any) -> Any:
            context = tf.distribute.get_replica_context()
            place, self._count = context.replica_id_in_sync_group, tf.shape(labels)[0]
            start, stop = (self._count * each // self._parts for each in (place, place + 1))
            # At least one image: for none, oneDNN's convolutions return the shape of their input.
            self._mine = slice(start, tf.maximum(stop, start + 1))
            weight = tf.cast(stop > start, tf.float32)
            found = compute(x[self._mine], labels[self._mine], weight, place == 0)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, found) if self._parts > 1 else found

        self._masks = {}
        found = self._strategy.run(compute_part, args=(x, labels))
        # The same on every device.
        return list(self._strategy.experimental_local_results(found)[0])

    def share_dropout(self, model: keras.Model) -> keras.Model:
        """Return a model of the same layers whose dropout does to each part what it would do to the whole batch."""
        import keras

        if self._parts == 1:
            return model

        def shared(layer: keras.layers.Layer) -> keras.layers.Layer:
            return self._shared_dropout(layer) if isinstance(layer, keras.layers.Dropout) else layer

        return keras.models.clone_model(model, clone_function=shared)

    def _shared_dropout(self, own: keras.layers.Dropout) -> keras.layers.Layer:
        import keras
        import tensorflow as tf

        class SharedDropout(keras.layers.Layer):  # type: ignore[misc]
            def call(layer, inputs: Any, training: bool = False) -> Any:
                if not training or not own.rate:
                    return inputs
                # Drawn once in each step, so that the random numbers are those of one device.
                if own.name not in self._masks:
                    ones = tf.ones([self._count, *inputs.shape[1:]], inputs.dtype)
                    self._masks[own.name] = keras.random.dropout(ones, own.rate, seed=own.seed_generator)
                return inputs * self._masks[own.name][self._mine]

        return SharedDropout(name=own.name)
