"""Writes files in PyTorch's legacy format by hand, good and evil ones: the tests need no PyTorch."""

from __future__ import annotations

import collections
import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.networks.torch_file import MAGIC


class Global:
    """Pickled as the bare name of something in another module, as PyTorch's own classes are."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Storage:
    """Pickled as PyTorch's persistent id of a storage."""

    def __init__(self, kind: str, key: str, count: int) -> None:
        self.pid = ("storage", Global("torch", kind), key, "cpu", count, None)


class Tensor:
    """Pickled as a call of PyTorch's function that builds a tensor."""

    def __init__(self, storage: Storage, offset: int, shape: Any, strides: Any) -> None:
        self.arguments: tuple[Any, ...] = (storage, offset, shape, strides, False, collections.OrderedDict())


class Call:
    """Pickled as a call of any function with any arguments."""

    def __init__(self, function: Global, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments


class LegacyPickler(pickle._Pickler):
    def persistent_id(self, value: Any) -> Any:
        return value.pid if isinstance(value, Storage) else None

    def save(self, value: Any, *rest: Any, **options: Any) -> None:
        if isinstance(value, Global):
            self.write(f"c{value.module}\n{value.name}\n".encode())  # type: ignore[attr-defined]
        elif isinstance(value, Tensor):
            self.save(Call(Global("torch._utils", "_rebuild_tensor_v2"), *value.arguments))
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(pickle.REDUCE)  # type: ignore[attr-defined]
        else:
            super().save(value, *rest, **options)  # type: ignore[misc]


def dump(value: Any) -> bytes:
    buffer = io.BytesIO()
    LegacyPickler(buffer, 2).dump(value)
    return buffer.getvalue()


def row_order(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))


def legacy_file(tensors: Any, storages: dict[str, NDArray[Any]], magic: Any = MAGIC) -> bytes:
    head = dump(magic) + dump(1001) + dump({"little_endian": True, "protocol_version": 1001, "type_sizes": {}})
    data = b"".join(array.size.to_bytes(8, "little") + array.tobytes() for array in storages.values())
    return head + dump(tensors) + dump(list(storages)) + data


def state_dict_file(arrays: dict[str, NDArray[Any]]) -> bytes:
    tensors, storages = collections.OrderedDict(), {}
    for number, (name, array) in enumerate(arrays.items()):
        kind = "LongStorage" if array.dtype == np.int64 else "FloatStorage"
        storage = Storage(kind, str(9000 - number), array.size)
        tensors[name] = Tensor(storage, 0, array.shape, row_order(array.shape))
        storages[str(9000 - number)] = array
    return legacy_file(tensors, storages)
