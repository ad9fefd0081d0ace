"""Reads an ONNX file as far as the rules need, without the onnx package. Field numbers are those of onnx.proto."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from edgecls.errors import ModelFileError
from edgecls.model_file.graph import AGAIN, ENDLESS, IN_ANOTHER_FILE, Graph, Node, Tensor

# ModelProto.graph and ModelProto.metadata_props, and the key of ours.
GRAPH_FIELD, METADATA_FIELD = 7, 14
METADATA_KEY = b"edgecls"
MAX_FIELDS = 10_000  # models have a few dozen; in a damaged file any byte may look like a field
# In the order of TensorProto.DataType: the position is the code.
DTYPES = (
    "undefined float32 uint8 int8 uint16 int16 int32 int64 string bool float16 float64 uint32 uint64 complex64 "
    "complex128 bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz uint4 int4 float4_e2m1"
).split()
# Whose operators onnxruntime has: ONNX's own under both of its names, and its own.
OWN_DOMAINS = ("", "ai.onnx")
# Attributes that say what size of feature map an operator gives.
OPTIONS: dict[str, tuple[str, ...]] = {
    "kernel_shape": ("kernel_h", "kernel_w"),
    "strides": ("stride_h", "stride_w"),
    "pads": ("pad_top", "pad_left", "pad_bottom", "pad_right"),
    "group": ("group",),
    "blocksize": ("blocksize",),
}

# Message of onnx.proto -> field -> message in it, as far as tensors and graphs go.
_PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
_REFUSED = {
    ("model", 25): ENDLESS,
    ("attribute", 6): ENDLESS,
    ("attribute", 11): ENDLESS,
    ("tensor", 13): IN_ANOTHER_FILE,
}

_Fields = dict[int, list[memoryview]]


def has_graph(data: bytes) -> bool:
    """Return whether bytes are an ONNX model; raise ModelFileError if they are no protobuf message."""
    return any(number == GRAPH_FIELD for number, _, _ in onnx_fields(data))


def split_onnx(data: bytes) -> tuple[bytes, bytes | None, bytes | None]:
    """Return the graph without the metadata, and their JSON, None if there are none; ONNX has no list of labels.

    Raises:
        ModelFileError: damaged.
    """
    kept: list[memoryview] = []
    text = None
    for number, whole, content in onnx_fields(data):
        entry = {n: bytes(value) for n, _, value in onnx_fields(content)} if number == METADATA_FIELD else {}
        if entry.get(1) == METADATA_KEY:
            text = entry.get(2, b"")
        else:
            kept.append(whole)
    return b"".join(kept), text, None


def onnx_fields(data: bytes | memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Yield (number, the field's own bytes, its content) of each top-level field of a protobuf message."""
    view, start = memoryview(data), 0
    for _ in range(MAX_FIELDS):
        if start == len(view):
            return
        tag, content = _decode_varint(view, start)
        if tag & 7 == 2:
            length, content = _decode_varint(view, content)
        elif tag & 7 == 0:
            length = _decode_varint(view, content)[1] - content
        else:
            length = {1: 8, 5: 4}.get(tag & 7, len(view))
        end = content + length
        if end > len(view):
            raise ModelFileError(f"damaged: the ONNX field at byte {start} goes past the end; {AGAIN}")
        yield tag >> 3, view[start:end], view[content:end]
        start = end
    raise ModelFileError(f"damaged: more than {MAX_FIELDS} ONNX fields; {AGAIN}")


