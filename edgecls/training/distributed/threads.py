"""How many threads TensorFlow has in this process. The order of its sums depends on them, and with it the last bits.

Of the head on features it does not; of convolutions that learn it does.
"""

from __future__ import annotations


def limit_tensorflow(threads: int) -> None:
    """Let TensorFlow keep so many threads busy; to be called before its first operation, or with the same number."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
