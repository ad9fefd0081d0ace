"""Opens a Keras model file without running anything in it: its configuration as JSON, and its weights as arrays.

Keras itself is not asked to load the file: it builds any class that a file names. Both file formats are of HDF5 and
JSON: https://keras.io/guides/serialization_and_saving and Keras' saving_lib.py and legacy_h5_format.py.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import ModelFileError
from edgecls.files import DAMAGE_ERRORS
from edgecls.messages.path_kinds import describe

MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
# VGG16 with its optimizer has 1.7 GB.
MAX_FILE_BYTES = 2 * 2**30
MAX_WEIGHT_BYTES = 2**30
MAX_CONFIG_BYTES = 32 * 2**20
# NASNetLarge has some 5,000.
MAX_HDF5_OBJECTS = 100_000
_COPY_BYTES = 2**20
SAVE = 'In the notebook, run model.save("model.keras") and import that file'


@dataclass(frozen=True, eq=False)
class KerasFile:
    """An opened model file.

    Attributes:
        config: what `model.get_config` gave, with the class of the model.
        keras_2: True if Keras 2 wrote it, which TensorFlow had up to version 2.15.
        training: what `model.compile` was given; empty if the file does not say it.
    """

    config: dict[str, Any]
    keras_2: bool
    training: dict[str, Any]
    _weights: Any  # h5py.File
    _is_legacy: bool

    def weights(self, path: str, scope: Sequence[str]) -> list[NDArray[Any]]:
        """Return the weights of a layer in Keras' order; none if the file has none.

        Args:
            path: where a .keras file has them, such as "layers/functional/layers/conv2d_1".
            scope: the names of the nested models that contain the layer, from the outside in, and its own.
        """
        found = self._find_legacy(scope) if self._is_legacy else self._find(path)
        return [_array(each) for each in found]

    def _find(self, path: str) -> list[Any]:
        # Keras 2.12 names the lists of layers otherwise.
        paths = path, path.replace("layers/", "_layer_checkpoint_dependencies/")
        group: Any = next((self._weights[f"{each}/vars"] for each in paths if f"{each}/vars" in self._weights), {})
        return [group[name] for name in sorted(group, key=int)]

    def _find_legacy(self, scope: Sequence[str]) -> list[Any]:
        group = self._weights["model_weights"].get(scope[0])
        if group is None:
            return []
        names = [_text(name) for name in _attribute(group, "weight_names")]
        if len(scope) > 1:
            # A weight of a nested model is named LAYER/kernel:0 or MODEL/LAYER/kernel.
            layers = [name.rpartition("/")[0] for name in names]
            known = ("/".join(scope[start:]) for start in range(len(scope)))
            wanted = next((name for name in known if name in layers), None)
            names = [name for name, layer in zip(names, layers, strict=True) if layer == wanted]
        return [group[name] for name in names]


@contextlib.contextmanager
def open_model(path: Path) -> Iterator[KerasFile]:
    """Yield the model file `path`: .keras, or .h5 as Keras 2 wrote it.

    Raises:
        ModelFileError: it is another kind of file, too large, damaged or malicious.
    """
    if not path.exists():
        raise ModelFileError(f"there is no file {path}; give the path of a .keras or .h5 file")
    what = describe(path)
    if what == "a TensorFlow SavedModel folder":
        raise ModelFileError(f"{path} is a SavedModel: it holds operations, not Keras layers. {SAVE}")
    if not what.startswith(("a Keras model", "an HDF5 file")):
        raise ModelFileError(f"{path} is {what or 'not a Keras model'}. {SAVE}")
    try:
        with tempfile.TemporaryDirectory(prefix="edgecls-import-") as folder, contextlib.ExitStack() as stack:
            if what == "a Keras model":
                opened = _open_keras(path, Path(folder) / "model.weights.h5", stack)
            else:
                opened = _open_hdf5(path, stack)
            yield opened
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    except (*DAMAGE_ERRORS, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); save the model again") from error


def _open_keras(path: Path, copy: Path, stack: contextlib.ExitStack) -> KerasFile:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = sorted(member.filename for member in members)
        if names != sorted(MEMBERS):
            raise ModelFileError(f"a .keras file holds {', '.join(MEMBERS)}; received {', '.join(names)!r:.200}")
        if sum(member.file_size for member in members) > MAX_FILE_BYTES:
            raise ModelFileError(f"unpacked it has more than {MAX_FILE_BYTES:,} bytes")
        if max(archive.getinfo(name).file_size for name in MEMBERS[:2]) > MAX_CONFIG_BYTES:
            raise ModelFileError(f"its JSON has more than {MAX_CONFIG_BYTES:,} bytes")
        config, metadata = (_json(archive.read(name)) for name in MEMBERS[:2])
        # zipfile checks the CRC while it reads to the end.
        with archive.open(MEMBERS[2]) as packed, copy.open("xb") as unpacked:
            shutil.copyfileobj(packed, unpacked, _COPY_BYTES)
    keras_2, training = str(metadata.get("keras_version")).startswith("2."), config.get("compile_config")
    return KerasFile(config, keras_2, training if isinstance(training, dict) else {}, _open(copy, stack), False)


def _open_hdf5(path: Path, stack: contextlib.ExitStack) -> KerasFile:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ModelFileError(f"it has more than {MAX_FILE_BYTES:,} bytes")
    file = _open(path, stack)
    if "model_config" not in file.attrs or "model_weights" not in file:
        raise ModelFileError(f"it holds weights alone, without the layers. {SAVE}")
    version = _text(file.attrs.get("keras_version", "2.0"))
    config, training = (_json(_text(file.attrs.get(name, "{}"))) for name in ("model_config", "training_config"))
    return KerasFile(config, version.startswith(("1.", "2.")), training, file, True)


def _open(path: Path, stack: contextlib.ExitStack) -> Any:
    import h5py

    file = stack.enter_context(h5py.File(path, "r"))
    _check_hdf5(file)
    return file


def _check_hdf5(file: Any) -> None:
    """Raise ModelFileError for an HDF5 file that refers to other files, or whose arrays are too large."""
    import h5py

    pending, objects, size_bytes = [file], 0, 0
    while pending:
        group = pending.pop()
        for name in group:
            objects += 1
            if objects > MAX_HDF5_OBJECTS:
                raise ModelFileError(f"its HDF5 part has more than {MAX_HDF5_OBJECTS:,} objects")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ModelFileError(f"its HDF5 part has a link to another file or place ({name!r:.80}); it is refused")
            found = group[name]
            if isinstance(found, h5py.Group):
                pending.append(found)
            elif found.is_virtual or found.external:
                raise ModelFileError(f"its HDF5 part reads another file ({name!r:.80}); it is refused")
            else:
                size_bytes += found.size * found.dtype.itemsize if not _is_optimizer(found.name) else 0
    if size_bytes > MAX_WEIGHT_BYTES:
        raise ModelFileError(f"its weights have {size_bytes:,} bytes; at most {MAX_WEIGHT_BYTES:,} are accepted")


def _array(dataset: Any) -> NDArray[Any]:
    """Return a weight as numbers; Keras stores bfloat16 as 16-bit values, the upper half of a float32.

    Raises:
        ModelFileError: it holds something else, or NaN.
    """
    values = np.asarray(dataset[()])
    if dataset.attrs.get("dtype") == "bfloat16" and values.dtype.itemsize == 2:
        values = np.asarray((values.view(np.uint16).astype(np.uint32) << 16).view(np.float32))
    if values.dtype.kind not in "fiu":
        raise ModelFileError(f"its weight {dataset.name!r:.80} holds no numbers ({values.dtype})")
    if not np.isfinite(values).all():
        raise ModelFileError(
            f"its weight {dataset.name!r:.80} has values that are not finite, as after a training that diverged; train "
            "again with a smaller learning rate"
        )
    return values


def _is_optimizer(name: str) -> bool:
    return name.startswith(("/optimizer/", "/optimizer_weights/"))


def _attribute(group: Any, name: str) -> list[Any]:
    """Return a list that Keras wrote as one attribute or, if it is long, as several: NAME0, NAME1, ..."""
    if name in group.attrs:
        return list(group.attrs[name])
    parts: list[Any] = []
    for number in range(len(group.attrs)):
        parts += list(group.attrs.get(f"{name}{number}", ()))
    return parts


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _json(text: str | bytes) -> dict[str, Any]:
    if len(text) > MAX_CONFIG_BYTES:
        raise ModelFileError(f"its JSON has more than {MAX_CONFIG_BYTES:,} bytes")
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ModelFileError("its configuration is not a JSON object")
    return value
