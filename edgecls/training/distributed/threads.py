"""The number of TensorFlow's threads in this process.

The order of its sums depends on it, and so do the last bits of trainable convolutions (not of dense layers).
"""

from __future__ import annotations


def limit_tensorflow(threads: int) -> None:
    """Set the number of threads; call this before TensorFlow's first operation, or with the same number."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
