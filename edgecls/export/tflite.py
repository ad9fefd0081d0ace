"""TFLite files from the fused network. Input: the gray image itself, uint8 (1, S, S, 1), 0..255."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.targets import ANY, Target
from edgecls.export.calibration import with_full_range
from edgecls.export.edge_tpu import check_mapping, for_edge_tpu
from edgecls.export.fuse import FusedModel
from edgecls.model_file.tflite import read_tflite
from edgecls.output_capture import quietly

if TYPE_CHECKING:
    import keras

# What no calibration image lifts above is zero; TensorFlow makes a range of twice this of it.
LEAST_RANGE = 1e-6


def to_fp32(fused: FusedModel) -> bytes:
    """Return a float TFLite file: uint8 image in, float32 scores (1, C) out."""
    import tensorflow as tf

    with quietly("conversion to fp32 TFLite"):
        return bytes(tf.lite.TFLiteConverter.from_keras_model(with_uint8_input(fused)).convert())


def to_fp16(fused: FusedModel) -> bytes:
    """Return a TFLite file with weights of 16 bits: uint8 image in, float32 scores (1, C) out, computed in float32.

    Arithmetic of 16 bits is not asked for: only some boards have it, so the file would compute otherwise there than
    where it was scored.
    """
    import tensorflow as tf

    with quietly("conversion to fp16 TFLite"):
        converter = tf.lite.TFLiteConverter.from_keras_model(with_uint8_input(fused))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
        return bytes(converter.convert())


def to_int8(fused: FusedModel, calibration: NDArray[np.uint8], target: Target = ANY) -> bytes:
    """Return an int8 TFLite file: uint8 image in, float32 scores (1, C) out.

    The image needs no arithmetic on its way in: the input's quantization (scale 1, zero point the padding gray) says
    what a pixel means. The last layer stays float: it takes a thousandth of the time, and 256 steps over the range of
    its outputs move scores by percents. For the Edge TPU, which runs integers alone, scores are uint8.

    Args:
        fused: the network.
        calibration: uint8 (N, S, S, 1), 0..255: training images that activation ranges are measured on.
        target: what will run the file.

    Raises:
        ExportError: the target is the Edge TPU, and it would not run what the converter wrote.
    """
    import tensorflow as tf

    def samples() -> Iterator[list[NDArray[np.float32]]]:
        for image in with_full_range(calibration):
            yield [image[None].astype(np.float32) - fused.pad_gray]

    with quietly("conversion to int8 TFLite"):
        core = for_edge_tpu(fused).core if target.edge_tpu else fused.core
        converter = tf.lite.TFLiteConverter.from_keras_model(core)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        if not target.edge_tpu:
            return _quantize_but_the_last_layer(converter)
        converter.inference_output_type = tf.uint8
        graph = bytes(converter.convert())
    check_mapping(graph)
    return graph


def _quantize_but_the_last_layer(converter: Any) -> bytes:
    """Return the file, its last layer and softmax in float.

    TensorFlow offers the choice of operators in its QuantizationDebugger, whose files take floats; this is what it
    calls underneath.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    converter._experimental_calibrate_only = True
    measured = _with_ranges(converter.convert())
    # Operators go by the names of what they make.
    scores = [node.outputs[0].name for node in read_tflite(measured).nodes[-2:]]
    written = mlir_quantize(measured, input_data_type=tf.uint8, output_data_type=tf.float32, denylisted_nodes=scores)
    return bytes(written)


def _with_ranges(measured: bytes) -> bytes:
    """Return a measured file in which a layer that gave nothing but zeros has a range all the same: 0..1.

    A network whose layer died in training answers the same to every image, and its file should too: a step of next to
    nothing, which the range of nothing would make, is one that LiteRT's XNNPACK refuses to load.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(measured)
    ranges = [tensor.quantization for graph in model.subgraphs for tensor in graph.tensors if tensor.quantization]
    dead = [each for each in ranges if each.max is not None and max(-each.min[0], each.max[0]) < LEAST_RANGE]
    for each in dead:
        each.max = [1.0]
    return flatbuffer_utils.convert_object_to_bytearray(model) if dead else measured


def with_uint8_input(fused: FusedModel) -> keras.Model:
    """Return the fused network with the raw image as input: uint8 (1, S, S, 1) -> float32 scores (1, C)."""
    import keras

    image = keras.Input(fused.core.input.shape[1:], batch_size=1, dtype="uint8", name="image")
    centred = keras.ops.subtract(keras.ops.cast(image, "float32"), float(fused.pad_gray))
    return keras.Model(image, fused.core(centred))
