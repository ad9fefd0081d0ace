"""Tests of edgecls.networks.torch_file, on files of PyTorch's legacy format written by hand."""

from __future__ import annotations

import collections
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch_writer import Call, Global, Storage, Tensor, dump, legacy_file, row_order, state_dict_file

from edgecls.errors import WeightsError
from edgecls.networks.torch_file import MAGIC, read_torch_tensors

REFUSED = r"(?s)w\.pt is not a PyTorch weights file that can be read safely \(.*\); give a Keras \.h5 file"
RNG = np.random.default_rng(0)
ARRAYS: dict[str, NDArray[Any]] = {
    "features.0.weight": RNG.normal(size=(2, 3, 4, 5)).astype(np.float32),
    "features.1.running_var": RNG.normal(size=7).astype(np.float32),
    "features.1.num_batches_tracked": np.array(2**40, np.int64),
}


def read(data: bytes, folder: Path) -> dict[str, NDArray[Any]]:
    path = folder / "w.pt"
    path.write_bytes(data)
    return read_torch_tensors(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("torch")


# Good files


def test_arrays_come_back_exactly_and_in_order(folder: Path) -> None:
    found = read(state_dict_file(ARRAYS), folder)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


def test_tensors_may_share_a_storage_at_offsets(folder: Path) -> None:
    values = np.arange(10, dtype=np.float32)
    storage = Storage("FloatStorage", "0", 10)
    tensors = collections.OrderedDict(a=Tensor(storage, 0, (2, 2), (2, 1)), b=Tensor(storage, 4, (6,), (1,)))
    found = read(legacy_file(tensors, {"0": values}), folder)
    assert found["a"].tolist() == [[0, 1], [2, 3]] and found["b"].tolist() == [4, 5, 6, 7, 8, 9]


@given(shape=st.lists(st.integers(1, 4), max_size=4).map(tuple), seed=st.integers(0, 99))
def test_every_shape_comes_back(folder: Path, shape: tuple[int, ...], seed: int) -> None:
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    np.testing.assert_array_equal(read(state_dict_file({"w": array}), folder)["w"], array)


# Foreign code


@pytest.mark.parametrize("module", ["os", "posix", "subprocess"])
def test_a_command_is_refused_and_not_run(folder: Path, module: str) -> None:
    ran = folder / "ran"
    name = "getoutput" if module == "subprocess" else "system"
    call = Call(Global(module, name), f"touch {ran}")
    for tensors in (call, collections.OrderedDict(w=call)):
        data = legacy_file(tensors, {})
        with pytest.raises(WeightsError, match=rf"{module}\.{name} is not allowed in a weights file"):
            read(data, folder)
        assert not ran.exists()
    # The same file does run its command where it is not refused: the test would notice.
    pickle.loads(dump(call))
    assert ran.exists()
    ran.unlink()


@pytest.mark.parametrize("place", range(5))
def test_foreign_code_is_refused_in_every_part_of_the_file(folder: Path, place: int) -> None:
    ran = folder / "ran"
    parts: list[Any] = [MAGIC, 1001, {}, collections.OrderedDict(), []]
    parts[place] = Call(Global("builtins", "eval"), f"open({str(ran)!r}, 'w')")
    with pytest.raises(WeightsError, match=r"builtins\.eval is not allowed in a weights file"):
        read(b"".join(map(dump, parts)), folder)
    assert not ran.exists()


@pytest.mark.parametrize(
    "name",
    ["builtins.getattr", "builtins.dict", "numpy.load", "torch.load", "torch.DoubleStorage", "collections.deque"]
    + ["torch._utils._rebuild_parameter", "collections.OrderedDict.fromkeys", "edgecls.networks.torch_file.pickle"],
)
def test_every_other_name_is_refused(folder: Path, name: str) -> None:
    module, _, attribute = name.rpartition(".")
    with pytest.raises(WeightsError, match=rf"{name} is not allowed in a weights file"):
        read(legacy_file(Global(module, attribute), {}), folder)


def test_a_module_is_not_imported_either(folder: Path) -> None:
    (folder / "evil_module.py").write_text("raise SystemExit")
    sys.path.insert(0, str(folder))
    try:
        with pytest.raises(WeightsError, match="evil_module"):
            read(legacy_file(Global("evil_module", "x"), {}), folder)
        assert "evil_module" not in sys.modules
    finally:
        sys.path.remove(str(folder))


# Damage


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot read the weights file .*gone\.pt: No such file"):
        read_torch_tensors(tmp_path / "gone.pt")
    with pytest.raises(WeightsError, match="Is a directory"):
        read_torch_tensors(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"garbage", b"PK\x03\x04 the zip of newer PyTorch", b"\x89HDF\r\n\x1a\n", b"\0" * 99]
)
def test_other_files_are_refused(folder: Path, data: bytes) -> None:
    with pytest.raises(WeightsError, match=REFUSED):
        read(data, folder)


