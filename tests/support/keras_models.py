"""Keras models as a notebook saves them, with random weights that give scores of all classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from random_networks import diverse_images

APPLICATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "MobileNet": ("-1..1", {"alpha": 0.25}),
    "MobileNetV2": ("-1..1", {"alpha": 0.35}),
    "MobileNetV2-1.0": ("-1..1", {"alpha": 1.0}),
    "MobileNetV3Small": ("0..255", {}),
    "EfficientNetB0": ("0..255", {}),
    "ResNet50V2": ("-1..1", {}),
    "DenseNet121": ("imagenet-rgb", {}),
    "NASNetMobile": ("-1..1", {}),
    "VGG16": ("mean-bgr", {}),
}


def application(name: str, size: int = 32, classes: int = 3, channels: int = 3, *, top: bool = False) -> Any:
    """A network of keras.applications that was never trained, with random BatchNorm statistics."""
    import keras

    keras.utils.set_random_seed(0)
    build = getattr(keras.applications, name.split("-")[0])
    options = APPLICATIONS[name][1] | {"weights": None, "input_shape": (size, size, channels)}
    if top:
        model = build(**options, classes=classes)
    else:
        backbone = build(**options, include_top=False)
        x = keras.layers.GlobalAveragePooling2D()(backbone.output)
        model = keras.Model(backbone.input, keras.layers.Dense(classes, activation="softmax")(x))
    settle(model, scaling_of(name, channels))
    return model


def scaling_of(name: str, channels: int) -> str:
    """The scaling that a notebook would use."""
    scaling = APPLICATIONS[name][0]
    # The means of red, green and blue have no meaning for gray images.
    return "-1..1" if channels == 1 and scaling in ("imagenet-rgb", "mean-bgr") else scaling


def settle(model: Any, scaling: str, size: int | None = None) -> None:
    """Give every BatchNorm statistics of its own, and the last layer weights that tell varied images apart."""
    import keras

    from edgecls.imported.scaling import parse_scaling

    rng = np.random.default_rng(0)
    _, height, _, channels = model.input_shape
    images = parse_scaling(scaling, channels).apply(diverse_images(96, size or height, rng), channels)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        gamma, *beta, mean, variance = norm.get_weights()
        changed = [gamma * rng.uniform(0.4, 0.7, gamma.shape), *(rng.normal(0.2, 0.2, each.shape) for each in beta)]
        norm.set_weights([*changed, mean, variance])
        norm.momentum = 0.0
    model(images, training=True)
    for norm in norms:
        norm.momentum = 0.99
        *changed, mean, variance = norm.get_weights()
        # By a part of the deviation: a mean that is off by more makes a network chaotic.
        mean = mean + rng.normal(0, 0.2, mean.shape) * np.sqrt(variance)
        norm.set_weights([*changed, mean, variance * rng.uniform(0.7, 1.3, variance.shape)])
    last = next(layer for layer in reversed(model.layers) if layer.weights)
    inputs = keras.Model(model.input, last.input)(images, training=False).numpy().reshape(len(images), -1)
    kernel, *bias = last.get_weights()
    logits = inputs @ kernel.reshape(inputs.shape[1], -1)
    gain = 2 / np.maximum(logits.std(0), 1e-9)
    last.set_weights([kernel * gain, *(-logits.mean(0) * gain for _ in bias)])


def save(model: Any, path: Path) -> Path:
    model.save(path)
    return path


def notebook_model(channels: int = 1, size: int = 32, classes: int = 3, last: str | None = "softmax") -> Any:
    """A small network with most kinds of layers that imported models have."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(0)
    image = keras.Input((size, size, channels))
    x = layers.RandomFlip("horizontal")(image)
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.Conv2D(8, 3, strides=2, use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    skip = x = layers.Activation("relu6")(x)
    x = layers.SeparableConv2D(8, 3, padding="same", activation="swish")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(8, 1, activation="hard_sigmoid")(layers.Conv2D(4, 1, activation="relu")(gate))
    x = layers.Add()([layers.Multiply()([x, gate]), skip])
    x = layers.Concatenate()([x, layers.AveragePooling2D(3, 1, padding="same")(x)])
    x = layers.LeakyReLU(0.2)(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D()(layers.Dropout(0.1)(x))
    inner = keras.Sequential([keras.Input(x.shape[1:]), layers.Conv2D(8, 3, activation="relu"), layers.Flatten()])
    x = layers.BatchNormalization()(inner(x))
    return keras.Model(image, layers.Dense(classes, activation=last)(x))


def unusual_model(size: int = 32, classes: int = 3) -> Any:
    """A small network with layers that few networks have."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 1))
    x = layers.Rescaling(1 / 127.5, -1)(layers.Resizing(size, size)(image))
    x = keras.ops.concatenate([x, x, x], -1)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="gelu")(x)
    x = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(16, 3, groups=4)(x))
    x = layers.Conv2DTranspose(8, 3, strides=2, activation="elu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, dilation_rate=2, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.LayerNormalization()(layers.Activation("mish")(x))
    # Added at one position, where TensorFlow moves the bias of one convolution to the other.
    x = layers.GlobalMaxPooling2D(keepdims=True)(layers.GroupNormalization(4)(x))
    x = layers.Add()([layers.Conv2D(8, 1)(x), layers.Conv2D(8, 1)(layers.Conv2D(4, 1, activation="swish")(x))])
    x = layers.Dropout(0.5)(layers.Flatten()(layers.Activation("leaky_relu")(x)))
    return keras.Model(image, layers.Dense(classes, activation="softmax")(x))


def train_model(photos: Path, path: Path, size: int = 48) -> None:
    """Train a small network that scales its images itself on a folder of class folders, and save it."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    images = keras.utils.image_dataset_from_directory(photos, image_size=(size, size), color_mode="grayscale", seed=0)
    stack = [layers.Rescaling(1 / 255), layers.Conv2D(8, 5, 2, activation="relu"), layers.GlobalMaxPooling2D()]
    model = keras.Sequential([keras.Input((size, size, 1)), *stack, layers.Dense(len(images.class_names), "softmax")])
    model.compile(keras.optimizers.Adam(2e-2), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, epochs=30, verbose=0)
    model.save(path)
