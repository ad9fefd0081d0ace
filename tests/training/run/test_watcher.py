"""What can be looked at while a run is under way."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import tensorflow as tf
from PIL import Image
from report_run import epoch, layer

from edgecls.report.pictures import PICTURES
from edgecls.training.context import Pictures
from edgecls.training.run.watcher import EVENTS_FOLDER, SECONDS_BETWEEN_PICTURES, Watcher

HISTORY = [epoch(number, layers=[layer("scores", 1e-3 * number)]) for number in range(1, 5)]


def read_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return (step, value) of each curve."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    return curves


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_curves_are_drawn_now_and_then(tmp_path: Path, clock: list[float]) -> None:
    watcher = Watcher(tmp_path, PICTURES)
    watcher(HISTORY[:1])
    assert not any(tmp_path.iterdir())
    clock[0] += SECONDS_BETWEEN_PICTURES + 1
    watcher(HISTORY[:2])
    with Image.open(tmp_path / "curves.png") as picture:
        assert min(picture.size) > 100
    drawn = (tmp_path / "curves.png").stat().st_mtime_ns
    clock[0] += SECONDS_BETWEEN_PICTURES - 1
    watcher(HISTORY[:3])
    assert (tmp_path / "curves.png").stat().st_mtime_ns == drawn


def test_without_tensorboard_nothing_is_written_or_kept(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path, PICTURES)
    watcher(HISTORY)
    watcher.keep(tmp_path / "finished")
    assert not any(tmp_path.iterdir())


def test_every_epoch_is_written_once_and_at_once(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path, Pictures(), tensorboard=True)
    for count in (1, 2, 4):
        watcher(HISTORY[:count])
        curves = read_events(tmp_path / EVENTS_FOLDER)
        assert [step for step, _ in curves["val_loss"]] == list(range(1, count + 1))
    assert set(curves) == {
        *("train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate"),
        *("update_ratio/scores", "gradient_norm/scores"),
    }
    assert [value for _, value in curves["train_accuracy"]] == pytest.approx([e.train_accuracy for e in HISTORY])
    assert [value for _, value in curves["update_ratio/scores"]] == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3])


def test_events_move_into_the_finished_run(tmp_path: Path) -> None:
    finished = tmp_path / "finished"
    finished.mkdir()
    watcher = Watcher(tmp_path, Pictures(), tensorboard=True)
    watcher(HISTORY)
    watcher.keep(finished)
    assert [path.name for path in tmp_path.iterdir()] == ["finished"]
    assert len(read_events(finished / EVENTS_FOLDER)["val_loss"]) == 4


def test_a_resumed_run_without_another_epoch_has_its_folder_too(tmp_path: Path) -> None:
    (tmp_path / "finished").mkdir()
    Watcher(tmp_path, Pictures(), tensorboard=True)(HISTORY)
    Watcher(tmp_path, Pictures(), tensorboard=True).keep(tmp_path / "finished")
    assert read_events(tmp_path / "finished" / EVENTS_FOLDER)["val_loss"][-1][0] == 4
