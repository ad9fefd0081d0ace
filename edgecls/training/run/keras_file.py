"""Checks of a .keras file before Keras opens it, because a run folder may come from anybody.

Keras builds any class that a file names, and some classes run code or read other files. It unpacks everything.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgecls.networks.imported import SETTINGS

MEMBERS = ["config.json", "metadata.json", "model.weights.h5"]
# The widest MobileNetV2 has 90 MB. A small compressed file can unpack to any size.
MAX_UNPACKED_BYTES = 2**30
MAX_CONFIG_BYTES = 32 * 2**20
# The classes in the networks of edgecls, as Keras writes them. Activations are written as text.
CLASSES = {
    "keras": "DTypePolicy",
    "keras.src.models.functional": "Functional",
    "keras.layers": "InputLayer Dropout " + " ".join(SETTINGS),
    "keras.initializers": "GlorotUniform HeNormal Zeros Ones",
}
ACCEPTED = {(module, name) for module, names in CLASSES.items() for name in names.split()} | {
    (None, "__keras_tensor__")
}


def check_keras_file(path: Path) -> None:
    """Check that a .keras file is whole, of a bounded size, and made of plain layers only.

    Raises:
        ValueError: it is not. zipfile.BadZipFile, zlib.error and the like: it is no ZIP, or a damaged one.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = sorted(member.filename for member in members)
        if names != MEMBERS:
            raise ValueError(f"it must hold {', '.join(MEMBERS)}; received {', '.join(names)!r:.200}")
        size_bytes = sum(member.file_size for member in members)
        if size_bytes > MAX_UNPACKED_BYTES or archive.getinfo("config.json").file_size > MAX_CONFIG_BYTES:
            raise ValueError(f"unpacked it would have {size_bytes} bytes, which no network of edgecls has")
        if damaged := archive.testzip():
            # Keras would load the damaged weights.
            raise ValueError(f"its {damaged} is damaged")
        try:
            config = json.loads(archive.read("config.json"))
        except RecursionError as error:
            raise ValueError("its config.json is nested too deeply") from error
    for module, name in _named_classes(config):
        if (module, name) not in ACCEPTED:
            raise ValueError(f"it contains {module}.{name}, which no network of edgecls has"[:200])


def _named_classes(config: Any) -> Iterator[tuple[str | None, str]]:
    """Yield module and name of everything that Keras would look up."""
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            pending += value.values()
            if "class_name" in value or "module" in value:
                module, name = value.get("module"), value.get("class_name")
                yield None if module is None else str(module), str(name)
