"""Shows a run while it trains: its curves as a picture and, on request, event files for TensorBoard."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edgecls.training.context import Pictures
from edgecls.training.history import EpochRecord

# Drawing takes longer than most epochs on cached features.
SECONDS_BETWEEN_PICTURES = 30.0
EVENTS_FOLDER = "tensorboard"


class Watcher:
    """Writes into the work folder when it is called after an epoch with the whole history."""

    def __init__(self, work: Path, pictures: Pictures, *, tensorboard: bool = False) -> None:
        self._work, self._pictures = work, pictures
        self._drawn = time.monotonic()
        self._events: Any = None
        self._written = 0
        if tensorboard:
            import tensorflow as tf

            self._events = tf.summary.create_file_writer(str(work / EVENTS_FOLDER))

    def __call__(self, history: list[EpochRecord]) -> None:
        """Draw the curves at most every `SECONDS_BETWEEN_PICTURES`; write the events of new epochs."""
        if time.monotonic() - self._drawn > SECONDS_BETWEEN_PICTURES:
            self._pictures.curves(history, self._work / "curves.png")
            self._drawn = time.monotonic()
        if self._events is not None:
            self._write_events(history)

    def keep(self, folder: Path) -> None:
        """Close the event files and move them into the finished run."""
        if self._events is not None:
            self._events.close()
            (self._work / EVENTS_FOLDER).rename(folder / EVENTS_FOLDER)

    def _write_events(self, history: list[EpochRecord]) -> None:
        import tensorflow as tf

        # As protocol buffers, because `tf.summary.scalar` would need the tensorboard package.
        summary = tf.compat.v1.Summary
        with self._events.as_default():
            for step, epoch in enumerate(history[self._written :], self._written + 1):
                values = [summary.Value(tag=name, simple_value=value) for name, value in _curves(epoch).items()]
                tf.summary.experimental.write_raw_pb(summary(value=values).SerializeToString(), step)
        self._events.flush()
        self._written = len(history)


def _curves(epoch: EpochRecord) -> dict[str, float]:
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate")
    curves = {name: getattr(epoch, name) for name in names}
    for layer in epoch.layers:
        curves[f"update_ratio/{layer.name}"] = layer.update_ratio
        curves[f"gradient_norm/{layer.name}"] = layer.gradient_norm
    return curves
