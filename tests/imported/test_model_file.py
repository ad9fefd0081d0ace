"""A Keras model file runs nothing, reads no other file, and is bounded."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from edgecls.errors import ModelFileError
from edgecls.imported import model_file
from edgecls.imported.build import build_float, read_source
from edgecls.imported.graph import read_graph
from edgecls.imported.model_file import open_model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    import keras

    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(name="flat"), keras.layers.Dense(3, name="last")]
    )
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "model.h5")
    return tmp_path / "model.keras"


def load(path: Path) -> Any:
    with open_model(path) as file:
        source = read_source(file, read_graph(file.config, keras_2=file.keras_2))
    return build_float(source, 8)


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change config.json of a .keras file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, json.dumps(config) if name == "config.json" else data)
    return path


def refuse(path: Path, *words: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        load(path)
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert "\n" not in text


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_both_kinds_of_file_have_the_same_weights(saved: Path, suffix: str) -> None:
    from keras.models import load_model

    images = np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 1)).astype(np.float32)
    logits = load_model(saved).predict(images, verbose=0)
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(load(saved.with_suffix(suffix)).predict(images, verbose=0), scores, atol=1e-6)


def test_code_in_a_file_is_not_run(saved: Path, tmp_path: Path) -> None:
    import keras

    ran, name = tmp_path / "ran", str(tmp_path / "ran")
    code = keras.layers.Lambda(lambda x: (open(name, "w"), x)[1], output_shape=(8, 8, 1), name="sly")  # noqa: PTH123
    model = keras.Sequential([keras.Input((8, 8, 1)), code, keras.layers.Flatten()])
    ran.unlink(missing_ok=True)
    for suffix in (".keras", ".h5"):
        path = tmp_path / f"lambda{suffix}"
        model.save(path)
        ran.unlink(missing_ok=True)
        refuse(path, "'sly' is a Lambda", "never run")
    assert not ran.exists()


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        ("os", "system"),
        ("keras.layers", "TFSMLayer"),
        ("my_package", "Dense"),
        ("keras.utils", "get_file"),
        (None, "X>Y"),
    ],
)
def test_other_classes_are_refused_by_name(saved: Path, module: str | None, kind: str) -> None:
    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][1] |= {"module": module, "class_name": kind}

    refuse(rewrite(saved, change), f"'flat' is a {kind!r}", "cannot be imported")


def test_a_custom_class_with_the_name_of_keras_own_is_refused(saved: Path) -> None:
    refuse(rewrite(saved, lambda config: config["config"]["layers"][2].update(registered_name="Mine>Dense")), "'last'")


def test_a_custom_activation_is_refused(saved: Path) -> None:
    custom = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
    refuse(rewrite(saved, lambda config: config["config"]["layers"][2]["config"].update(activation=custom)), "'system'")


@pytest.mark.parametrize("module", ["mine", None])
def test_a_model_class_of_its_own_is_refused(saved: Path, module: str | None) -> None:
    changed = rewrite(saved, lambda config: config.update(module=module, class_name="MyModel"))
    refuse(changed, "its model is of the class 'MyModel'", "copy the weights and save that")


@pytest.mark.parametrize("units", [10**9, 10**18, -3, "many", None])
def test_absurd_shapes_allocate_nothing(saved: Path, units: object) -> None:
    refuse(rewrite(saved, lambda config: config["config"]["layers"][2]["config"].update(units=units)), "'last'")


@pytest.mark.parametrize("side", [10**6, 10**12])
def test_absurd_images_are_refused(saved: Path, side: int) -> None:
    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][0]["config"]["batch_shape"] = [None, side, side, 1]

    with open_model(rewrite(saved, change)) as file:
        source = read_source(file, read_graph(file.config, keras_2=file.keras_2))
    with pytest.raises(ModelFileError, match="are supported"):
        _ = source.image_size


def test_path_traversal_is_refused(saved: Path) -> None:
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("../../evil", b"")
    refuse(saved, "evil")


def test_a_zip_bomb_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_file, "MAX_FILE_BYTES", 1000)
    refuse(saved, "more than 1,000 bytes")
    refuse(saved.with_suffix(".h5"), "more than 1,000 bytes")


def test_weights_are_bounded(saved: Path) -> None:
    with h5py.File(saved.with_suffix(".h5"), "a") as file:
        file["model_weights"].create_dataset("huge", (2**40,), "f4", chunks=(2**20,))
    refuse(saved.with_suffix(".h5"), "bytes")


@pytest.mark.parametrize("link", [h5py.ExternalLink("/etc/passwd", "/"), h5py.SoftLink("/model_weights/last")])
def test_links_are_refused(saved: Path, link: Any) -> None:
    with h5py.File(saved.with_suffix(".h5"), "a") as file:
        file["model_weights"]["sly"] = link
    refuse(saved.with_suffix(".h5"), "link", "'sly'")


def find_kernel(file: h5py.File) -> Any:
    found: list[Any] = []
    file["model_weights"].visititems(lambda name, item: found.append(item) if "kernel" in name else None)
    return next(item for item in found if isinstance(item, h5py.Dataset))


def test_groups_that_contain_themselves_end(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Visiting 100,000 takes ten seconds.
    monkeypatch.setattr(model_file, "MAX_HDF5_OBJECTS", 5_000)
    with h5py.File(saved.with_suffix(".h5"), "a") as file:
        file["model_weights"]["again"] = file["model_weights"]
    refuse(saved.with_suffix(".h5"), "more than 5,000 objects")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(saved: Path, bad: float) -> None:
    with h5py.File(saved.with_suffix(".h5"), "a") as file:
        find_kernel(file)[0, 0] = bad
    refuse(saved.with_suffix(".h5"), "last/kernel", "not finite")


def test_weights_of_text_are_refused(saved: Path) -> None:
    with h5py.File(saved.with_suffix(".h5"), "a") as file:
        kernel = find_kernel(file)
        name, group = kernel.name, kernel.parent
        del file[name]
        group[name.rpartition("/")[2]] = [[b"a"] * 3] * 64
    refuse(saved.with_suffix(".h5"), "no numbers")


def test_external_storage_is_refused(saved: Path) -> None:
    with h5py.File(saved.with_suffix(".h5"), "a") as file:
        file["model_weights"].create_dataset("sly", (4,), "u1", external=[("/etc/passwd", 0, 4)])
    refuse(saved.with_suffix(".h5"), "another file")


def test_other_files_say_what_to_save(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model" / "saved_model.pb").write_bytes(b"x")
    refuse(tmp_path / "saved_model", "SavedModel", 'model.save("model.keras")')
    with h5py.File(tmp_path / "only.weights.h5", "w") as file:
        file["layers"] = [1]
    refuse(tmp_path / "only.weights.h5", "weights alone")
    (tmp_path / "text.keras").write_text("hello")
    refuse(tmp_path / "text.keras", "a text file")
    refuse(tmp_path / "none.keras", "there is no file")


def test_damaged_files_are_one_line(saved: Path) -> None:
    data = saved.read_bytes()
    for end in (100, len(data) // 2, len(data) - 30):
        saved.write_bytes(data[:end])
        refuse(saved, str(saved))


def test_a_config_that_reads_itself_is_refused(saved: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        reference = {"class_name": "__keras_tensor__", "config": {"keras_history": ["last", 0, 0]}}
        layers = [
            each | {"inbound_nodes": [{"args": [reference], "kwargs": {}}], "name": each["config"]["name"]}
            for each in config["config"]["layers"]
        ]
        layers[0]["inbound_nodes"] = []
        name = layers[0]["name"]
        config |= {"class_name": "Functional", "module": "keras"}
        config["config"] = {"layers": layers, "input_layers": [[name, 0, 0]], "output_layers": [["last", 0, 0]]}

    refuse(rewrite(saved, change), "own output")


def test_models_that_multiply_with_each_level_end(saved: Path) -> None:
    """Twelve levels, each of which calls the next one ten times in a row, and no layer that computes anything."""
    inner: dict[str, Any] = {"class_name": "Dropout", "config": {"name": "inner", "rate": 0.1}}
    for _ in range(12):
        inner |= {"name": "inner", "inbound_nodes": [[["image", 0, 0]], *([["inner", i, 0]] for i in range(9))]}
        image = {"class_name": "InputLayer", "name": "image", "config": {"name": "image"}, "inbound_nodes": []}
        ends = {"input_layers": [["image", 0, 0]], "output_layers": [["inner", 9, 0]]}
        inner = {"class_name": "Functional", "config": {"layers": [image, inner], **ends}}

    refuse(rewrite(saved, lambda config: config["config"]["layers"].insert(1, inner)), "more than 100,000 layers")
