"""An imported network that cannot be rewritten is exported as it is, and int8 files are never silently worse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run
from keras_models import notebook_model, settle
from random_networks import diverse_images

from edgecls.export import imported, job
from edgecls.export.fuse import FusedModel
from edgecls.export.imported import as_it_is, rewrite
from edgecls.imported.build import build_network, read_source
from edgecls.imported.graph import read_graph
from edgecls.imported.model_file import open_model
from edgecls.imported.scaling import parse_scaling


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Any:
    model = notebook_model()
    settle(model, "-1..1")
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(path)
    with open_model(path) as file:
        source = read_source(file, read_graph(file.config, keras_2=file.keras_2))
    return build_network(source, 32, parse_scaling("-1..1", 1))


def test_a_network_is_rewritten_if_its_scores_stay(network: Any) -> None:
    found = rewrite(network, diverse_images(4, 32, np.random.default_rng(0)))
    assert (found.problem, found.exact.pad_gray, found.whole.pad_gray) == ("", 127.5, 128)


@pytest.mark.parametrize("kind", ["raises", "other scores"])
def test_otherwise_it_is_exported_as_it_is(network: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = diverse_images(4, 32, np.random.default_rng(0))

    def wrong(model: Any, *, whole_gray: bool) -> FusedModel:
        if kind == "raises":
            raise KeyError("odd")
        return FusedModel(as_it_is(model).core, 30.0)

    monkeypatch.setattr(imported, "fuse_imported", wrong)
    found = rewrite(network, images)
    assert "converted as it is" in found.problem
    assert ("'odd'" if kind == "raises" else "scores differ by") in found.problem
    assert found.exact is found.whole
    scores = np.concatenate([found.exact.core(image[None].astype(np.float32)) for image in images])
    np.testing.assert_allclose(scores, network.predict(images, verbose=0), atol=1e-5)


def train_and_import(data: Path, folder: Path, layers: list[Any]) -> Path:
    """Return the run of a small network of these layers, which a notebook trained."""
    import keras

    from edgecls.images.dataset import load_dataset

    size = 24
    dataset = load_dataset(data, size, val_fraction=0.2, test_fraction=0.3, seed=0)
    model = keras.Sequential([keras.Input((size, size, 1)), keras.layers.Rescaling(1 / 127.5, -1), *layers])
    model.compile(keras.optimizers.Adam(2e-2), "sparse_categorical_crossentropy")
    model.fit(dataset.train.images, dataset.train.labels, epochs=40, batch_size=8, verbose=0)
    model.save(folder / "model.keras")
    result = run("import", str(folder / "model.keras"), str(data), "--out", str(folder / "run"))
    assert result.exit_code == 0, result.output
    return folder / "run"


@pytest.fixture(scope="module")
def imported_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    stack = [layers.Conv2D(8, 3, 2, activation="relu"), layers.GlobalAveragePooling2D()]
    return train_and_import(
        tiny_data, tmp_path_factory.mktemp("imported"), [*stack, layers.Dense(3, activation="softmax")]
    )


def test_grouped_convolutions_are_exported_and_prepared(tiny_data: Path, tmp_path: Path) -> None:
    """Many processors have no fused grouped convolution, and none has its gradient outside of XLA."""
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    # The scores come from a layer of their own, after a convolution.
    stack = [layers.Conv2D(8, 3, 2, activation="relu"), layers.Conv2D(8, 3, groups=4, activation="relu")]
    stack += [layers.GlobalAveragePooling2D(keepdims=True), layers.Conv2D(3, 1), layers.Flatten(), layers.Softmax()]
    folder = train_and_import(tiny_data, tmp_path, stack)
    result = run("export", str(folder))
    assert result.exit_code == 0, result.output
    result = run("export", str(folder), "--int8")
    assert result.exit_code == 0 and "cannot be" not in result.output, result.output
    for kind in ("keras", "npz", "onnx"):
        result = run("export", str(folder), "--prepared", "--format", kind)
        assert result.exit_code == 0, result.output


def fail(*_: object, **__: object) -> FusedModel:
    raise ValueError("no such channel")


def spoil(fused: FusedModel, *_: object, **__: object) -> FusedModel:
    import keras

    core = keras.models.clone_model(fused.core)
    core.set_weights([weights * 0.5 for weights in fused.core.get_weights()])
    return FusedModel(core, fused.pad_gray)


def fail_to_compute(*_: object, **__: object) -> FusedModel:
    import tensorflow as tf

    raise tf.errors.UnimplementedError(None, None, "no such kernel")


@pytest.mark.parametrize(
    ("change", "words"),
    [(fail, "no such channel"), (fail_to_compute, "no such kernel"), (spoil, "with the preparation by")],
)
def test_a_preparation_that_fails_or_harms_is_left_out_and_named(
    imported_run: Path,
    change: Callable[..., FusedModel],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = Path(shutil.copytree(imported_run, tmp_path / "run"))
    monkeypatch.setattr(job, "correct_bias", change)
    result = run("export", str(copy), "--int8", "--format", "tflite")
    assert result.exit_code == 0, result.output
    assert "model-int8.tflite is not prepared for int8" in result.output
    assert words in " ".join(result.output.split())
    (file,) = json.loads((copy / "export" / "export.json").read_text())["files"]
    assert file["agreement"] > 0.9


def test_files_of_an_imported_run_may_have_a_heat_map(imported_run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(imported_run, tmp_path / "run"))
    result = run("export", str(copy), "--int8", "--format", "tflite", "--heatmap")
    assert result.exit_code == 0, result.output
    assert "is not prepared" not in result.output
