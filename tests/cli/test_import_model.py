"""`edgecls import` as a stranger uses it: a notebook's model becomes a run that the other commands take."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run
from tiny import CLASSES

from edgecls.images.dataset import load_dataset

SIZE = 24


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network, trained as a notebook does, on pixels of -1..1; and with its classes in reversed order."""
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    dataset = load_dataset(tiny_data, SIZE, val_fraction=0.2, test_fraction=0.3, seed=0)
    images = dataset.train.images / np.float32(127.5) - 1
    stack = [layers.Conv2D(8, 3, 2, "same"), layers.BatchNormalization(momentum=0.8), layers.ReLU(6.0)]
    stack += [layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D(), layers.Dense(3)]
    model = keras.Sequential([keras.Input((SIZE, SIZE, 1)), layers.RandomFlip(), *stack])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-2), loss)
    model.fit(images, dataset.train.labels, epochs=30, batch_size=8, verbose=0)
    folder = tmp_path_factory.mktemp("notebook")
    model.save(folder / "model.keras")
    stack[-1].set_weights([weights[..., ::-1] for weights in stack[-1].get_weights()])
    model.save(folder / "reversed.keras")
    return folder


@pytest.fixture(scope="module")
def imported(trained: Path, tiny_data: Path) -> tuple[Path, str]:
    out = trained / "run"
    result = run("import", str(trained / "model.keras"), str(tiny_data), "--out", str(out))
    assert result.exit_code == 0, result.output
    return out, result.output


def test_scaling_and_classes_are_found_and_shown(imported: tuple[Path, str]) -> None:
    out, shown = imported
    assert "scaling     -1..1 (training images: -1..1 100.0 %" in shown
    assert f"classes     {', '.join(CLASSES)} (alphabetical order confirmed: 100.0 % of" in shown
    assert "resizing    edgecls 100.0 %;" in shown
    assert "validation  100.00 % accuracy\ntest        100.00 % accuracy\n" in shown
    assert "the model may have been trained on the held-out images" in shown
    record = json.loads((out / "run.json").read_text())
    assert record["arch"] == "imported"
    assert record["metrics"]["test_accuracy"] == 1.0


def test_a_table_says_the_classes_and_the_split(trained: Path, tiny_data: Path, tmp_path: Path) -> None:
    flat, table, out = tmp_path / "flat", tmp_path / "my labels.csv", tmp_path / "run"
    flat.mkdir()
    rows = ["image,label,split"]
    for path in sorted(tiny_data.glob("*/*.png")):
        name = f"{path.parent.name}-{path.name}"
        shutil.copy(path, flat / name)
        rows.append(f"{name},{path.parent.name},{('train', 'train', 'val', 'test')[len(rows) % 4]}")
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    model = trained / "model.keras"
    options = ("--scaling", "-1..1", "--out", out)
    refused = run("import", model, flat, *options)
    assert refused.exit_code == 1 and "outside class folders" in refused.output
    done = run("import", model, flat, "--labels", table, *options)
    assert done.exit_code == 0, done.output
    assert "may have been trained on the held-out images" not in done.output
    record = json.loads((out / "run.json").read_text())
    assert record["metrics"]["test_accuracy"] == 1.0
    assert sum(map(len, record["split"]["test"].values())) == len(rows[3::4])
    assert record["imported"]["options"][-2:] == ["--labels", str(table)]
    exported = run("export", out, "--int8", "--format", "tflite")
    assert exported.exit_code == 0, exported.output


def test_all_commands_take_the_run(imported: tuple[Path, str], tiny_data: Path) -> None:
    out, _ = imported
    exported = run("export", str(out), "--int8", "--fp32")
    assert exported.exit_code == 0, exported.output
    entries = json.loads((out / "export" / "export.json").read_text())["files"]
    assert [entry["passed"] for entry in entries] == [True] * 4
    assert all(entry["agreement"] == 1.0 for entry in entries if entry["precision"] == "fp32")
    file = str(out / "export" / "model-int8.tflite")
    for command in (["evaluate", file, str(tiny_data)], ["selftest", file], ["info", file], ["report", str(out)]):
        result = run(*command)
        assert result.exit_code == 0, result.output
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "edgecls import" in page
    assert "The model was trained elsewhere." in page


