"""int8 files of models from elsewhere: those of `edgecls import` and `export` beside the stock converters'.

    python benchmarks/imported_int8.py DATA --name magnetic-tile [--image-size 96] [--networks frozen ...]

Each network is trained in plain Keras, saved, and imported. The stock files are what TFLiteConverter and ONNX Runtime
make of the same network and the same calibration images. All files are scored on the held-out images in their own
runtime, and the two of a format are compared by a paired test (McNemar's).

Writes benchmarks/results/imported-int8-NAME.json.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import stock
from record import RESULTS, write_record

from edgecls.config import ExportConfig
from edgecls.evaluate import score_images
from edgecls.files import read_json
from edgecls.images.dataset import Dataset, load_dataset
from edgecls.limits import Format
from edgecls.messages.numbers import percent
from edgecls.output_capture import quietly
from edgecls.runtime.classifier import load
from edgecls.runtime.engines import own_engine

EXPORT = ExportConfig(precisions=("int8",), max_drop=1.0)
RUNNERS: dict[Format, Any] = {"tflite": stock.litert_runner, "onnx": stock.ort_runner}


@dataclass(frozen=True)
class Recipe:
    """How a notebook trains one network.

    Attributes:
        text: for the table.
        network: in keras.applications.
        epochs: of the classifier on a frozen backbone, then of all layers.
        pretrained: False for random weights at the start.
        alpha: width, if it is not 1.
        rate: learning rate of random weights.
        image_size: if it is not that of the command.
        scaling: to import it with, where gray images do not tell two scalings apart.
    """

    text: str
    network: str
    epochs: tuple[int, int]
    pretrained: bool = True
    alpha: float | None = None
    rate: float = 1e-3
    image_size: int = 0
    scaling: str | None = None


RECIPES = {
    "frozen": Recipe("MobileNetV2, frozen", "MobileNetV2", (12, 0)),
    "tuned": Recipe("MobileNetV2, all layers trained", "MobileNetV2", (6, 6)),
    "mobilenet": Recipe("MobileNet 0.25, from random weights", "MobileNet", (0, 20), pretrained=False, alpha=0.25),
    "v3": Recipe("MobileNetV3Small, from random weights", "MobileNetV3Small", (0, 20), pretrained=False),
    "efficient": Recipe("EfficientNetB0, from random weights", "EfficientNetB0", (0, 10), pretrained=False),
    # Smaller images: an hour would not do for these at 96 pixels.
    "resnet": Recipe("ResNet50V2, from random weights", "ResNet50V2", (0, 6), pretrained=False, image_size=48),
    "densenet": Recipe("DenseNet121, from random weights", "DenseNet121", (0, 6), pretrained=False, image_size=32),
    "nasnet": Recipe("NASNetMobile, from random weights", "NASNetMobile", (0, 8), pretrained=False, image_size=48),
    # It has no BatchNorm: a larger rate leaves it at chance.
    "vgg": Recipe(
        "VGG16, from random weights", "VGG16", (0, 4), pretrained=False, rate=1e-4, image_size=32, scaling="mean-bgr"
    ),
}
# Of keras.applications, each with a preprocess_input of its own.
MODULES = {
    "MobileNet": "mobilenet",
    "MobileNetV3Small": "mobilenet_v3",
    "EfficientNetB0": "efficientnet",
    "ResNet50V2": "resnet_v2",
    "DenseNet121": "densenet",
    "NASNetMobile": "nasnet",
    "VGG16": "vgg16",
}


def train(recipe: Recipe, dataset: Dataset, seed: int, path: Path) -> None:
    """Train as a notebook does, and save the model."""
    import keras

    keras.utils.set_random_seed(seed)
    size = dataset.train.images.shape[1]
    backbone = _backbone(recipe, size)
    image = keras.Input((size, size, 3))
    # With `training=False`, BatchNorm keeps its statistics while the layers are tuned, as Keras' guide has it.
    features = keras.layers.GlobalAveragePooling2D()(backbone(image, training=False if recipe.pretrained else None))
    x = keras.layers.Dropout(0.2)(features)
    model = keras.Model(image, keras.layers.Dense(len(dataset.classes), activation="softmax")(x))
    scaled, labels = _scale(dataset.train.images, recipe), dataset.train.labels
    rates = 1e-3, 2e-5 if recipe.pretrained else recipe.rate
    for epochs, frozen, rate in zip(recipe.epochs, (True, False), rates, strict=True):
        backbone.trainable = not frozen
        model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        if epochs:
            model.fit(scaled, labels, epochs=epochs, batch_size=32, verbose=2)
    model.save(path)


def _backbone(recipe: Recipe, size: int) -> Any:
    """Return the network without its classifier; with weights of PyTorch's ImageNet model, which pads both sides."""
    import keras

    from edgecls.networks.weights import find_weights, load_into

    options = {"alpha": recipe.alpha} if recipe.alpha else {}
    build = getattr(keras.applications, recipe.network)
    backbone = build(input_shape=(size, size, 3), include_top=False, weights=None, **options)
    if not recipe.pretrained:
        for layer in backbone.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                # The statistics of 0.99 or 0.999 need more steps than these few epochs have.
                layer.momentum = 0.9
        return backbone

    def pad_both(layer: Any) -> Any:
        is_padding = isinstance(layer, keras.layers.ZeroPadding2D)
        settings = layer.get_config() | ({"padding": ((1, 1), (1, 1))} if is_padding else {})
        return type(layer).from_config(settings)

    backbone = keras.models.clone_model(backbone, clone_function=pad_both)
    load_into(backbone, find_weights("imagenet-torch", size, 1.0))
    return backbone


