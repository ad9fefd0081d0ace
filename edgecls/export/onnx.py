"""ONNX files from the fused network. Input: the gray image itself, uint8 (1, S, S, 1), 0..255."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.targets import ANY, Target
from edgecls.errors import ExportError
from edgecls.export.calibration import centered_inputs
from edgecls.export.fuse import BLOCKS, FusedModel
from edgecls.export.onnx_fixes import add_features, drop_unused, merge_pads, name_by_place, write_erfc
from edgecls.output_capture import quietly

if TYPE_CHECKING:
    import keras
    import onnx

# Opset 17 is the oldest that holds all we need (QDQ per channel since 13); every onnxruntime since 1.12 reads it.
OPSET = 17
INPUT = "image"
WEIGHTED = ("Conv", "Gemm", "MatMul")
POOLING = "GlobalAveragePool"
# Nodes that only change how the image is stored.
_STORAGE = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "SpaceToDepth", "QuantizeLinear", "DequantizeLinear")


def to_fp32(fused: FusedModel) -> bytes:
    """Return a float ONNX file: uint8 image in, float32 scores (1, C) out."""
    with quietly("conversion to fp32 ONNX"):
        proto = _convert(fused.core)
        _accept_uint8(proto, fused)
        return bytes(proto.SerializeToString())


def to_fp16(fused: FusedModel) -> bytes:
    """Return an ONNX file with 16-bit weights: uint8 image in, float32 scores (1, C) out, computed in float32.

    A Cast widens each weight; onnxruntime does that once, on loading. 16-bit arithmetic, as
    onnxruntime.transformers.float16 writes it, took 1.3 times as long on an x86 CPU, which has no kernels for it.
    """
    with quietly("conversion to fp16 ONNX"):
        import onnx

        proto = _convert(fused.core)
        _accept_uint8(proto, fused)
        _halve_weights(proto.graph)
        onnx.checker.check_model(proto, full_check=True)
        return bytes(proto.SerializeToString())


def to_int8(fused: FusedModel, calibration: NDArray[np.uint8], target: Target = ANY) -> bytes:
    """Return an int8 ONNX file in QDQ form: uint8 image in, float32 scores (1, C) out.

    Weights are int8 per channel; the target decides their bits and the activations' type. The last layer stays float:
    it takes a thousandth of the time, and 256 steps for its outputs would change scores by several percent. So does the
    average pooling before it, as in `tflite.to_int8`.

    Args:
        fused: the network.
        calibration: uint8 (N, S, S, 1), 0..255: training images that activation ranges are measured on.
        target: what will run the file.
    """
    with quietly("quantization to int8 ONNX"), tempfile.TemporaryDirectory() as folder:
        import onnx
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        source, written = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        proto = _convert(fused.core)
        onnx.save(proto, source)
        quantize_static(
            source,
            written,
            _Images(fused, calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=not target.per_tensor,
            activation_type=QuantType.QInt8 if target.onnx_activations == "int8" else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=target.weight_bits < 8,
            nodes_to_exclude=_float_end(proto.graph),
        )
        quantized = onnx.load(written)
        _accept_uint8(quantized, fused)
        onnx.checker.check_model(quantized, full_check=True)
        return bytes(quantized.SerializeToString())


def to_float_nchw(fused: FusedModel) -> bytes:
    """Return the network as other vendors' tools take it: centered image float32 (1, 1, S, S) in, scores (1, C) out."""
    with quietly("conversion to ONNX"):
        import onnx

        proto = _convert(fused.core, nchw=True)
        onnx.checker.check_model(proto, full_check=True)
        return bytes(proto.SerializeToString())