def test_a_refit_without_a_gain_changes_nothing(trained: Path, tiny_data: Path, tmp_path: Path) -> None:
    arguments = [str(trained / "model.keras"), str(tiny_data), "--out", str(tmp_path / "run"), "--refit"]
    result = run("import", *arguments)
    assert result.exit_code == 0, result.output
    assert "refit       no gain, so the model is unchanged: validation accuracy 100.00 %" in result.output
    found = json.loads((tmp_path / "run" / "run.json").read_text())["imported"]
    assert found["refit"].items() >= {"changed": [], "before": 1.0, "after": 1.0}.items()
    assert run("report", str(tmp_path / "run")).exit_code == 0
    assert found["refit"]["text"] in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert found["options"][-1] == "--refit"


def test_another_class_order_is_shown_and_can_be_given(trained: Path, tiny_data: Path, tmp_path: Path) -> None:
    model, out = str(trained / "reversed.keras"), str(tmp_path / "run")
    order = ",".join(reversed(CLASSES))
    refused = run("import", model, str(tiny_data), "--out", out)
    assert refused.exit_code == 1
    assert f"give --classes {order}" in refused.output
    assert not Path(out).exists()
    accepted = run("import", model, str(tiny_data), "--out", out, "--classes", order)
    assert accepted.exit_code == 0, accepted.output
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["classes"] == list(reversed(CLASSES))
    assert record["metrics"]["test_accuracy"] == 1.0
    exported = run("export", out, "--fp32", "--format", "tflite")
    assert exported.exit_code == 0, exported.output
    assert "100.00 %  passed: same result" in exported.output


def test_a_wrong_scaling_is_told(trained: Path, tiny_data: Path, tmp_path: Path) -> None:
    arguments = [str(trained / "model.keras"), str(tiny_data), "--out", str(tmp_path / "run"), "--scaling", "0..255"]
    result = run("import", *arguments, "--classes", ",".join(CLASSES))
    assert "another scaling fits the training images better than 0..255" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scaling", "0..2"], "scaling must be one of 0..255"),
        (["--classes", "bright,dark"], "--classes must name every class folder once"),
        (["--image-size", "32"], "takes images of 24 x 24 pixels"),
    ],
)
def test_wrong_options_are_explained(
    options: list[str], message: str, trained: Path, tiny_data: Path, tmp_path: Path
) -> None:
    result = run("import", str(trained / "model.keras"), str(tiny_data), "--out", str(tmp_path / "run"), *options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_export_of_a_keras_file_names_this_command(trained: Path) -> None:
    model = trained / "model.keras"
    assert f"is a Keras model, not a run folder. Import it first: edgecls import {model} DATA --out RUN" in " ".join(
        run("export", str(model)).output.split()
    )


def test_one_sigmoid_output_stands_for_two_classes(tmp_path: Path) -> None:
    import keras

    from edgecls.imported.build import build_float, read_source
    from edgecls.imported.graph import read_graph
    from edgecls.imported.model_file import open_model

    layers = keras.layers
    images = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 1)).astype(np.float32)

    def scores(*stack: Any) -> tuple[np.ndarray, np.ndarray]:
        model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), *stack])
        model.save(tmp_path / "model.keras")
        with open_model(tmp_path / "model.keras") as file:
            source = read_source(file, read_graph(file.config, keras_2=file.keras_2))
        return model.predict(images, verbose=0)[:, 0], build_float(source, 8).predict(images, verbose=0)

    given, both = scores(layers.Dense(1, activation="sigmoid"))
    assert np.allclose(both, np.stack([1 - given, given], 1), atol=1e-6)
    logit, both = scores(layers.Dense(1))
    assert np.allclose(both[:, 1], 1 / (1 + np.exp(-logit)), atol=1e-6)
