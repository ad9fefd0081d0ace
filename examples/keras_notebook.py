"""Trains a network in plain Keras, as a notebook does, and saves it. Nothing of edgecls is in it.

    pip install tensorflow-cpu
    python keras_notebook.py photos cnn-dropout lecture.keras --image-size 128

`photos` has one folder of images for each class, or train/ and test/ of them. The first four networks are those of a
university lecture; mobilenet-v2 is one of keras.applications, with weights that Keras downloads. Then:

    edgecls import lecture.keras photos --out run
    edgecls export run --int8
    edgecls report run
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
from keras import layers

NETWORKS = ("dense", "cnn-dropout", "cnn-augment", "transfer", "mobilenet-v2")


def build(name: str, size: int, classes: int, weights: str | None) -> keras.Model:
    """Return an untrained network: gray images (N, size, size, 1), 0..255 or 0..1 -> scores (N, classes)."""
    image = keras.Input((size, size, 1))
    if name == "dense":
        x = layers.Flatten()(image)
        for units in (128, 64, 32):
            x = layers.Dropout(0.2)(layers.Dense(units, activation="relu")(x))
    elif name == "cnn-dropout":
        x = image
        for filters in (16, 32):
            x = layers.Dropout(0.1)(layers.Conv2D(filters, (2, 2), activation="relu")(x))
            x = layers.MaxPooling2D()(x)
        x = layers.Dense(32, activation="relu")(layers.Flatten()(x))
        x = layers.Dense(16, activation="relu")(x)
    elif name == "cnn-augment":
        x = layers.RandomRotation(0.2)(layers.RandomFlip("horizontal_and_vertical")(image))
        x = layers.MaxPooling2D()(layers.Conv2D(16, (2, 2), activation="relu")(x))
        x = layers.Dense(32, activation="relu")(layers.Flatten()(x))
    else:
        backbone = keras.applications.MobileNetV2(input_shape=(size, size, 3), include_top=False, weights=weights)
        backbone.trainable = weights is None
        if name == "transfer":
            x = layers.Conv2D(3, (3, 3), padding="same")(layers.Rescaling(1 / 255)(image))
            x = layers.Dense(32, activation="relu")(layers.Flatten()(backbone(x)))
        else:
            x = keras.applications.mobilenet_v2.preprocess_input(layers.Concatenate()([image, image, image]))
            x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(backbone(x)))
    return keras.Model(image, layers.Dense(classes, activation="softmax")(x), name=name.replace("-", "_"))


def main(arguments: list[str] | None = None) -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("model", type=Path, help="file to write, such as lecture.keras")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--weights", default="imagenet", help="of MobileNetV2, or none")
    options = parser.parse_args(arguments)
    folder = options.photos / "train" if (options.photos / "train").is_dir() else options.photos
    size = options.image_size
    train, val = keras.utils.image_dataset_from_directory(
        folder,
        validation_split=0.2,
        subset="both",
        seed=1,
        image_size=(size, size),
        color_mode="grayscale",
        batch_size=16,
    )
    classes = train.class_names
    model = build(options.network, size, len(classes), None if options.weights == "none" else options.weights)
    if options.network in ("dense", "cnn-dropout", "cnn-augment"):
        # Outside of the model, so its file does not say it: `edgecls import` finds it out.
        train, val = (part.map(lambda images, labels: (images / 255, labels)) for part in (train, val))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train, validation_data=val, epochs=options.epochs, verbose=2)
    model.save(options.model)
    print(f"{options.model}: {model.count_params():,} parameters, classes {', '.join(classes)}")


if __name__ == "__main__":
    main()
