from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import CLASSES, SIZE, draw

from edgecls.config import TrainConfig
from edgecls.errors import DataError
from edgecls.export.calibration import ExportSamples, choose_stratified, load_samples
from edgecls.images.archive import exists
from edgecls.images.dataset import load_dataset
from edgecls.runtime.classifier import Engine, load
from edgecls.training.run.run_folder import images_sha256, read_record

labels_lists = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@given(labels_lists, st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_the_choice_takes_the_classes_in_turn_until_they_run_out(labels: list[int], count: int, seed: int) -> None:
    chosen = choose_stratified(labels, count, seed)
    assert len(chosen) == len(set(chosen)) == min(count, len(labels))
    there, taken = Counter(labels), Counter(labels[i] for i in chosen)
    # A class has at most one image less than the most frequent one, unless it has no more.
    most = max(taken.values())
    assert all(taken[label] >= min(there[label], most - 1) for label in there)
    if count >= len(there):
        assert set(taken) == set(there)
    assert chosen == choose_stratified(labels, count, seed)


def test_another_seed_chooses_other_images() -> None:
    labels = [0, 1, 2] * 20
    choices = {tuple(choose_stratified(labels, 12, seed)) for seed in range(5)}
    assert len(choices) == 5


@pytest.fixture(scope="module")
def record(tiny_run: Path) -> dict[str, Any]:
    return read_record(tiny_run)


@pytest.fixture
def moved(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the run's images that a test may change."""
    return Path(shutil.copytree(tiny_data, tmp_path / "moved"))


def read(record: dict[str, Any], data: Path | None = None, count: int = 7) -> ExportSamples:
    return load_samples(record, data=data, count=count, seed=0)


@pytest.mark.parametrize(("count", "drawn"), [(3, 3), (7, 7), (10_000, 21)])
def test_calibration_images_are_of_every_class_and_none_is_held_out(
    record: dict[str, Any], count: int, drawn: int
) -> None:
    samples = read(record, count=count)
    calibration, held_out = set(samples.calibration.paths), set(samples.held_out.paths)
    assert len(calibration) == drawn
    assert set(samples.calibration.labels) == set(range(len(CLASSES)))
    assert not calibration & held_out
    train = {path for paths in record["split"]["train"].values() for path in paths}
    assert calibration <= train
    assert held_out == {path for paths in record["split"]["test"].values() for path in paths}
    assert samples.held_out_name == "test"


def test_without_a_test_the_validation_images_are_held_out(record: dict[str, Any]) -> None:
    whole = read(record, count=10_000)
    validation = load_samples_of_val(record)
    assert validation.held_out_name == "val"
    assert not set(validation.held_out.paths) & set(whole.calibration.paths + whole.held_out.paths)


def load_samples_of_val(record: dict[str, Any]) -> ExportSamples:
    split = {name: record["split"][name] for name in ("train", "val")}
    dataset = load_dataset(Path(record["data"]), SIZE, **split_settings(record))
    held_out = {"split": "val", "sha256": images_sha256(dataset.val.images)}
    return read({**record, "split": split, "held_out": held_out})


def split_settings(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record["config"][name] for name in ("val_fraction", "test_fraction", "seed")}


def test_a_moved_folder_asks_for_data_and_data_helps(record: dict[str, Any], moved: Path, tmp_path: Path) -> None:
    lost = {**record, "data": str(tmp_path / "gone")}
    with pytest.raises(DataError, match=r"no longer.*--data") as caught:
        read(lost)
    assert "--data" in str(caught.value)
    assert str(tmp_path / "gone") in str(caught.value)
    found, original = read(lost, data=moved), read(record)
    assert found.calibration.paths == original.calibration.paths
    assert np.array_equal(found.held_out.images, original.held_out.images)


def held_out_file(record: dict[str, Any], root: Path) -> Path:
    return root / str(record["split"]["test"]["dark"][0])


def test_changed_held_out_images_are_refused(record: dict[str, Any], moved: Path) -> None:
    path = held_out_file(record, moved)
    Image.fromarray(draw("bright", np.random.default_rng(9))).save(path)
    with pytest.raises(DataError, match="test images in .* changed since"):
        read(record, data=moved)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no longer in"),
        (lambda path: path.write_bytes(b"no image"), "cannot be read"),
    ],
)
def test_lost_and_damaged_images_are_named(
    record: dict[str, Any], moved: Path, damage: Callable[[Path], None], message: str
) -> None:
    path = held_out_file(record, moved)
    damage(path)
    with pytest.raises(DataError, match=message) as caught:
        read(record, data=moved)
    assert path.name in str(caught.value)


class Spy:
    """An engine that keeps what it is given."""

    def __init__(self, engine: Engine, received: list[np.ndarray]) -> None:
        self.name, self.version = engine.name, engine.version
        self._engine, self._received = engine, received

    def run(self, image: np.ndarray) -> np.ndarray:
        self._received.append(image.copy())
        return self._engine.run(image)


def test_one_file_gives_the_same_array_everywhere(
    record: dict[str, Any],
    tiny_run: Path,
    tiny_config: TrainConfig,
    file_named: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Training, calibration, scoring and prediction: RGB, 16-bit, EXIF-turned and plain files of odd sizes."""
    root = Path(record["data"])
    dataset = load_dataset(root, tiny_config.image_size, **split_settings(record))
    # These are the arrays that the run was trained on, not others read the same way.
    assert images_sha256(dataset.train.images) == json.loads((tiny_run / "run.json").read_text())["train_sha256"]
    assert dataset.test is not None
    trained = dict(
        zip(dataset.train.paths + dataset.test.paths, (*dataset.train.images, *dataset.test.images), strict=True)
    )
    samples = read(record, count=10_000)
    exported = {
        **dict(zip(samples.calibration.paths, samples.calibration.images, strict=True)),
        **dict(zip(samples.held_out.paths, samples.held_out.images, strict=True)),
    }
    assert exported.keys() == trained.keys()
    for kind in ("odd-rgb", "deep", "turned"):
        assert [path for path in samples.calibration.paths if kind in path], (
            f"no {kind} image among the training images"
        )
    received: list[np.ndarray] = []
    for name in ("model-int8.tflite", "model-fp32.onnx"):
        classifier = load(file_named(name))
        monkeypatch.setattr(classifier, "engine", Spy(classifier.engine, received))
        for path, array in trained.items():
            classifier.predict(root / path)
            assert np.array_equal(received[-1], array[None])
            assert received[-1].dtype == exported[path].dtype == array.dtype == np.uint8
            assert np.array_equal(exported[path], array)
    assert len(received) == 2 * len(trained)


@pytest.mark.parametrize("kind", ["collection", "archive"])
def test_all_paths_lead_to_images_where_folders_hold_them(
    record: dict[str, Any], tiny_data: Path, tmp_path: Path, kind: str
) -> None:
    given = tmp_path / "board"
    shutil.copytree(tiny_data, given / "labeled")
    for name in ("collected", "records"):
        (given / name).mkdir()
    if kind == "archive":
        (tmp_path / "packed").mkdir()
        (given / "labeled").rename(tmp_path / "packed" / "photos")
        given = Path(shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "packed"))
    samples = read(record, given)
    assert all(exists(samples.root / path) for path in (*samples.calibration.paths, *samples.held_out.paths))
