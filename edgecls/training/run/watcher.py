"""What can be looked at while a run is under way: its curves as a picture, and TensorBoard's event files on request."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edgecls.training.context import Pictures
from edgecls.training.history import EpochRecord

# Drawing takes longer than many an epoch on cached features.
SECONDS_BETWEEN_PICTURES = 30.0
EVENTS_FOLDER = "tensorboard"


class Watcher:
    """Called after each epoch with the whole history; writes into the work folder."""

    def __init__(self, work: Path, pictures: Pictures, *, tensorboard: bool = False) -> None:
        self._work, self._pictures = work, pictures
        self._drawn = time.monotonic()
        self._events: Any = None
        self._written = 0
        if tensorboard:
            import tensorflow as tf

            self._events = tf.summary.create_file_writer(str(work / EVENTS_FOLDER))

    def __call__(self, history: list[EpochRecord]) -> None:
        """Draw the curves now and then; write the latest epoch's events."""
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

        # As a protocol buffer: `tf.summary.scalar` would need the tensorboard package here, not only where it is read.
        summary = tf.compat.v1.Summary
        with self._events.as_default():
            for step, epoch in enumerate(history[self._written :], self._written + 1):
                values = [summary.Value(tag=name, simple_value=value) for name, value in _curves(epoch).items()]
                tf.summary.experimental.write_raw_pb(summary(value=values).SerializeToString(), step)
        # What is read while the run is under way should be there.
        self._events.flush()
        self._written = len(history)


def _curves(epoch: EpochRecord) -> dict[str, float]:
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate")
    curves = {name: getattr(epoch, name) for name in names}
    for layer in epoch.layers:
        curves[f"update_ratio/{layer.name}"] = layer.update_ratio
        curves[f"gradient_norm/{layer.name}"] = layer.gradient_norm
    return curves
