"""What each extra must be able to do, done with the installed commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from packages.environments import CommandFailed, Environment

# Extra -> the formats that its engine runs. The last two train and export first.
FORMATS: dict[str, tuple[str, ...]] = {
    "": (),
    "litert": ("tflite",),
    "onnx": ("onnx",),
    "gpu": ("onnx",),
    "openvino": ("onnx", "tflite"),
    "mlperf": (),
    "ray": (),
    "train": ("tflite", "onnx"),
    "all": ("tflite", "onnx"),
}
# Extra without an engine -> what it brings.
MODULES = {"mlperf": "mlperf_loadgen", "ray": "ray, pyarrow.fs, pyarrow.parquet, fsspec"}
# Of accuracy: other versions and engines round a few of 400 images otherwise.
TOLERANCE = 0.015


def use(environment: Environment, extra: str, run: Path) -> None:
    """Use everything that an extra is for.

    Args:
        environment: with edgecls and this extra.
        extra: a name in `FORMATS`.
        run: the demo's run folder, with its images beside it.

    Raises:
        CommandFailed: something does not work, or gives other answers than where the files were made.
    """
    images, export = run.parent / "images", run / "export"
    _look(environment, export)
    if extra in MODULES:
        environment.run("python", "-c", f"import {MODULES[extra]}")
    elif not FORMATS[extra]:
        environment.run("edgecls", "doctor", exit_code=1)
        environment.run("edgecls", "predict", export / "model-int8.tflite", images / "test", exit_code=1)
    for file in _files(export, FORMATS[extra]):
        # The scores inside a file are of the engine it was made for, and OpenVINO rounds int8 otherwise.
        if extra != "openvino":
            environment.run("edgecls", "selftest", file)
        _score(environment, file, images)
    if extra in ("train", "all"):
        _train(environment, images)


def _look(environment: Environment, export: Path) -> None:
    for program in (("edgecls",), ("python", "-m", "edgecls")):
        environment.run(*program, "--help")
        environment.run(*program, "info", export / "model-int8.onnx", "--json")
    environment.run("edgecls", "devices", "raspberry-pi-4b")


def _files(export: Path, formats: tuple[str, ...]) -> list[Path]:
    return [export / f"model-{precision}.{kind}" for precision in ("fp32", "int8") for kind in formats]


def _score(environment: Environment, file: Path, images: Path) -> None:
    picture = next((images / "test").glob("*/*.png"))
    predicted = json.loads(environment.run("edgecls", "predict", file, picture, "--json"))
    spec = json.loads(environment.run("edgecls", "info", file, "--json"))
    if not (predicted[0]["label"] in spec["labels"] and abs(sum(predicted[0]["scores"].values()) - 1) < 0.05):
        raise CommandFailed(f"{file.name}: no prediction: {predicted}")
    found = json.loads(environment.run("edgecls", "evaluate", file, images, "--json"))["accuracy"]
    if abs(found - spec["metrics"]["accuracy"]) > TOLERANCE:
        raise CommandFailed(f"{file.name}: accuracy {found}, where it was made {spec['metrics']['accuracy']}")


def _train(environment: Environment, images: Path) -> None:
    run, export = environment.folder / "run", environment.folder / "run/export"
    size = ("--image-size", 32, "--epochs", 3, "--weights", "imagenet-torch", "--no-augment")
    environment.run("edgecls", "train", images, "--out", run, *size)
    # Whatever 32 pixels make of it: the files must give the answers that their contract tells.
    environment.run("edgecls", "export", run, "--fp32", "--fp16", "--int8", "--max-drop", 1)
    for file in _files(export, FORMATS["train"]):
        environment.run("edgecls", "selftest", file)
        _score(environment, file, images)
    environment.run("edgecls", "report", run)
    shutil.rmtree(run)
