"""The forward pass of a frozen network in the fastest engine: Keras or, if it is installed, OpenVINO.

A `Forward` can be pickled: it contains the network's files, which the other process opens in the same engine.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import ExportError
from edgecls.images.memmap import chunks
from edgecls.output_capture import quietly
from edgecls.parallel.pool import current_pool
from edgecls.training.distributed.threads import limit_tensorflow

if TYPE_CHECKING:
    import keras

# Enough for two cores; larger batches were not faster and need memory.
BATCH_SIZE = 32
# For fewer images, converting the network takes longer than it saves.
WORTH_CONVERTING = 1000
# Largest accepted difference from Keras' features (relative): on MobileNetV2, bfloat16 differs by 0.08 and int8 by
# more, float32 in another order by 1e-5.
MOST_DIFFERENCE = 1e-3
TIMED_BATCHES = 3

Run = Callable[[NDArray[Any]], NDArray[np.float32]]
Pack = Callable[[], "Packed"]


@dataclass(frozen=True)
class Packed:
    """A network for another process."""

    engine: str  # "keras" or "openvino"
    sha256: str  # of the files
    threads: int | None  # number for the engine; None is the engine's default
    files: tuple[bytes, ...] = field(repr=False, compare=False)  # in the engine's format


@dataclass(frozen=True)
class Forward:
    """A network ready to run."""

    engine: str  # "keras" or "openvino"
    why: str  # why it was chosen
    # Takes exactly BATCH_SIZE images, uint8 (BATCH_SIZE, S, S, 1), or features of them, and returns float32
    # (BATCH_SIZE, ...).
    run: Run
    pack: Pack | None = None  # returns the network for another process; None if `run` can be pickled

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what pickle stores."""
        if self.pack is None:
            return Forward, (self.engine, self.why, self.run)
        return _unpack, (self.why, self.pack())

    def __call__(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Return the outputs, float32 (N, ...), of at most BATCH_SIZE images, uint8 (N, S, S, 1), or features."""
        # One shape for every batch: nothing is compiled twice, and no row depends on the size of its batch.
        padded = np.zeros((BATCH_SIZE, *inputs.shape[1:]), inputs.dtype)
        padded[: len(inputs)] = inputs
        return self.run(padded)[: len(inputs)]


def fastest_forward(model: keras.Model, sample: NDArray[Any], images: int) -> Forward:
    """Return `model` in the engine that is fastest on this machine, measured on `sample`.

    Args:
        model: takes uint8 images, or features of them, and has one output.
        sample: inputs, (N, ...); the engines must agree on the first ones.
        images: number of images to run; for few, Keras is used without a measurement.
    """
    import tensorflow as tf

    keras_forward = _keras_forward(model)
    in_keras = functools.partial(Forward, "keras", run=keras_forward, pack=functools.partial(_pack_keras, model))
    if images < WORTH_CONVERTING:
        return in_keras(f"{images} images are too few to convert the network for")
    if tf.config.list_physical_devices("GPU"):
        return in_keras("TensorFlow has a GPU")
    if find_spec("openvino") is None:
        return in_keras("OpenVINO is not installed")
    try:
        network = _to_openvino(model)
        openvino_forward = _openvino_forward(network)
    except ExportError as error:
        return in_keras(f"OpenVINO cannot run this network ({error})")
    batch = np.resize(sample[:BATCH_SIZE], (BATCH_SIZE, *sample.shape[1:]))
    expected, keras_s = _time(keras_forward, batch)
    received, openvino_s = _time(openvino_forward, batch)
    difference = float(np.abs(received - expected).max() / max(1e-6, np.abs(expected).max()))
    measured = f"OpenVINO took {openvino_s / keras_s:.2f} of Keras' time, outputs differ by {difference:.1e}"
    if openvino_s < keras_s and difference <= MOST_DIFFERENCE:
        return Forward("openvino", measured, openvino_forward, functools.partial(_pack_openvino, network))
    return in_keras(measured)


def run_all(
    forward: Forward, images: NDArray[np.uint8], progress: Callable[[int, int], None] | None = None
) -> NDArray[np.float32]:
    """Return the outputs, float32 (N, ...), of all images, uint8 (N, S, S, 1), 0..255."""
    outputs, done = [], 0
    for chunk in chunks(images):
        for start in range(0, len(chunk), BATCH_SIZE):
            outputs.append(forward(chunk[start : start + BATCH_SIZE]))
            done += len(outputs[-1])
            if progress:
                progress(done, len(images))
    return np.concatenate(outputs)


def _keras_forward(model: keras.Model) -> Run:
    import tensorflow as tf

    dtype = model.input.dtype
    signature = [tf.TensorSpec((BATCH_SIZE, *model.input.shape[1:]), dtype)]
    traced = tf.function(lambda batch: model(batch, training=False), input_signature=signature)
    return lambda batch: np.asarray(traced(tf.constant(batch.astype(dtype, copy=False))).numpy(), np.float32)


def _to_openvino(model: keras.Model) -> Any:
    with quietly("converting the frozen network to OpenVINO"):
        import openvino

        converted = openvino.convert_model(model)
        converted.reshape([BATCH_SIZE, *model.input.shape[1:]])
        return converted


def _openvino_forward(network: Any, threads: int | None = None) -> Run:
    with quietly("compiling the frozen network in OpenVINO"):
        import openvino

        # "LATENCY" uses all cores for one batch. bfloat16, the default on some CPUs, would change the features.
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = openvino.Core().compile_model(network, "CPU", settings)
    dtype = compiled.input(0).get_element_type().to_dtype()
    return lambda batch: np.array(compiled(batch.astype(dtype, copy=False))[0], np.float32)


def _pack_keras(model: keras.Model) -> Packed:
    with tempfile.TemporaryDirectory() as folder:
        model.save(path := Path(folder, "network.keras"))
        return _to_packed("keras", path.read_bytes())


def _pack_openvino(network: Any) -> Packed:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "network.xml"), Path(folder, "network.bin")
        openvino.serialize(network, *paths)
        return _to_packed("openvino", *(path.read_bytes() for path in paths))


def _to_packed(engine: str, *files: bytes) -> Packed:
    # Of the pool, because a machine may run several workers.
    return Packed(engine, hashlib.sha256(b"".join(files)).hexdigest(), current_pool().threads, files)


def _unpack(why: str, packed: Packed) -> Forward:
    return Forward(packed.engine, why, _open(packed), lambda: packed)


@functools.lru_cache(maxsize=1)
def _open(packed: Packed) -> Run:
    """Return the network, which is opened once for all batches of a process."""
    if packed.engine == "openvino":
        import openvino

        return _openvino_forward(openvino.Core().read_model(*packed.files), packed.threads)
    with quietly("opening the frozen network"), tempfile.TemporaryDirectory() as folder:
        import keras

        if packed.threads:
            limit_tensorflow(packed.threads)
        path = Path(folder, "network.keras")
        path.write_bytes(packed.files[0])
        return _keras_forward(keras.saving.load_model(path, compile=False))


def _time(run: Run, batch: NDArray[Any]) -> tuple[NDArray[np.float32], float]:
    """Return (outputs, seconds of the fastest of a few batches) after one batch that may compile."""
    outputs = run(batch)
    seconds = []
    for _ in range(TIMED_BATCHES):
        began = time.perf_counter()
        run(batch)
        seconds.append(time.perf_counter() - began)
    return outputs, min(seconds)