def _decode_varint(view: memoryview, position: int) -> tuple[int, int]:
    """Return (the number that begins at `position` in protobuf's variable length, the position after it)."""
    value = 0
    for i, byte in enumerate(view[position : position + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, position + i + 1
    raise ModelFileError(f"damaged: incomplete ONNX number at byte {position}; {AGAIN}")


def read_onnx(data: bytes) -> Graph:
    """Return the main graph of an ONNX file.

    Raises:
        ModelFileError: damaged.
    """
    try:
        return _read_model(data)
    except (IndexError, UnicodeDecodeError) as error:
        raise ModelFileError(f"damaged: the ONNX graph cannot be read ({error}); {AGAIN}") from error


def check_onnx(content: bytes | memoryview, message: str = "model") -> None:
    """Raise ModelFileError for a graph that an interpreter must not be given: not whole in its file, or without end.

    Args:
        content: of the file, or of a message in it.
        message: a key of `_PARTS`, or "tensor".
    """
    for number, _, value in onnx_fields(content):
        if fault := _REFUSED.get((message, number)):
            raise ModelFileError(f"the graph {fault}")
        if part := _PARTS.get(message, {}).get(number):
            check_onnx(value, part)


def _read_model(data: bytes) -> Graph:
    model = _fields(memoryview(data))
    opsets = {_text(entry, 1): _number(entry, 2) for entry in map(_fields, model[8])}
    graph = _fields(model[7][0])
    values = [_value(_fields(content)) for number in (13, 12, 11) for content in graph[number]]
    constants = [_constant(_fields(content)) for content in graph[5]]
    tensors = {tensor.name: tensor for tensor in (*values, *constants)}
    named = {tensor.name for tensor in constants}
    return Graph(
        format="onnx",
        nodes=tuple(_node(_fields(content), tensors) for content in graph[1]),
        # Old files list their weights among the inputs.
        inputs=tuple(t for t in (_value(_fields(c)) for c in graph[11]) if t.name not in named),
        outputs=tuple(_value(_fields(content)) for content in graph[12]),
        opset=max((opsets[domain] for domain in OWN_DOMAINS if domain in opsets), default=0),
        ir=_number(model, 1),
    )


def _node(fields: _Fields, tensors: dict[str, Tensor]) -> Node:
    # What is computed within the graph has no shape and type in the file unless somebody inferred them.
    inputs, outputs = (
        tuple(tensors.get(name, Tensor(name, (), "", False)) for name in map(_decode, fields[number]) if name)
        for number in (1, 2)
    )
    domain = _text(fields, 7)
    layer = _text(fields, 3) or (outputs[0].name if outputs else "")
    domain = "" if domain in OWN_DOMAINS else domain
    return Node(_text(fields, 4), 0, layer, inputs, outputs, _options(fields[5]), domain)


def _options(attributes: list[memoryview]) -> dict[str, int]:
    options: dict[str, int] = {}
    for attribute in map(_fields, attributes):
        name = _text(attribute, 1)
        # One whole number is in field 3, several in field 8.
        options |= dict(zip(OPTIONS.get(name, ()), _numbers(attribute[3] + attribute[8]), strict=False))
        if name == "auto_pad":
            options["same"] = int(_text(attribute, 4).startswith("SAME"))
    return options


def _value(fields: _Fields) -> Tensor:
    """Return a ValueInfoProto's tensor."""
    described = _fields(_fields(fields[2][0])[1][0]) if fields[2] and _fields(fields[2][0])[1] else defaultdict(list)
    shape = _fields(described[2][0])[1] if described[2] else []
    # A dimension has a number (1) or a name (2).
    sides = (_number(_fields(side), 1, -1) for side in shape)
    return Tensor(_text(fields, 1), tuple(side if side > 0 else -1 for side in sides), _dtype(described, 1), False)


def _constant(fields: _Fields) -> Tensor:
    """Return a TensorProto's tensor, without its values."""
    return Tensor(_text(fields, 8), tuple(_numbers(fields[1])), _dtype(fields, 2), True)


def _fields(content: memoryview) -> _Fields:
    found: _Fields = defaultdict(list)
    for number, _, value in onnx_fields(content):
        found[number].append(value)
    return found


def _number(fields: _Fields, number: int, default: int = 0) -> int:
    return _decode_varint(fields[number][-1], 0)[0] if fields[number] else default


def _numbers(contents: list[memoryview]) -> list[int]:
    """Return repeated numbers, whether packed into one field or in a field each."""
    numbers, position = [], 0
    joined = memoryview(b"".join(contents))
    while position < len(joined):
        number, position = _decode_varint(joined, position)
        numbers.append(number)
    return numbers


def _dtype(fields: _Fields, number: int) -> str:
    code = _number(fields, number)
    return DTYPES[code] if code < len(DTYPES) else f"type {code}"


def _text(fields: _Fields, number: int) -> str:
    return _decode(fields[number][-1]) if fields[number] else ""


def _decode(content: memoryview) -> str:
    return bytes(content).decode()
