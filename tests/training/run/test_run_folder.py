"""What is read back from a run folder, whole and damaged."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecls.errors import ModelFileError
from edgecls.training.history import EpochRecord, LayerRecord
from edgecls.training.run.run_folder import (
    HISTORY_COLUMNS,
    HISTORY_FILE,
    MODEL_FILE,
    RECORD_FILE,
    SCORES_FILE,
    images_sha256,
    list_learned,
    load_model,
    read_held_out_scores,
    read_history,
    read_record,
    write_history,
    write_record,
    write_scores,
)

RECORD: dict[str, Any] = {
    "config": {"seed": 0},
    "classes": ["Mutter ä", "猫"],
    "weights": {},
    "metrics": {},
    "data": "/data",
    "split": {},
    "held_out": {},
}
SCORES = np.array([[0.25, 0.75], [1, 0], [0.5, 0.5]], np.float32)


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    image = keras.Input((4, 4, 1), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    keras.Model(image, keras.layers.Dense(2, activation="softmax")(x)).save(run / MODEL_FILE)
    return run


# The record


def test_a_refit_learns_from_the_validation_images_too() -> None:
    split = {"train": {"a": ["a/1"], "b": ["b/1"]}, "val": {"a": ["a/2"], "b": []}, "test": {"a": ["a/3"], "b": []}}
    assert list_learned({"split": split}) == {"a/1", "b/1"}
    assert list_learned({"split": split, "refit_images": 3}) == {"a/1", "a/2", "b/1"}


@given(
    st.dictionaries(
        st.text().filter(lambda name: name not in ("sha256", "files")),
        st.none() | st.booleans() | st.integers() | st.text(),
        max_size=4,
    )
)
def test_a_record_comes_back(tmp_path_factory: pytest.TempPathFactory, more: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("record")
    write_record(folder, {**more, **RECORD})
    assert read_record(folder) == {**more, **RECORD}


def test_a_record_is_text_that_people_can_read(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    text = (tmp_path / RECORD_FILE).read_text(encoding="utf-8")
    assert "Mutter ä" in text and text.endswith("}\n") and text.count("\n") > 5


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(ModelFileError, match=rf"{path} is not a run folder: it holds no run\.json; make one"):
            read_record(path)


@pytest.mark.parametrize("text", ["", "{", '{"config": 1} x', "\xff", "5", "null", "[]", '"text"', "{}", "NaN"])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelFileError, match=rf"{tmp_path}/run\.json .*train again"):
        read_record(tmp_path)


@pytest.mark.parametrize("key", RECORD)
def test_an_incomplete_record_says_what_it_lacks(tmp_path: Path, key: str) -> None:
    write_record(tmp_path, {name: value for name, value in RECORD.items() if name != key})
    with pytest.raises(ModelFileError, match=rf"run\.json lacks {key}; .* train again"):
        read_record(tmp_path)


# The history


numbers = st.floats(allow_nan=False)
layer_records = st.builds(LayerRecord, st.text(), numbers, numbers, st.none() | numbers)
epoch_records = st.builds(
    EpochRecord,
    st.sampled_from(["classifier", "joint", "fine-tuning", "network"]),
    st.integers(1, 10**6),
    *[numbers] * 7,
    st.lists(layer_records, max_size=3).map(tuple),
)


@settings(max_examples=30)
@given(st.lists(epoch_records, max_size=4))
def test_a_history_comes_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, history: list[EpochRecord]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    write_history(folder, history)
    assert read_history(folder) == history


EPOCH = EpochRecord("classifier", 1, 0.5, 0.75, 0.6, 0.7, 1e-3, 0.9, 2.5, (LayerRecord("scores", 1, 0.1),))


def test_history_is_also_a_table(tmp_path: Path) -> None:
    write_history(tmp_path, [EPOCH])
    with (tmp_path / "history.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == HISTORY_COLUMNS
    assert {name: type(getattr(EPOCH, name))(text) for name, text in row.items()} == {
        name: getattr(EPOCH, name) for name in HISTORY_COLUMNS
    }


def test_an_older_run_has_no_history(tmp_path: Path) -> None:
    assert read_history(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{", "5", "[5]", "[{}]", '[{"layers": []}]', '{"phase": 1}', "\xff", "null"])
def test_a_damaged_history_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / HISTORY_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelFileError, match=rf"{tmp_path}/history\.json cannot be read .*; train again"):
        read_history(tmp_path)


# The scores


def test_scores_come_back_exactly(tmp_path: Path) -> None:
    write_scores(tmp_path / SCORES_FILE, SCORES)
    scores = read_held_out_scores(tmp_path, 3, 2)
    np.testing.assert_array_equal(scores, SCORES)
    assert scores.dtype == np.float32


@pytest.mark.parametrize(
    ("scores", "words"),
    [(SCORES[:2], r"float32 \(2, 2\)"), (SCORES.astype(float), "float64 "), (SCORES.ravel(), r"\(6,\)")],
)
def test_scores_of_another_run_are_refused(tmp_path: Path, scores: Any, words: str) -> None:
    write_scores(tmp_path / SCORES_FILE, scores)
    with pytest.raises(ModelFileError, match=rf"{SCORES_FILE} holds .*{words}.*, expected float32 \(3, 2\); train"):
        read_held_out_scores(tmp_path, 3, 2)


def scores_file(folder: Path) -> bytes:
    write_scores(folder / SCORES_FILE, SCORES)
    return (folder / SCORES_FILE).read_bytes()


@pytest.mark.parametrize("data", [b"", b"garbage", b"PK\x03\x04 no zip", b"PK\x05\x06" + bytes(18), b"\x93NUMPY"])
def test_damaged_scores_are_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / SCORES_FILE).write_bytes(data)
    with pytest.raises(ModelFileError, match=rf"{tmp_path}/{SCORES_FILE} .*train again"):
        read_held_out_scores(tmp_path, 3, 2)


def test_missing_and_truncated_scores_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=rf"{SCORES_FILE} cannot be read \(.*No such file"):
        read_held_out_scores(tmp_path, 3, 2)
    data = scores_file(tmp_path)
    for length in range(len(data)):
        (tmp_path / SCORES_FILE).write_bytes(data[:length])
        with pytest.raises(ModelFileError, match=SCORES_FILE):
            read_held_out_scores(tmp_path, 3, 2)


@settings(max_examples=200)
@given(changes=st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), min_size=1, max_size=4))
def test_scores_with_a_damaged_head_give_an_array_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(scores_file(folder))
    for place, value in changes:
        data[place] = value
    (folder / SCORES_FILE).write_bytes(data)
    try:
        assert read_held_out_scores(folder, 3, 2).shape == (3, 2)
    except ModelFileError as error:
        assert SCORES_FILE in str(error)


# The model


def test_the_model_comes_back(saved_model: Path) -> None:
    model = load_model(saved_model)
    assert model.input_shape == (None, 4, 4, 1) and model.output_shape == (None, 2)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=rf"{tmp_path}/model\.keras is missing; train again"):
        load_model(tmp_path)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_model_is_named(saved_model: Path, tmp_path: Path, share: float) -> None:
    data = (saved_model / MODEL_FILE).read_bytes()
    (tmp_path / MODEL_FILE).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelFileError, match=rf"{tmp_path}/model\.keras cannot be loaded"):
        load_model(tmp_path)


def test_a_damaged_model_is_named_and_never_loads_with_other_weights(saved_model: Path, tmp_path: Path) -> None:
    data = (saved_model / MODEL_FILE).read_bytes()
    expected = load_model(saved_model).get_weights()
    refused = 0
    for place in range(0, len(data) - 8, len(data) // 60):
        (tmp_path / MODEL_FILE).write_bytes(data[:place] + bytes(8) + data[place + 8 :])
        try:
            for array, original in zip(load_model(tmp_path).get_weights(), expected, strict=True):
                np.testing.assert_array_equal(array, original)
        except ModelFileError as error:
            refused += 1
            assert f"{tmp_path}/model.keras cannot be loaded" in str(error)
    assert refused > 20


# The images' hash


def test_the_hash_is_of_the_pixels_in_their_order() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), dtype=np.uint8)
    assert images_sha256(images) == images_sha256(np.asfortranarray(images)) == images_sha256(images.copy())
    assert images_sha256(images) != images_sha256(images[::-1])
    assert len(images_sha256(images)) == 64
