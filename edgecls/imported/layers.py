"""The layers that an imported model may have, and their settings as the installed Keras takes them."""

from __future__ import annotations

from typing import Any

from edgecls.errors import ModelFileError
from edgecls.networks.imported import SETTINGS

# Layers that change images or features in training alone.
TRAINING_ONLY = frozenset(
    "InputLayer Identity Dropout SpatialDropout1D SpatialDropout2D AlphaDropout GaussianDropout GaussianNoise "
    "ActivityRegularization RandomFlip RandomRotation RandomZoom RandomTranslation RandomContrast RandomBrightness "
    "RandomHeight RandomWidth RandomShear RandomHue RandomSaturation RandomSharpness RandomPerspective "
    "RandomGaussianBlur RandomColorJitter RandomGrayscale RandomInvert RandomPosterization RandomErasing "
    "RandomElasticTransform RandomColorDegeneration RandAugment AugMix CutMix MixUp".split()
)
MODELS = ("Sequential", "Functional", "Model")
# Layer and setting of Keras 2 -> setting.
RENAMED = {("LeakyReLU", "alpha"): "negative_slope"}
# Settings that matter in training alone, or not at all.
_TRAINING_SETTINGS = frozenset(
    "name trainable dtype momentum synchronized fused renorm_clipping renorm_momentum virtual_batch_size "
    "batch_input_shape batch_shape input_shape data_format seed activity_regularizer implementation "
    "rng_type activation input_dim input_length build_config autocast lora_rank lora_alpha quantization_mode "
    "quantization_config sparse ragged dynamic fill_mode fill_value".split()
)
_TRAINING_ENDINGS = ("_initializer", "_regularizer", "_constraint")
ACTIVATIONS = {
    name: name
    for name in "linear relu relu6 sigmoid softmax tanh silu hard_silu hard_sigmoid elu selu gelu "
    "leaky_relu softplus softsign mish exponential".split()
} | {"swish": "silu", "hard_swish": "hard_silu"}


def clean_settings(kind: str, name: str, raw: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a layer that its result depends on.

    Raises:
        ModelFileError: the layer has a setting that is not supported.
    """
    if raw.get("data_format") == "channels_first":
        raise ModelFileError(f"layer {name!r} takes channels first; build the model with data_format='channels_last'")
    settings = {}
    for key, value in raw.items():
        key = RENAMED.get((kind, key), key)
        if key in SETTINGS[kind]:
            settings[key] = value
        elif not (key in _TRAINING_SETTINGS or key.endswith(_TRAINING_ENDINGS) or _is_neutral(value)):
            raise ModelFileError(f"layer {name!r} ({kind}) has {key}={value!r:.40}, which is not supported")
    if kind == "BatchNormalization" and isinstance(settings.get("axis"), list):
        (settings["axis"],) = settings["axis"]
    return settings


def _is_neutral(value: object) -> bool:
    """Return True if a setting of another version of Keras changes nothing, such as groups=1 of DepthwiseConv2D."""
    return value is not True and value in (None, False, 0, 1, "", [])


def check_kind(kind: str, name: str, module: object) -> None:
    """Raise ModelFileError for a layer that cannot be imported."""
    if kind == "Lambda":
        raise ModelFileError(
            f"layer {name!r} is a Lambda: it holds Python code, and code from a file is never run. Replace it by a "
            "layer such as Rescaling, or do its work before the model, and save the model again"
        )
    # Other packages may use the names of Keras' layers. TensorFlow's own Keras is tf_keras or tensorflow.keras.
    package = str(module or "keras").split(".")[0]
    if package not in ("keras", "tf_keras", "tensorflow") or kind not in (*SETTINGS, *TRAINING_ONLY, *MODELS):
        of = f" of {module!r:.60}" if package not in ("keras", "tf_keras", "tensorflow") else ""
        raise ModelFileError(
            f"layer {name!r:.60} is a {kind!r:.60}{of}, which cannot be imported. Only layers of Keras for images can; "
            "build the model without it and save it again"
        )


def activation_name(raw: Any, layer: str) -> str | dict[str, Any]:
    """Return Keras' name of an activation, or the configuration of a layer that is used as one.

    Raises:
        ModelFileError: it is unknown.
    """
    if isinstance(raw, dict) and raw.get("class_name") not in (None, "function"):
        return raw
    if isinstance(raw, dict):
        raw = raw["registered_name"] if ">" in str(raw.get("registered_name")) else raw.get("config")
    if isinstance(raw, dict):
        raw = raw.get("name")
    if raw is None:
        return "linear"
    if not isinstance(raw, str) or raw not in ACTIVATIONS:
        raise ModelFileError(
            f"layer {layer!r} has the activation {raw!r:.60}, which cannot be imported; use one of Keras' own: "
            f"{', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[raw]