def test_another_magic_number_is_refused(folder: Path) -> None:
    for magic in (MAGIC + 1, "magic", None, Global("torch", "FloatStorage")):
        with pytest.raises(WeightsError, match=REFUSED):
            read(legacy_file(collections.OrderedDict(), {}, magic), folder)


def test_every_truncation_is_refused(folder: Path) -> None:
    data = state_dict_file(ARRAYS)
    for length in range(len(data)):
        with pytest.raises(WeightsError, match=REFUSED):
            read(data[:length], folder)


@pytest.mark.parametrize("strides", [(1, 2), (3, 2), (0, 1), (6, 1), (3,), (-3, 1), None])
def test_strides_that_are_not_row_order_are_refused(folder: Path, strides: Any) -> None:
    values = np.arange(6, dtype=np.float32)
    tensors = collections.OrderedDict(w=Tensor(Storage("FloatStorage", "0", 6), 0, (2, 3), strides))
    with pytest.raises(WeightsError, match=REFUSED):
        read(legacy_file(tensors, {"0": values}), folder)


@pytest.mark.parametrize(
    ("offset", "shape"),
    [(1, (6,)), (-6, (3,)), (0, (7,)), (0, (-1,)), (0, (2**62,)), (0, (2**70,)), (0, (2**40, 2**40)), (0.0, (6,))]
    + [("a", (6,)), (0, ("a",)), (0, None)],
)
def test_a_tensor_outside_its_storage_is_refused(folder: Path, offset: Any, shape: Any) -> None:
    strides = row_order(shape) if shape and isinstance(shape[0], int) and max(shape) < 2**40 else (1,)
    tensors = collections.OrderedDict(w=Tensor(Storage("FloatStorage", "0", 6), offset, shape, strides))
    with pytest.raises(WeightsError, match=REFUSED):
        read(legacy_file(tensors, {"0": np.arange(6, dtype=np.float32)}), folder)


@pytest.mark.parametrize("count", [7, 2**31, 2**61, 2**64 - 1])
def test_a_storage_that_claims_more_than_the_file_has_is_refused(folder: Path, count: int) -> None:
    data = state_dict_file({"w": np.arange(6, dtype=np.float32)})
    data = data[: -24 - 8] + count.to_bytes(8, "little") + data[-24:]
    with pytest.raises(WeightsError, match=REFUSED):
        read(data, folder)


@pytest.mark.parametrize("tensors", [None, [1], {"w": 1}, "text"])
def test_what_is_not_a_state_dict_is_refused(folder: Path, tensors: Any) -> None:
    with pytest.raises(WeightsError, match=REFUSED):
        read(legacy_file(tensors, {}), folder)


def test_a_pickle_that_asks_for_a_huge_memo_is_refused_unread(folder: Path) -> None:
    # Object number 2**32 - 1, in both spellings: Python's unpickler would fill 64 GB.
    for data in (b"\x80\x02K\x01r\xff\xff\xff\xff.", b"K\x01p4294967295\n."):
        with pytest.raises(WeightsError, match="an object is numbered 4294967295"):
            read(data, folder)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(folder: Path, data: bytes) -> None:
    with pytest.raises(WeightsError, match=REFUSED):
        read(data, folder)


@given(st.data())
def test_damaged_files_give_arrays_or_a_weights_error(folder: Path, data: st.DataObject) -> None:
    damaged = bytearray(state_dict_file(ARRAYS))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, 500)) % len(damaged)] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(damaged), folder)
    except WeightsError as error:
        assert "w.pt" in str(error)
    else:
        assert all(isinstance(array, np.ndarray) for array in found.values())
