"""Networks with random weights that behave like trained ones: signals neither die, explode nor turn chaotic."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgecls.config import TrainConfig

CLASS_COUNT = 3


def calibrate(network: Any, images: np.ndarray, rng: np.random.Generator) -> None:
    """Gives each BatchNorm random scales, and the statistics of `images`, so that no layer's signal dies or explodes.

    Shifts are mostly positive: a random network is chaotic otherwise, and turns rounding errors into other labels.
    """
    import keras

    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.trainable, norm.momentum = True, 0.0
        gamma, beta, mean, variance = norm.get_weights()
        norm.set_weights([rng.uniform(0.8, 1.2, gamma.shape), rng.normal(1.5, 0.3, beta.shape), mean, variance])
    network(images, training=True)
    for norm in norms:
        norm.trainable, norm.momentum = False, 0.99


def diverse_images(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Plain grays, stripes and noise: uint8 (N, S, S, 1), 0..255."""
    gray = rng.integers(0, 256, (count, 1, 1, 1))
    stripes = rng.integers(-90, 90, (count, 1, size, 1)) * rng.integers(0, 2, (count, 1, 1, 1))
    noise = rng.integers(-60, 60, (count, size, size, 1)) * rng.integers(0, 2, (count, 1, 1, 1))
    images: np.ndarray = (gray + stripes + noise).clip(0, 255).astype(np.uint8)
    return images


def random_network(
    layout: str,
    size: int,
    alpha: float,
    head: str,
    spread: float = 1.5,
    learned: bool = True,
    blocks: int | None = None,
) -> Any:
    """The trainable network with random weights everywhere, BatchNorm and gray_to_rgb not excepted.

    It has `blocks` blocks. Unless gray_to_rgb `learned`, it looks at one pixel alone. The logits over diverse images
    have mean 0 and deviation `spread`.
    """
    import keras

    from edgecls.networks.model import build_mobilenet_v2, freeze_features
    from edgecls.networks.weights import Weights

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    config = TrainConfig(image_size=size, alpha=alpha, head=head, blocks=blocks)
    model = build_mobilenet_v2(config, CLASS_COUNT, Weights("none", None, None, layout))
    gray_to_rgb = model.get_layer("gray_to_rgb")
    gray_to_rgb.set_weights([rng.normal(0, 0.5, w.shape).astype(np.float32) for w in gray_to_rgb.get_weights()])
    if not learned:
        kernel, bias = gray_to_rgb.get_weights()
        gray_to_rgb.set_weights([kernel * np.pad([[[[1.0]]]], ((1, 1), (1, 1), (0, 0), (0, 0))), bias])
    images = diverse_images(32, size, rng)
    calibrate(model, images, rng)
    freeze_features(model)
    scores = model.layers[-1]
    inputs = keras.Model(model.input, scores.input)(images, training=False).numpy()
    kernel = scores.get_weights()[0]
    gain = spread / (inputs @ kernel).std(0)
    scores.set_weights([kernel * gain, -(inputs @ kernel).mean(0) * gain])
    return model


def core_scores(fused: Any, images: np.ndarray) -> np.ndarray:
    """The scores of a fused network, float32 (N, C), of images 0..255 (N, S, S, 1)."""
    scores: np.ndarray = fused.core(images.astype(np.float32) - fused.pad_gray, training=False).numpy()
    return scores
