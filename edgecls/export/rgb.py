"""Gives a network an RGB input, and its TFLite file the metadata with which MediaPipe loads it.

The gray value is a weighted sum of red, green and blue, so it becomes a part of the first layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import ConfigError
from edgecls.export.fuse import BLOCKS, FusedModel, space_to_depth
from edgecls.export.graph import Array, is_depthwise, is_understood
from edgecls.model_file.tflite import LABELS

if TYPE_CHECKING:
    import keras

# ITU-R 601, as Pillow's convert("L") has it, which rounds the sum to a whole number.
LUMA = (0.299, 0.587, 0.114)
CHANNELS = 3
METADATA_NAME = "TFLITE_METADATA"
# Of LiteRT's metadata_schema.fbs.
_IDENTIFIER = b"M001"
_PARSER_VERSION = "1.0.0"
_IMAGE_PROPERTIES, _RGB, _NORMALIZATION, _AXIS_LABELS = 2, 1, 1, 2


def to_rgb(fused: FusedModel) -> FusedModel:
    """Return the network for images (1, S, S, 3), each channel less the padding gray, with the scores of their gray.

    Raises:
        ConfigError: the first layer with weights cannot take the luma, as in some imported networks.
    """
    import keras

    core = fused.core
    first = next(layer for layer in core.layers if layer.weights)
    before = core.layers[1 : core.layers.index(first)]
    if core.input.shape[-1] != 1 or is_depthwise(first) or not is_understood(first) or not _only_move(before):
        raise ConfigError(
            f"the first layer of this network, {first.name!r}, cannot take RGB; export without --input rgb"
        )
    side = core.input.shape[1]

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        return space_to_depth(side) if layer.name == BLOCKS else type(layer).from_config(layer.get_config())

    image = keras.Input((*core.input.shape[1:3], CHANNELS), batch_size=1, dtype="float32", name="centered_image")
    network = keras.models.clone_model(core, input_tensors=image, clone_function=clone)
    for layer in network.layers[1:]:
        values = core.get_layer(layer.name).get_weights()
        if layer.name == first.name:
            values[0] = with_luma(values[0])
        layer.set_weights(values)
    return FusedModel(network, fused.pad_gray)


def with_luma(kernel: Array) -> Array:
    """Return a kernel (..., I, O) of gray pixels for RGB pixels, (..., 3 I, O); a pixel's channels lie together."""
    luma = np.tile(np.asarray(LUMA, kernel.dtype), kernel.shape[-2])
    return np.asarray(np.repeat(kernel, CHANNELS, -2) * luma[:, None])


def as_rgb(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return gray images (N, S, S, 1) as RGB ones (N, S, S, 3)."""
    return np.repeat(images, CHANNELS, -1)


def _only_move(layers: list[keras.layers.Layer]) -> bool:
    """Return whether layers only move pixels or add zeros, which mean the padding gray in every channel."""
    from keras import layers as kinds

    return all(layer.name == BLOCKS or isinstance(layer, (kinds.ZeroPadding2D, kinds.Flatten)) for layer in layers)


def add_metadata(graph: bytes) -> bytes:
    """Return a TFLite file with the metadata of LiteRT's image classifiers; the labels are the file labels.txt.

    The labels themselves are in the ZIP archive that `model_file.write` appends to every file.
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(graph))
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(build_metadata(), np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def build_metadata() -> bytes:
    """Return the metadata as a FlatBuffer: an RGB image of raw pixels in, one score for each line of labels.txt out."""
    import flatbuffers  # type: ignore[import-untyped]

    builder = flatbuffers.Builder()
    normalization = _table(builder, 2, {0: _floats(builder, [0.0]), 1: _floats(builder, [1.0])})
    unit = _table(builder, 2, {1: normalization}, {0: _NORMALIZATION})
    properties = _table(builder, 2, {}, {0: _RGB})
    content = _table(builder, 3, {1: properties}, {0: _IMAGE_PROPERTIES})
    ranges = _table(builder, 2, {0: _floats(builder, [255.0]), 1: _floats(builder, [0.0])})
    image = {0: _text(builder, "image"), 3: content, 4: _tables(builder, [unit]), 5: ranges}
    source = _tables(builder, [_table(builder, 7, image)])
    labels = _table(builder, 5, {0: _text(builder, LABELS)}, {2: _AXIS_LABELS})
    scores = {0: _text(builder, "probability"), 6: _tables(builder, [labels])}
    target = _tables(builder, [_table(builder, 7, scores)])
    subgraph = _tables(builder, [_table(builder, 10, {2: source, 3: target})])
    name, version = _text(builder, "edgecls image classifier"), _text(builder, _PARSER_VERSION)
    builder.Finish(_table(builder, 8, {0: name, 3: subgraph, 7: version}), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _table(builder: Any, slots: int, offsets: dict[int, int], enums: dict[int, int] | None = None) -> int:
    """Return a table of `slots` fields: `offsets` of other objects and `enums` of one byte, by slot."""
    builder.StartObject(slots)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, value in (enums or {}).items():
        builder.PrependUint8Slot(slot, value, 0)
    return int(builder.EndObject())


def _tables(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _floats(builder: Any, values: list[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return int(builder.EndVector())


def _text(builder: Any, text: str) -> int:
    return int(builder.CreateString(text))