def _scale(images: Any, recipe: Recipe) -> Any:
    """Return gray images as the network's own preprocess_input scales them, in three channels."""
    import keras

    rgb = np.repeat(images.astype(np.float32), 3, -1)
    if recipe.pretrained:
        return keras.applications.densenet.preprocess_input(rgb)
    return getattr(keras.applications, MODULES[recipe.network]).preprocess_input(rgb)


def compare(model: Path, data: Path, work: Path, scaling: str | None) -> dict[str, Any]:
    """Import and export a model; return the accuracy of its files, the stock ones and the float network.

    An agreement is the fraction of images on which a file gives the label that Keras gives.
    """
    from edgecls.export import gate
    from edgecls.export.artifact import export_run
    from edgecls.export.calibration import load_samples
    from edgecls.imported.measure import ImportConfig
    from edgecls.imported.run import import_model
    from edgecls.training.run.run_folder import load_model, read_held_out_scores

    run = work / "run"
    imported = import_model(model, data, run, ImportConfig(scaling=scaling))
    exported = export_run(run, EXPORT)
    samples = load_samples(imported.record, data=None, count=EXPORT.calibration_images, seed=EXPORT.seed)
    network = load_model(run)
    held_out, calibration = samples.held_out, samples.calibration.images
    files: dict[Format, bytes] = {
        "tflite": stock.tflite_int8(network, calibration),
        "onnx": stock.onnx_int8(stock.onnx_fp32(network), calibration),
    }
    own = {file.format: file for file in exported.files}
    classes = imported.record["classes"]
    keras_scores = read_held_out_scores(run, len(held_out.labels), len(classes))
    row: dict[str, Any] = {"scaling": imported.measured.scaling.name, "notes": list(exported.notes)}
    row |= {"images": exported.images, "float": exported.float_accuracy}
    for kind, content in files.items():
        infer = RUNNERS[kind](content, os.cpu_count() or 1)
        stock_scores = np.stack([infer(image[None]).reshape(-1) for image in held_out.images])
        with load(exported.folder / own[kind].path, engine=own_engine(kind)) as classifier:
            own_scores = score_images(classifier, held_out.images)
        stock_file = gate.compare(stock_scores, keras_scores, held_out.labels, classes, EXPORT.max_drop)
        for side, comparison in {"": own[kind].comparison, "stock_": stock_file}.items():
            row[f"{side}{kind}"], row[f"{side}{kind}_agreement"] = comparison.accuracy, comparison.agreement
        paired = gate.compare(own_scores, stock_scores, held_out.labels, classes, EXPORT.max_drop)
        row[f"{kind}_p"] = paired.mcnemar_p
    return row


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the document's table, its header first."""
    kinds = ("tflite", "onnx")
    header = ["network", "Keras"]
    for kind in kinds:
        header += [f"{kind}, edgecls", f"{kind}, stock", f"{kind}, paired test"]
    lines = [header]
    for row in record["rows"]:
        line = [row["text"], percent(row["float"])]
        for kind in kinds:
            line += [_cell(row, side) for side in (kind, f"stock_{kind}")]
            line.append(f"p = {row[f'{kind}_p']:.2g}" if f"{kind}_p" in row else "")
        lines.append(line)
    return lines


def _cell(row: dict[str, Any], side: str) -> str:
    """Return the accuracy and, if the record has it, the agreement of one file."""
    agreement = row.get(f"{side}_agreement")
    return percent(row[side]) + (f" ({percent(agreement)})" if agreement is not None else "")


def main() -> None:
    """Train, import, export, score, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train/ and test/")
    parser.add_argument("--name", required=True, help="of the images, for the result's file name")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument(
        "--networks", nargs="+", choices=RECIPES, default=list(RECIPES), help="the others keep their rows"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", type=Path, help="folder that keeps the trained models; those in it are not trained")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    path = arguments.results / f"imported-int8-{arguments.name}.json"
    rows = {row["network"]: row for row in read_json(path)["rows"]} if path.exists() else {}
    for name in arguments.networks:
        recipe = RECIPES[name]
        with tempfile.TemporaryDirectory() as folder, quietly("training and export"):
            model = (arguments.models or Path(folder)) / f"{name}.keras"
            if not model.exists():
                size = recipe.image_size or arguments.image_size
                dataset = load_dataset(arguments.data, size, val_fraction=0.15, test_fraction=0.15, seed=0)
                train(recipe, dataset, arguments.seed, model)
            row = compare(model, arguments.data, Path(folder), recipe.scaling)
        rows[name] = {"network": name, "text": recipe.text} | row
        print(rows[name], flush=True)
        figures: dict[str, Any] = {"data": arguments.name, "image_size": arguments.image_size, "seed": arguments.seed}
        figures["rows"] = [rows[each] for each in RECIPES if each in rows]
        # Nothing is timed, so the machine's state does not matter. Written after each network: all take an hour.
        verdict: dict[str, Any] = {"valid": True, "causes": [], "warnings": []}
        write_record(path.stem, figures, verdict, arguments.results)
    print(path)


if __name__ == "__main__":
    main()
