"""TFLite files from the fused network. Input: the gray image itself, uint8 (1, S, S, 1), 0..255."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.targets import ANY, Target
from edgecls.export.activations import bounded
from edgecls.export.calibration import centered_inputs
from edgecls.export.fuse import FusedModel
from edgecls.export.npu import check_mapping, for_npu
from edgecls.model_file.graph import Graph, Node
from edgecls.model_file.tflite import find_tables, find_vector, follow, read_tflite
from edgecls.output_capture import quietly

if TYPE_CHECKING:
    import keras

# A range below this is zero on all calibration images; TensorFlow stores twice this value for it.
LEAST_RANGE = 1e-6
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL")
POOLING = "MEAN"


def to_fp32(fused: FusedModel) -> bytes:
    """Return a float TFLite file: uint8 image in, float32 scores (1, C) out."""
    with quietly("conversion to fp32 TFLite"):
        return scores_first(_converter_of(with_uint8_input(fused)).convert())


def to_fp16(fused: FusedModel) -> bytes:
    """Return a TFLite file with 16-bit weights: uint8 image in, float32 scores (1, C) out, computed in float32.

    16-bit arithmetic is not used: only some boards have it, so scores there would differ from those measured here.
    """
    import tensorflow as tf

    with quietly("conversion to fp16 TFLite"):
        converter = _converter_of(with_uint8_input(fused))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
        return scores_first(converter.convert())


def to_int8(fused: FusedModel, calibration: NDArray[np.uint8], target: Target = ANY) -> bytes:
    """Return an int8 TFLite file: uint8 image in, float32 scores (1, C) out.

    The raw image is the quantized input: its scale is 1 and its zero point the padding gray. The last layer stays
    float: it takes a thousandth of the time, and 256 steps for its outputs would change scores by several percent. So
    does the average pooling before it: a mean over the pixels has a small part of their range, and its 256 steps gave
    half of the squared error of scores of 12 blocks with 224 pixels. For NPUs, which run integers only, scores are
    uint8.

    Args:
        fused: the network.
        calibration: uint8 (N, S, S, 1), 0..255: training images that activation ranges are measured on.
        target: what will run the file.

    Raises:
        ExportError: the target is an NPU, and it would not run the converted file.
    """
    import tensorflow as tf

    with quietly("conversion to int8 TFLite"):
        core = for_npu(fused).core if target.accelerator else fused.core
        converter = _converter_of(bounded(core))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image] for image in centered_inputs(calibration, fused.pad_gray))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter._experimental_disable_per_channel = target.per_tensor
        if not target.accelerator:
            return _quantize_all_but_the_end(converter, target.per_tensor)
        converter.inference_output_type = tf.uint8
        graph = bytes(converter.convert())
    check_mapping(graph, target)
    return graph


def _converter_of(network: keras.Model) -> Any:
    """Return TensorFlow's converter of a network.

    `TFLiteConverter.from_keras_model` writes a SavedModel that can also be trained: it traces the network seven times.
    """
    import tensorflow as tf

    (image,) = network.inputs
    serve = tf.function(
        lambda image: network(image, training=False),
        input_signature=[tf.TensorSpec(image.shape, image.dtype, name=image.name)],
    )
    weights = tf.Module()
    weights.all = [variable.value for variable in network.variables]
    return tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], weights)


def _quantize_all_but_the_end(converter: Any, per_tensor: bool) -> bytes:
    """Return the file with its last layer and softmax, and the average pooling before them, in float.

    TensorFlow's public way to exclude operators, QuantizationDebugger, writes files with float inputs; this is the
    function that it calls.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    converter._experimental_calibrate_only = True
    measured = _with_ranges(converter.convert())
    # Operators are named by their outputs.
    scores = [node.outputs[0].name for node in _float_end(read_tflite(measured))]
    written = mlir_quantize(
        measured,
        disable_per_channel=per_tensor,
        input_data_type=tf.uint8,
        output_data_type=tf.float32,
        denylisted_nodes=scores,
    )
    return scores_first(written)


def scores_first(written: bytes) -> bytes:
    """Return the file with its scores before its heat map, which TensorFlow orders as it likes."""
    graph = bytearray(written)
    outputs = read_tflite(written).outputs
    if len(outputs) == 2 and len(outputs[0].shape) == 4:
        start, _ = find_vector(written, next(find_tables(written, follow(written, 0), 8)), 8)
        graph[start : start + 8] = written[start + 4 : start + 8] + written[start : start + 4]
    return bytes(graph)


def _float_end(graph: Graph) -> list[Node]:
    """Return the operations that stay float, back from the scores.

    They end with the last layer with weights, or with the average pooling that it reads.
    """
    producers = {node.outputs[0].name: node for node in graph.nodes}
    # A heat map is an output of four dimensions.
    nodes = [producers[next(output.name for output in graph.outputs if len(output.shape) == 2)]]
    while nodes[-1].op not in WEIGHTED and nodes[-1].inputs[0].name in producers:
        nodes.append(producers[nodes[-1].inputs[0].name])
    before = producers.get(nodes[-1].inputs[0].name)
    return [*nodes, before] if before is not None and before.op == POOLING else nodes


def _with_ranges(measured: bytes) -> bytes:
    """Return a measured file in which a layer whose output is always zero has the range 0..1.

    A network with such a dead layer still has a valid file; without a range, its step is so small that LiteRT's XNNPACK
    refuses to load it.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(measured)
    ranges = [tensor.quantization for graph in model.subgraphs for tensor in graph.tensors if tensor.quantization]
    dead = [each for each in ranges if each.max is not None and max(-each.min[0], each.max[0]) < LEAST_RANGE]
    for each in dead:
        each.max = [1.0]
    return flatbuffer_utils.convert_object_to_bytearray(model) if dead else measured


def with_uint8_input(fused: FusedModel) -> keras.Model:
    """Return the fused network for the raw image: uint8 (1, S, S, 1) -> float32 scores (1, C)."""
    import keras

    image = keras.Input(fused.core.input.shape[1:], batch_size=1, dtype="uint8", name="image")
    centered = keras.ops.subtract(keras.ops.cast(image, "float32"), float(fused.pad_gray))
    return keras.Model(image, bounded(fused.core)(centered))
