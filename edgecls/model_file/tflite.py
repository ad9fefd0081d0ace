"""Reads a TFLite file as far as the rules need: a FlatBuffer of the schema in LiteRT's schema.fbs.

Not every light install has a schema module (tflite_runtime and onnxruntime have none), so the slots are here.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator

from edgecls.errors import ModelFileError
from edgecls.model_file.graph import AGAIN, ENDLESS, IN_ANOTHER_FILE, MAX_METADATA_BYTES, Graph, Node, Tensor

# The files in the ZIP that follows the graph.
JSON, LABELS = "model.json", "labels.txt"
# In the order of the schema's BuiltinOperator: the position is the code.
BUILTINS = tuple(
    """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR
FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM
MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS
SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND
SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN
EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2
GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG
SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT
UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU
SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE
MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5
SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO
RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE
RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX
UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD
STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE
STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS
STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE
STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH
STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE
STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE
STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE
STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
""".split()
)
CUSTOM = 32
DTYPES = (
    "float32 float16 int32 uint8 int64 string bool int16 complex64 int8 float64 complex128 uint64 resource variant "
    "uint32 uint16 int4 bfloat16 int2 uint4 float8_e4m3fn float8_e5m2"
).split()
# Slots of the options that rules ask for, with the bytes of each and the schema's default.
_POOL = {"activation": (14, 1, 0)}
OPTIONS: dict[str, dict[str, tuple[int, int, int]]] = {
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "CONCATENATION": {"activation": (6, 1, 0)},
    "CONV_2D": {"dilation_w": (12, 4, 1), "dilation_h": (14, 4, 1)},
    "DEPTHWISE_CONV_2D": {"dilation_w": (14, 4, 1), "dilation_h": (16, 4, 1)},
    "FULLY_CONNECTED": {"weights_format": (6, 1, 0), "keep_num_dims": (8, 1, 0)},
}
# Of the model: groups of external buffers, and the buffers.
_EXTERNAL = (20, 22)
# Scale and zero point.
Quantization = tuple[float, int]
_NUMBERS = {1: "<b", 2: "<H", 4: "<i"}


def split_tflite(data: bytes) -> tuple[bytes, bytes | None, bytes | None]:
    """Return the graph without the metadata, their JSON and the labels; None if there are none.

    Raises:
        ModelFileError: damaged.
    """
    if not _ends_as_ours(data):
        return data, None, None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            # Any other ZIP is TFLite's own metadata, and a part of the graph.
            if sorted(member.filename for member in members) != [LABELS, JSON]:
                return data, None, None
            for member in members:
                if member.compress_type != zipfile.ZIP_STORED or member.file_size > MAX_METADATA_BYTES:
                    raise zipfile.BadZipFile(f"{member.filename} is packed or too large")
            start = min(member.header_offset for member in members)
            return data[:start], archive.read(JSON), archive.read(LABELS)
    except (zipfile.BadZipFile, RuntimeError, OSError, EOFError, ValueError) as error:
        raise ModelFileError(f"damaged: the ZIP of the metadata cannot be read ({error}); {AGAIN}") from error


def _ends_as_ours(data: bytes) -> bool:
    # zipfile would read a directory of millions of members for minutes, and ZIP64 overrides what `end` says.
    end = data[-22:]
    directory_bytes = int.from_bytes(end[12:16], "little")
    return end[:4] == b"PK\5\6" and end[8:12] == b"\2\0\2\0" and directory_bytes < 1000 and data[-42:-38] != b"PK\6\7"


def read_tflite(data: bytes) -> Graph:
    """Return the main graph of a TFLite file.

    Raises:
        ModelFileError: damaged.
    """
    try:
        return _read_model(data)
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise ModelFileError(f"damaged: the TFLite graph cannot be read ({error}); {AGAIN}") from error


def check_tflite(data: bytes) -> tuple[Quantization, Quantization]:
    """Return how a graph's input and output are quantized; scale 0 if they are not.

    Raises:
        ModelFileError: damaged, or not to be given to an interpreter: not whole in its file, or without end.
    """
    try:
        model = follow(data, 0)
        graphs = list(find_tables(data, model, 8))
        if any(find_vector(data, model, slot)[1] for slot in _EXTERNAL):
            raise ModelFileError(f"the graph {IN_ANOTHER_FILE}")
        if len(graphs) > 1:
            raise ModelFileError(f"the graph {ENDLESS}")
        tensors = list(find_tables(data, graphs[0], 4))
        source, target = (_quantization(data, tensors[read_ints(data, graphs[0], slot)[0]]) for slot in (6, 8))
    except (struct.error, IndexError, OverflowError) as error:
        raise ModelFileError(f"damaged: the TFLite graph cannot be read ({error}); {AGAIN}") from error
    return source, target


def _quantization(data: bytes, tensor: int) -> Quantization:
    field = find_field(data, tensor, 12)
    table = follow(data, field) if field else 0
    (scales, length), (zeros, zero_points) = (find_vector(data, table, slot) if table else (0, 0) for slot in (8, 10))
    scale = struct.unpack_from("<f", data, scales)[0] if length else 0.0
    return scale, struct.unpack_from("<q", data, zeros)[0] if zero_points else 0


def _read_model(data: bytes) -> Graph:
    model = follow(data, 0)
    buffers = [_bytes(data, buffer, 4) for buffer in find_tables(data, model, 12)]
    codes = [_operation(data, code) for code in find_tables(data, model, 6)]
    # Files of edgecls have one graph; others are bodies of loops and conditions.
    graph = list(find_tables(data, model, 8))[0]
    tensors = [_tensor(data, tensor, buffers) for tensor in find_tables(data, graph, 4)]
    nodes = tuple(_node(data, node, codes, tensors) for node in find_tables(data, graph, 10))
    notes = {_text(data, note, 4): buffers[_number(data, note, 6, 4)] for note in find_tables(data, model, 16)}
    return Graph(
        format="tflite",
        nodes=nodes,
        inputs=tuple(tensors[i] for i in read_ints(data, graph, 6)),
        outputs=tuple(tensors[i] for i in read_ints(data, graph, 8)),
        min_runtime=notes.get("min_runtime_version", b"").rstrip(b"\0").decode(),
    )


def _operation(data: bytes, code: int) -> tuple[str, int]:
    # The old slot has 8 bits; later operations are in the new one, and the larger of the two counts.
    builtin = max(_number(data, code, 4, 1), _number(data, code, 10, 4))
    name = _text(data, code, 6) if builtin == CUSTOM else ""
    return name or (BUILTINS[builtin] if builtin < len(BUILTINS) else f"operation {builtin}"), _number(
        data, code, 8, 4, 1
    )


def _tensor(data: bytes, table: int, buffers: list[bytes]) -> Tensor:
    # The signature keeps what the shape hides: a dimension that is open.
    shape = tuple(read_ints(data, table, 18)) or tuple(read_ints(data, table, 4))
    content = buffers[_number(data, table, 8, 4)]
    quantization = find_field(data, table, 12)
    scales = find_field(data, follow(data, quantization), 8) if quantization else 0
    code = _number(data, table, 6, 1)
    return Tensor(
        name=_text(data, table, 10),
        shape=shape,
        dtype=DTYPES[code] if code < len(DTYPES) else f"type {code}",
        is_constant=bool(content),
        scales=struct.unpack_from("<I", data, follow(data, scales))[0] if scales else 0,
        data=content,
    )


def _node(data: bytes, table: int, codes: list[tuple[str, int]], tensors: list[Tensor]) -> Node:
    op, number = codes[_number(data, table, 4, 4)]
    slot = find_field(data, table, 12)
    options = {
        name: _number(data, follow(data, slot), where, size, default) if slot else default
        for name, (where, size, default) in OPTIONS.get(op, {}).items()
    }
    outputs = tuple(tensors[i] for i in read_ints(data, table, 8) if i >= 0)
    # A fused operation carries the names of all it was made of.
    layer = outputs[0].name.split(";")[0] if outputs else ""
    return Node(op, number, layer, tuple(tensors[i] for i in read_ints(data, table, 6) if i >= 0), outputs, options)


def find_field(data: bytes, table: int, slot: int) -> int:
    """Return where a table's field is, or 0 if it is left out."""
    vtable = table - int(struct.unpack_from("<i", data, table)[0])
    size = struct.unpack_from("<H", data, vtable)[0]
    offset = int(struct.unpack_from("<H", data, vtable + slot)[0]) if slot < size else 0
    return table + offset if offset else 0


