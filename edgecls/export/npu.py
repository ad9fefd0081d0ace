"""Rewrites the network in operations that the compilers of NPUs map, and checks that a TFLite file has no others.

The Edge TPU's compiler stops at the first operation that it does not know: that one and all after it run on the board's
CPU. So the network has only the operations of Google's tf2_mobilenet_v2_1.0_224_ptq.tflite, PAD and MAX_POOL_2D. Vela,
for Arm's Ethos-U, maps all of these too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgecls.boards import edgetpu, ethosu
from edgecls.boards.rule_result import reasons_against
from edgecls.boards.targets import Target
from edgecls.errors import ExportError
from edgecls.export.fuse import BLOCKS, STEM, FusedModel
from edgecls.export.graph import Weights, sources_of
from edgecls.model_file.graph import SCORE_QUANTIZATIONS
from edgecls.model_file.read import read_graph
from edgecls.model_file.tflite import check_tflite

if TYPE_CHECKING:
    import keras


def for_npu(fused: FusedModel) -> FusedModel:
    """Return the same network with the same weights, without space-to-depth and without Dense layers.

    The stem on 2x2 blocks becomes one of stride 2 on the image. A Dense layer becomes a convolution as large as the
    feature map: TensorFlow 2.21 writes scales per channel for both, and the Edge TPU accepts only a convolution's.
    """
    import keras
    from keras import layers as kinds

    core, sources = fused.core, sources_of(fused.core)
    if BLOCKS in sources and core.get_layer(STEM).kernel_size[0] % 2 == 0:
        raise ValueError("an even number of blocks is not padded as pixels are; fuse with in_blocks=False")
    # What a Dense layer reads as a vector, and the layer whose activation makes the scores.
    vectors = {
        layer.name: _through_shapes(core, sources, sources[layer.name][0])
        for layer in core.layers
        if isinstance(layer, kinds.Dense) and len(layer.input.shape) == 2
    }
    _, last = _through_shapes(core, sources, core.layers[-1].name)
    apart = last.name if isinstance(last, (kinds.Activation, kinds.Softmax)) else ""
    # Otherwise it averages scores.
    has_activation = bool(apart) or hasattr(last, "activation")
    weights = _weights(core, {name: before for name, (_, before) in vectors.items()})
    gone = {BLOCKS, apart, *(name for names, _ in vectors.values() for name in names)}

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        shape = weights[layer.name][0].shape if layer.name in weights else ()
        return _as_mapped(layer, shape, is_last=layer is last and has_activation and not apart)

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        return args[0] if isinstance(layer, kinds.Flatten) or layer.name in gone else layer(*args, **kwargs)

    image = keras.Input(core.input.shape[1:], batch_size=1, dtype="float32", name="centered_image")
    mapped = keras.models.clone_model(core, input_tensors=image, clone_function=clone, call_function=call)
    flat = kinds.Flatten(name="logits")(mapped.output)
    mapped = keras.Model(image, _to_scores(flat, last) if has_activation else flat)
    for name, values in weights.items():
        mapped.get_layer(name).set_weights(values)
    return FusedModel(mapped, fused.pad_gray)


def _as_mapped(layer: keras.layers.Layer, shape: tuple[int, ...], *, is_last: bool) -> keras.layers.Layer:
    """Return a copy for a kernel of `shape`, without its activation if it is the last one with weights."""
    from keras import layers as kinds

    settings = layer.get_config()
    if layer.name == STEM and shape != layer.kernel.shape:
        return kinds.Conv2D(layer.filters, shape[:2], strides=2, padding="same", name=STEM)
    if isinstance(layer, kinds.Dense):
        settings = {"filters": layer.units, "kernel_size": shape[:2], "name": layer.name}
        settings["activation"] = layer.activation
    if isinstance(layer, (kinds.GlobalAveragePooling2D, kinds.GlobalMaxPooling2D)):
        settings["keepdims"] = True
    if is_last:
        # The activation becomes a layer of its own.
        settings["activation"] = "linear"
    return (kinds.Conv2D if isinstance(layer, kinds.Dense) else type(layer)).from_config(settings)


def _through_shapes(
    core: keras.Model, sources: dict[str, list[str]], name: str
) -> tuple[list[str], keras.layers.Layer]:
    """Return the layers from `name` backwards that only change the shape, and the first that does more."""
    from keras import layers as kinds

    names, layer = [], core.get_layer(name)
    while isinstance(layer, (kinds.Flatten, kinds.Reshape)):
        names.append(layer.name)
        layer = core.get_layer(sources[layer.name][0])
    return names, layer


def _to_scores(logits: keras.KerasTensor, last: keras.layers.Layer) -> keras.KerasTensor:
    """Return the scores of logits (1, C), as the layer `last` made them."""
    import keras

    is_sigmoid = getattr(last, "activation", None) is keras.activations.sigmoid
    layers = keras.layers
    layer = layers.Activation("sigmoid", name="sigmoid") if is_sigmoid else layers.Softmax(name="softmax")
    return layer(logits)


def _weights(core: keras.Model, flattened: dict[str, keras.layers.Layer]) -> Weights:
    """Return the weights of all layers, by name, in the shapes of `for_npu`.

    `flattened` has the layer whose values a Dense layer reads as a vector, by the name of the Dense layer.
    """
    from keras import layers as kinds

    weights = {layer.name: layer.get_weights() for layer in core.layers if layer.weights}
    if any(layer.name == BLOCKS for layer in core.layers):
        # From 2x2 blocks back to pixels: the reverse of fuse._fuse_stem.
        kernel = weights[STEM][0]
        side, filters = 2 * kernel.shape[0], kernel.shape[-1]
        pixels = kernel.reshape(side // 2, side // 2, 2, 2, filters).transpose(0, 2, 1, 3, 4)
        weights[STEM][0] = pixels.reshape(side, side, 1, filters)
    for layer in core.layers:
        if isinstance(layer, kinds.Dense):
            # Otherwise it reads the channels of each pixel, or what is a vector already.
            rows, columns = 1, 1
            if layer.name in flattened and len(flattened[layer.name].output.shape) == 4:
                rows, columns = flattened[layer.name].output.shape[1:3]
            kernel = weights[layer.name][0]
            weights[layer.name][0] = kernel.reshape(rows, columns, len(kernel) // (rows * columns), layer.units)
    return weights


def check_mapping(graph: bytes, target: Target) -> None:
    """Raise ExportError for a TFLite file that the NPU would not run, or whose scores have no scale that TFLite fixes.

    Of the first kind are files of which a convolution or more would run on the board's CPU.
    """
    rules = edgetpu if target.accelerator == "edgetpu" else ethosu
    if reasons := reasons_against(rules.preflight(read_graph(graph, "tflite"), "choose another --board")):
        raise ExportError(f"the NPU would not run this file: {reasons}")
    if check_tflite(graph)[1] not in SCORE_QUANTIZATIONS:
        raise ExportError(
            "files for an NPU hold the integer scores of one softmax or sigmoid, and this network averages several; "
            "export without --board, or import a model that averages before its softmax"
        )
