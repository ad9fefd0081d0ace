"""Stock exports of a run's Keras model: each tool's own documented recipe, nothing of edgecls in it.

What our files are held against. The network is the one that was trained, unfused, with its scaling layers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.output_capture import quietly

OPSET = 17
Images = NDArray[np.uint8]


def tflite_fp32(model: Any) -> bytes:
    """Return what TFLiteConverter makes of the model without options."""
    import tensorflow as tf

    with quietly("stock TFLite"):
        return bytes(tf.lite.TFLiteConverter.from_keras_model(_fixed_batch(model)).convert())


def tflite_int8(model: Any, calibration: Images) -> bytes:
    """Return TensorFlow's documented full-integer post-training quantization: uint8 in and out.

    Source: https://ai.google.dev/edge/litert/models/post_training_quantization, "Full integer quantization".
    """
    import tensorflow as tf

    def samples() -> Iterator[list[NDArray[np.float32]]]:
        for image in calibration:
            yield [image[None].astype(np.float32)]

    with quietly("stock int8 TFLite"):
        converter = tf.lite.TFLiteConverter.from_keras_model(_fixed_batch(model, "float32"))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.uint8
        return bytes(converter.convert())


def onnx_fp32(model: Any) -> bytes:
    """Return what tf2onnx makes of the model, fixed batch of 1, raw image as float32 input."""
    import tensorflow as tf
    import tf2onnx

    signature = tf.TensorSpec((1, *model.input.shape[1:]), tf.float32, name="image")
    with quietly("stock ONNX"):
        forward = tf.function(lambda image: model(image, training=False), input_signature=[signature])
        proto, _ = tf2onnx.convert.from_function(forward, input_signature=[signature], opset=OPSET)
        return bytes(proto.SerializeToString())


def onnx_int8(float_file: bytes, calibration: Images) -> bytes:
    """Return onnxruntime's documented static quantization: quant_pre_process, then QDQ, U8S8, per channel, MinMax.

    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "Static quantization".
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = iter([{"image": image[None].astype(np.float32)} for image in calibration])

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(self.feeds, None)

    with quietly("stock int8 ONNX"), tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder) / name for name in ("float.onnx", "prepared.onnx", "int8.onnx"))
        source.write_bytes(float_file)
        # Shapes are all fixed: the symbolic inference, which needs sympy, has nothing to find.
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return target.read_bytes()


def nncf_int8(float_file: bytes, calibration: Images) -> bytes | None:
    """Return nncf's post-training quantization with full bias correction, or None where nncf is not installed.

    Source: https://docs.openvino.ai, "Basic quantization flow", fast_bias_correction=False.
    """
    try:
        import nncf
    except ImportError:
        return None
    import onnx

    with quietly("nncf"):
        dataset = nncf.Dataset([{"image": image[None].astype(np.float32)} for image in calibration])
        quantized = nncf.quantize(
            onnx.load_from_string(float_file),
            dataset,
            subset_size=len(calibration),
            fast_bias_correction=False,
        )
        return bytes(quantized.SerializeToString())


def _fixed_batch(model: Any, dtype: str | None = None) -> Any:
    import keras

    image = keras.Input(model.input.shape[1:], batch_size=1, dtype=dtype or model.input.dtype)
    return keras.Model(image, model(image))


def litert_runner(file: bytes, threads: int) -> Callable[[Images], NDArray[np.float32]]:
    """Return a function from an image uint8 (1, S, S, 1) to scores float32 (C,), through LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    with quietly("LiteRT"):
        interpreter = Interpreter(model_content=file, num_threads=threads)
        interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = target["quantization"]

    def run(image: Images) -> NDArray[np.float32]:
        interpreter.set_tensor(source["index"], image.astype(source["dtype"], copy=False))
        interpreter.invoke()
        scores = interpreter.get_tensor(target["index"])[0]
        return np.asarray((scores.astype(np.float32) - zero_point) * scale if scale else scores)

    return run


def ort_runner(file: bytes, threads: int) -> Callable[[Images], NDArray[np.float32]]:
    """Return a function from an image uint8 (1, S, S, 1) to scores float32 (C,), through ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    dtype = np.float32 if "float" in source.type else np.uint8

    def run(image: Images) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {source.name: image.astype(dtype, copy=False)})[0][0])

    return run


def openvino_runner(file: bytes, threads: int) -> Callable[[Images], NDArray[np.float32]]:
    """Return a function from an image uint8 (1, S, S, 1) to scores float32 (C,), through OpenVINO."""
    import openvino

    core = openvino.Core()
    # Its default on CPUs with bfloat16 would round float files; both sides are to be compared as they were written.
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"} | precise
    compiled = core.compile_model(core.read_model(file), "CPU", settings)
    request = compiled.create_infer_request()
    dtype = (
        np.float32
        if "f32" in str(compiled.input(0).element_type) or "float" in str(compiled.input(0).element_type)
        else np.uint8
    )

    def run(image: Images) -> NDArray[np.float32]:
        result = request.infer({0: image.astype(dtype, copy=False)}, share_inputs=True)
        return np.asarray(next(iter(result.values()))[0])

    return run
