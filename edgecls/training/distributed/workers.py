"""Workers: processes, mostly on several machines, that train one network together through TensorFlow's collectives.

Each computes its part of every batch, and all take the same steps. Every decision is made from values that they
exchange, so that they stay together. The first worker keeps the run.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edgecls.config import TrainConfig
from edgecls.errors import ConfigError, TrainingError
from edgecls.messages.lists import short
from edgecls.progress import Progress, silent
from edgecls.training.distributed.cluster import Cluster, wait_for_others

# TensorFlow's error when a worker is lost.
LOST = "Collective ops is aborted"
SHOWN_CHARACTERS = 40


class Workers:
    """The processes that train together, for one of them.

    Attributes:
        strategy: of `tf.distribute`, over the devices of all workers; None if this process trains alone.
        index: of this process.
        count: number of workers.
    """

    def __init__(self, cluster: Cluster | None = None, strategy: Any = None) -> None:
        self._cluster, self.strategy = cluster, strategy
        self.index = cluster.index if cluster else 0
        self.count = len(cluster.addresses) if cluster else 1
        self._sum_function: Any = None

    def anyone(self, value: bool) -> bool:
        """Return whether any worker passed True; all must call this together."""
        return any(data[0] for data in self.gather(bytes([value])))

    def is_late(self, deadline: float | None) -> bool:
        """Return whether a deadline of `time.monotonic` has passed on any worker; all must call this together."""
        # All workers have a deadline or none has.
        return deadline is not None and self.anyone(time.monotonic() > deadline)

    def broadcast(self, data: bytes) -> bytes:
        """Return what the first worker passed; all must call this together."""
        return self.gather(b"" if self.index else data)[0]

    def gather(self, data: bytes) -> list[bytes]:
        """Return what each worker passed; all must call this together."""
        if self._cluster is None:
            return [data]
        sizes = np.zeros(self.count, np.int64)
        sizes[self.index] = len(data)
        sizes = self._sum(sizes)
        # In 64-bit integers, where each worker fills its own part and leaves the others zero.
        words = -(-sizes // 8)
        starts = np.cumsum(words) - words
        whole = np.zeros(words.sum(), np.int64)
        mine = slice(starts[self.index], starts[self.index] + words[self.index])
        whole[mine] = np.frombuffer(data.ljust(8 * words[self.index], b"\0"), np.int64)
        whole = self._sum(whole)
        return [whole[start:].tobytes()[:size] for start, size in zip(starts, sizes, strict=True)]

    def check_same(self, facts: Mapping[str, Any]) -> None:
        """Check that all workers pass the same; all must call this together.

        Args:
            facts: name -> JSON value.

        Raises:
            ConfigError: a worker passed something else; raised on every worker.
        """
        first, *others = (json.loads(text) for text in self.gather(json.dumps(dict(facts)).encode()))
        for index, other in enumerate(others, 1):
            if unlike := [name for name in {**first, **other} if first.get(name) != other.get(name)]:
                assert self._cluster is not None
                values = {name: [short(each.get(name), SHOWN_CHARACTERS) for each in (other, first)] for name in unlike}
                what = ", ".join(f"{name} ({other}, not {first})" for name, (other, first) in values.items())
                raise ConfigError(
                    f"{self._cluster.name(index)} has other settings than {self._cluster.name(0)}: {what}; give all "
                    "the same command, the same images and the same versions"
                )

    def _sum(self, values: Any) -> Any:
        import tensorflow as tf

        if self._sum_function is None:

            def add(values: Any) -> Any:
                context = tf.distribute.get_replica_context()
                first = context.replica_id_in_sync_group % (self.strategy.num_replicas_in_sync // self.count) == 0
                # Only the first device of each machine counts.
                return context.all_reduce(tf.distribute.ReduceOp.SUM, values if first else tf.zeros_like(values))

            def add_all(values: Any) -> Any:
                return self.strategy.experimental_local_results(self.strategy.run(add, args=(values,)))[0]

            self._sum_function = tf.function(add_all, input_signature=[tf.TensorSpec((None,), tf.int64)])
        return self._sum_function(values).numpy()


ALONE = Workers()
"""One process alone, with any number of devices."""


@contextlib.contextmanager
def join(cluster: Cluster | None, config: TrainConfig, progress: Progress = silent) -> Iterator[Workers]:
    """Yield the workers of a cluster when all have started; without a cluster, `ALONE`.

    Args:
        cluster: to join; TensorFlow must not have computed anything before.
        config: of the run.
        progress: called while it waits for other workers.

    Raises:
        ConfigError: a setting needs one machine. TrainingError: a worker did not start, or was lost.
    """
    if cluster is None:
        yield ALONE
        return
    if config.batch_norm:
        raise ConfigError(
            "--batch-norm needs whole batches, and each of several machines sees only a part; leave out --batch-norm, "
            "or train on one machine"
        )
    import tensorflow as tf

    workers = Workers(cluster, _connect(cluster, progress))
    try:
        yield workers
    except tf.errors.OpError as error:
        reason = next((line for line in str(error).splitlines() if LOST in line), "")
        if not reason:
            raise
        lost = cluster.list_silent()
        who = f"{' and '.join(lost)} no longer answers" if lost else "another worker hangs, or cannot be reached"
        raise TrainingError(
            f"{who} ({reason}); read its output on its own machine, then start all workers again with --resume"
        ) from error


def _connect(cluster: Cluster, progress: Progress) -> Any:
    """Return the strategy over the devices of all workers, when all have started."""
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.index,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )
    # TensorFlow itself would wait for the others forever and print nothing.
    wait_for_others(cluster, progress)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except (tf.errors.OpError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(f"{cluster.name(cluster.index)} cannot join the others: {reason}") from error
