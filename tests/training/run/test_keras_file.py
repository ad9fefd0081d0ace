"""Keras files that are more, or other, than a network of ours."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgecls.errors import ModelFileError
from edgecls.training.run import keras_file
from edgecls.training.run.keras_file import check_keras_file
from edgecls.training.run.run_folder import load_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    import keras

    image = keras.Input((4, 4, 1), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    keras.Model(image, keras.layers.Dense(2, activation="softmax")(x)).save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def rewrite(path: Path, **changes: bytes | None) -> None:
    """Replace members, their dots written as __; None leaves one out."""
    with zipfile.ZipFile(path) as archive:
        members: dict[str, bytes | None] = {name: archive.read(name) for name in archive.namelist()}
    members |= {name.replace("__", "."): data for name, data in changes.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            if data is not None:
                archive.writestr(name, data)


def refuse(path: Path, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_keras_file(path)
    with pytest.raises(ModelFileError, match=r"model\.keras cannot be loaded .*train again"):
        load_model(path.parent)


def test_our_own_are_accepted(model: Path, tiny_run: Path) -> None:
    check_keras_file(model)
    check_keras_file(tiny_run / "model.keras")


def change_layer(path: Path, **changes: Any) -> None:
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"][1] |= changes
    rewrite(path, config__json=json.dumps(config).encode())


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras.layers", "Lambda"),
        ("keras.layers", "TFSMLayer"),
        # Its vocabulary may be any file.
        ("keras.layers", "StringLookup"),
        ("os", "system"),
        ("builtins", "function"),
        (None, "__lambda__"),
        ("edgecls.files", "write_atomically"),
    ],
)
def test_what_carries_code_or_reads_files_is_refused_before_keras_sees_it(
    model: Path, module: str | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    change_layer(model, module=module, class_name=name)
    monkeypatch.setattr(keras.models, "load_model", lambda *_, **__: pytest.fail("Keras was asked"))
    refuse(model, f"it contains {module}.{name}, which no network of edgecls has")


def test_a_module_without_a_class_is_refused_too(model: Path) -> None:
    change_layer(model, build_config={"module": "os"})
    refuse(model, "it contains os.None")


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil", "assets/x"])
def test_other_members_are_refused(model: Path, name: str) -> None:
    with zipfile.ZipFile(model, "a") as archive:
        archive.writestr(name, b"evil")
    refuse(model, r"it must hold config\.json, metadata\.json, model\.weights\.h5; received")
    assert not list(model.parent.parent.glob("evil*"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice_or_missing_is_refused(model: Path) -> None:
    with zipfile.ZipFile(model, "a") as archive:
        archive.writestr("config.json", b"{}")
    refuse(model, "it must hold")
    rewrite(model, metadata__json=None)
    refuse(model, "it must hold")


def test_what_unpacks_to_much_more_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(model, config__json=b" " * (keras_file.MAX_CONFIG_BYTES + 1))
    assert model.stat().st_size < 10**6
    refuse(model, "unpacked it would have")
    monkeypatch.setattr(keras_file, "MAX_UNPACKED_BYTES", 1000)
    rewrite(model, config__json=b"{}")
    refuse(model, r"unpacked it would have \d+ bytes")


def test_a_configuration_nested_too_deeply_is_refused(model: Path) -> None:
    rewrite(model, config__json=b"[" * 200_000)
    refuse(model, "nested too deeply")


def test_what_tensorflow_raises_on_odd_settings_is_reported(model: Path) -> None:
    with zipfile.ZipFile(model) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"][1]["inbound_nodes"][0]["args"] = ["\0"]
    rewrite(model, config__json=json.dumps(config).encode())
    with pytest.raises(ModelFileError, match=r"model\.keras cannot be loaded"):
        load_model(model.parent)
