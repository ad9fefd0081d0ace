"""What gpu.py measures: an exported fp32 ONNX graph with a batch, in 16 bits, in 8 bits; and sessions that run it."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.runtime.cuda_graph import OPTIONS as RECORDED
from edgecls.runtime.ort import PROVIDERS, with_options

if TYPE_CHECKING:
    import onnx

CALIBRATION_IMAGES = 8
# TensorRT's own names for what it may compute in.
TENSORRT_OPTIONS = {"fp32": {}, "fp16": {"trt_fp16_enable": True}, "int8": {"trt_int8_enable": True}}


def providers() -> list[str]:
    """Return the providers that onnxruntime was built with; none if it is not installed."""
    if find_spec("onnxruntime") is None:
        return []
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def with_batch(graph: bytes, batch: int) -> bytes:
    """Return the graph with so many images in and scores out; edgecls writes it for one."""
    import onnx
    from onnx import numpy_helper

    proto = onnx.load_from_string(graph)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    # Nothing else in these graphs knows of the batch: the image's shape, and the row of features before a head.
    shapes = {node.input[1] for node in proto.graph.node if node.op_type == "Reshape"}
    for tensor in proto.graph.initializer:
        shape = numpy_helper.to_array(tensor).copy()
        if tensor.name in shapes and shape[0] == 1:
            shape[0] = batch
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
    del proto.graph.value_info[:]
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def to_fp16(graph: bytes) -> bytes:
    """Return the graph computing in 16 bits; uint8 images in, float32 scores out as before."""
    import onnx
    from onnxruntime.transformers import float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    # At this opset the image's DequantizeLinear gives float32 only.
    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, "DequantizeLinear"]
    proto = onnx.load_from_string(graph)
    half = OnnxModel(float16.convert_float_to_float16(proto, keep_io_types=True, op_block_list=blocked))
    half.topological_sort()
    return bytes(half.model.SerializeToString())


def to_int8(graph: bytes) -> bytes:
    """Return the graph in QDQ form by TensorRT's rules: symmetric int8, weights per channel, biases left in float."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    proto = onnx.load_from_string(graph)
    with tempfile.TemporaryDirectory() as folder:
        source, written = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(proto, source)
        quantize_static(
            source,
            written,
            _RandomImages(proto),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Gemm", "Add", "GlobalAveragePool"],
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
        )
        return written.read_bytes()


BUILD: dict[str, Callable[[bytes], bytes]] = {"fp32": lambda graph: graph, "fp16": to_fp16, "int8": to_int8}


class _RandomImages:
    """Feeds random images to onnxruntime's quantizer, one by one, as its CalibrationDataReader asks."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        (source,) = proto.graph.input
        shape = [dim.dim_value for dim in source.type.tensor_type.shape.dim]
        random = np.random.default_rng(0)
        self._feeds = ({source.name: random.integers(0, 256, shape, np.uint8)} for _ in range(CALIBRATION_IMAGES))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._feeds, None)


def open_session(graph: Path, device: str, profile: Path | None = None, recorded: bool = False) -> Any:
    """Return onnxruntime's session of a file called PRECISION-BATCH.onnx.

    Args:
        graph: the file.
        device: a name in `ort.PROVIDERS`.
        profile: where it writes what ran where, when the profiling ends.
        recorded: whether CUDA records its launches and replays them.
    """
    import onnxruntime

    if device != "cpu":
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    asked = with_options(PROVIDERS[device], RECORDED if recorded else None)
    if device == "tensorrt":
        asked[0] = (asked[0], TENSORRT_OPTIONS[graph.stem.split("-")[0]])
    return onnxruntime.InferenceSession(graph, options, providers=asked)


def count_nodes(graph: Path, device: str, images: NDArray[np.uint8]) -> dict[str, int]:
    """Return how many nodes ran on each provider: onnxruntime leaves to the CPU what a GPU's provider cannot run."""
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(graph, device, Path(folder) / "profile")
        session.run(None, {session.get_inputs()[0].name: images})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = (event["args"]["provider"] for event in events if event.get("args", {}).get("provider"))
    return dict(Counter(ran))