def follow(data: bytes, position: int) -> int:
    """Return where the offset at a position leads."""
    return position + int(struct.unpack_from("<I", data, position)[0])


def _number(data: bytes, table: int, slot: int, size: int, default: int = 0) -> int:
    position = find_field(data, table, slot)
    return int(struct.unpack_from(_NUMBERS[size], data, position)[0]) if position else default


def find_vector(data: bytes, table: int, slot: int) -> tuple[int, int]:
    """Return where a vector's values begin and how many there are."""
    position = find_field(data, table, slot)
    if not position:
        return 0, 0
    start = follow(data, position)
    length = int(struct.unpack_from("<I", data, start)[0])
    if length > len(data):
        raise IndexError(f"a vector of {length} values at byte {start}")
    return start + 4, length


def _bytes(data: bytes, table: int, slot: int) -> bytes:
    start, length = find_vector(data, table, slot)
    return data[start : start + length]


def _text(data: bytes, table: int, slot: int) -> str:
    return _bytes(data, table, slot).decode()


def read_ints(data: bytes, table: int, slot: int) -> tuple[int, ...]:
    """Return a vector of int32."""
    start, length = find_vector(data, table, slot)
    return struct.unpack_from(f"<{length}i", data, start)


def find_tables(data: bytes, table: int, slot: int) -> Iterator[int]:
    """Return where each table of a vector is."""
    start, length = find_vector(data, table, slot)
    return (follow(data, start + 4 * i) for i in range(length))