def _float_end(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the nodes that stay float, back from the scores, the graph's first output.

    They end with the last layer with weights, or with the average pooling that it reads.
    """
    producers = {node.output[0]: node for node in graph.node}
    nodes = [producers[graph.output[0].name]]
    while nodes[-1].op_type not in WEIGHTED and nodes[-1].input[0] in producers:
        nodes.append(producers[nodes[-1].input[0]])
    pooling, between = producers.get(nodes[-1].input[0]), []
    while pooling is not None and pooling.op_type in _STORAGE:
        between.append(pooling)
        pooling = producers.get(pooling.input[0])
    if pooling is not None and pooling.op_type == POOLING:
        nodes += [*between, pooling]
    return [node.name for node in nodes]


class _Images:
    """Gives onnxruntime's quantizer one calibration image at a time, as a CalibrationDataReader does."""

    def __init__(self, fused: FusedModel, images: NDArray[np.uint8]) -> None:
        self._images = centered_inputs(images, fused.pad_gray)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return {INPUT: image} if (image := next(self._images, None)) is not None else None


def _convert(core: keras.Model, *, nchw: bool = False) -> onnx.ModelProto:
    import tensorflow as tf
    import tf2onnx

    signature = tf.TensorSpec(core.input.shape, tf.float32, name=INPUT)
    forward = tf.function(lambda image: core(image, training=False), input_signature=[signature])
    inputs = [INPUT] if nchw else None
    handlers: dict[str, Any] = {"Erfc": (write_erfc, [])}
    proto, _ = tf2onnx.convert.from_function(
        forward, input_signature=[signature], opset=OPSET, inputs_as_nchw=inputs, custom_op_handlers=handlers
    )
    add_features(proto.graph)
    merge_pads(proto.graph)
    name_by_place(proto.graph)
    return proto


def _accept_uint8(proto: onnx.ModelProto, fused: FusedModel) -> None:
    """Make the raw image the graph's input and replace all nodes before the first layer with weights.

    If that layer does not read the image itself, as in some imported networks, all nodes stay and read the centered
    image. One DequantizeLinear centers the image, also in float files: onnxruntime took 0.02 ms for it, and 0.8 ms for
    Cast and Sub.

    Raises:
        ExportError: a quantizer chose another step than one gray value, so a raw pixel would have another meaning.
    """
    from onnx import TensorProto

    graph = proto.graph
    stem = next((node for node in graph.node if node.op_type in WEIGHTED), None)
    producers = {node.output[0]: node for node in graph.node}
    graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    if stem is None or not _reads_image(graph, stem, producers):
        return _center_image(graph, float(fused.pad_gray))
    quantized = _check_input_step(graph, producers.get(stem.input[0]), fused.pad_gray)
    while (node := producers.get(stem.input[0])) is not None:
        stem.input[0] = node.input[0]
        graph.node.remove(node)
    nodes = _front(graph, fused, quantized, flat=stem.op_type != "Conv")
    stem.input[0] = nodes[-1].output[0]
    for position, node in enumerate(nodes):
        graph.node.insert(position, node)
    drop_unused(graph)


def _reads_image(graph: onnx.GraphProto, node: onnx.NodeProto, producers: dict[str, onnx.NodeProto]) -> bool:
    """Return True if only nodes of `_STORAGE`, which nothing else reads, lie between the image and a node."""
    readers = Counter(name for each in graph.node for name in each.input)
    value = node.input[0]
    while value in producers and producers[value].op_type in _STORAGE and readers[value] == 1:
        value = producers[value].input[0]
    return value == INPUT and readers[value] == 1


def _center_image(graph: onnx.GraphProto, pad_gray: float) -> None:
    """Let all nodes that read the image read it centered, in its own shape."""
    nodes = _centering(graph, pad_gray, INPUT)
    for node in graph.node:
        node.input[:] = [nodes[-1].output[0] if name == INPUT else name for name in node.input]
    for position, node in enumerate(nodes):
        graph.node.insert(position, node)
    del graph.value_info[:]


def _centering(graph: onnx.GraphProto, pad_gray: float, source: str) -> list[onnx.NodeProto]:
    """Return the nodes from the pixels `source` to "centered_image", and add their constants to the graph."""
    from onnx import TensorProto, helper, numpy_helper

    constants: dict[str, Any]
    if pad_gray.is_integer():
        constants = {"image_scale": np.array(1, np.float32), "image_zero_point": np.array(pad_gray, np.uint8)}
        nodes = [helper.make_node("DequantizeLinear", [source, *constants], ["centered_image"])]
    else:
        constants = {"image_zero_point": np.array(pad_gray, np.float32)}
        nodes = [
            helper.make_node("Cast", [source], ["float_image"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["float_image", *constants], ["centered_image"]),
        ]
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return nodes


def _front(graph: onnx.GraphProto, fused: FusedModel, quantized: str, flat: bool) -> list[onnx.NodeProto]:
    """Return the nodes from the raw image to the centered one, or to its pixels in a row for a dense layer (`flat`).

    `quantized` is the type of the stem's input: "uint8", "int8", or "" for floats.
    """
    from onnx import helper, numpy_helper

    _, height, width, _ = fused.core.input.shape
    constants = {
        "image_shape": np.array([1, height * width] if flat else [1, 1, height, width], np.int64),
        "stem_zero_point": np.array(round(fused.pad_gray), np.uint8),
    }
    if quantized == "int8":
        constants["stem_zero_point"] = np.array(round(fused.pad_gray) - 128, np.int8)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    nodes = [helper.make_node("Reshape", [INPUT, "image_shape"], ["shaped_image"])]
    nodes += _centering(graph, float(fused.pad_gray), nodes[0].output[0])

    def then(kind: str, name: str, *inputs: str, **attributes: int) -> None:
        nodes.append(helper.make_node(kind, [nodes[-1].output[0], *inputs], [name], **attributes))

    in_blocks = BLOCKS in [layer.name for layer in fused.core.layers]
    if in_blocks:
        # On floats: onnxruntime has it for uint8 since 1.28 only, and Python 3.10 ends with 1.23. It costs 0.003 ms.
        then("SpaceToDepth", "image_blocks", blocksize=2)
    # Quantized kernels are chosen by what lies directly before them.
    if quantized == "int8" or (quantized and in_blocks):
        then("QuantizeLinear", "stem_image", "image_scale", "stem_zero_point")
        then("DequantizeLinear", "centered_stem_image", "image_scale", "stem_zero_point")
    return nodes


def _check_input_step(graph: onnx.GraphProto, producer: onnx.NodeProto | None, pad_gray: float) -> str:
    """Return the type of the stem's input, "uint8", "int8" or "" for floats; check that a step is one gray value."""
    from onnx import numpy_helper

    if producer is None or producer.op_type != "DequantizeLinear":
        return ""
    constants: dict[str, Any] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    scale, zero_point = constants[producer.input[1]], constants[producer.input[2]]
    expected = pad_gray - 128 if zero_point.dtype == np.int8 else pad_gray
    if abs(float(scale) - 1) > 1e-6 or int(zero_point) != expected:
        raise ExportError(f"the input's quantization is {scale}, {zero_point}; expected 1, {expected}")
    return str(zero_point.dtype)


def _halve_weights(graph: onnx.GraphProto) -> None:
    """Store each kernel in 16 bits; biases are few and stay float32."""
    from onnx import TensorProto, helper, numpy_helper

    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        name = tensor.name
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}_half")
        tensor.CopyFrom(half)
        graph.node.insert(0, helper.make_node("Cast", [half.name], [name], to=TensorProto.FLOAT))
