"""The notebook in examples/: what it saves becomes a run and files with the same accuracy."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from command_line import run

SCRIPT = Path(__file__).parent.parent / "examples" / "keras_notebook.py"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """ImageNet weights in a file, as Keras would download them."""
    import keras

    from edgecls.networks.weights import find_weights, load_into

    backbone = keras.applications.MobileNetV2(input_shape=(32, 32, 3), include_top=False, weights=None)
    load_into(backbone, find_weights("imagenet-torch", 32, 1.0))
    path = tmp_path_factory.mktemp("weights") / "imagenet.weights.h5"
    backbone.save_weights(path)
    return str(path)


@pytest.mark.parametrize(
    ("network", "scaling"),
    [("cnn-dropout", "0..1"), pytest.param("dense", "0..1", marks=pytest.mark.slow)]
    + [pytest.param(name, "0..255", marks=pytest.mark.slow) for name in ("transfer", "mobilenet-v2")],
)
def test_a_notebooks_network_becomes_files(
    network: str, scaling: str, tiny_data: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model, out = str(tmp_path / "lecture.keras"), str(tmp_path / "run")
    arguments = [str(tiny_data), network, model, "--image-size", "32", "--epochs", "60" if network == "dense" else "20"]
    if scaling == "0..255":
        arguments += ["--weights", request.getfixturevalue("weights")]
    runpy.run_path(str(SCRIPT))["main"](arguments)
    # Thirty images may not show what a small network was trained on.
    known = ["--scaling", scaling] if scaling == "0..1" else []
    imported = run("import", model, str(tiny_data), "--out", out, *known)
    assert imported.exit_code == 0, imported.output
    assert f"scaling     {scaling} " in imported.output
    exported = run("export", out, "--fp32", "--int8")
    assert exported.exit_code == 0, exported.output
    record = json.loads((tmp_path / "run" / "export" / "export.json").read_text())
    assert record["float_accuracy"] > 0.6
    assert [each["agreement"] for each in record["files"] if each["precision"] == "fp32"] == [1.0, 1.0]
