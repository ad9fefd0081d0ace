"""Puts the metadata into an exported file, and takes them out. Imports the standard library only.

A TFLite file carries them as an appended ZIP (model.json, labels.txt), which interpreters ignore. An ONNX file carries
them as metadata_props["edgecls"].
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

from edgecls.errors import ModelFileError
from edgecls.limits import Format

MAX_METADATA_BYTES = 8 * 2**20
JSON, LABELS = "model.json", "labels.txt"
AGAIN = "copy the file again or re-export"

_ONNX_KEY = b"edgecls"
# ModelProto.graph = 7 and ModelProto.metadata_props = 14, both wire type 2 (length-delimited), in onnx.proto.
_ONNX_GRAPH, _ONNX_METADATA = 7, 14
_MAX_ONNX_FIELDS = 10_000  # models have a few dozen; in a damaged file any byte may look like a field


def detect_kind(data: bytes) -> Format:
    """Return "tflite" or "onnx", judged by the bytes and not the file's name; raise ModelFileError for neither."""
    if data[4:8] == b"TFL3":
        return "tflite"
    try:
        if any(number == _ONNX_GRAPH for number, _, _ in onnx_fields(data)):
            return "onnx"
        reason = "pass a file that 'edgecls export' wrote"
    except ModelFileError as error:
        reason = str(error)
    raise ModelFileError(f"not a TFLite or ONNX file (first bytes {data[:8]!r}); {reason}")


def attach(graph: bytes, text: bytes, labels: bytes, kind: Format) -> bytes:
    """Return the graph with the metadata's JSON `text` and, in TFLite, the `labels`, one a line."""
    if kind == "tflite":
        return graph + _zip(text, labels)
    # Protobuf merges concatenated messages, so an entry at the end of the file joins the list.
    return graph + _encode_field(_ONNX_METADATA, _encode_field(1, _ONNX_KEY) + _encode_field(2, text))


def split(data: bytes, kind: Format) -> tuple[bytes, dict[str, bytes]]:
    """Return the graph without the metadata, and the parts of the metadata: `JSON` and, in TFLite, `LABELS`.

    Raises:
        ModelFileError: damaged.
    """
    return _split_tflite(data) if kind == "tflite" else _split_onnx(data)


def _zip(text: bytes, labels: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        # A ZipInfo without a date gets that of 1980, so the same metadata give the same bytes.
        archive.writestr(zipfile.ZipInfo(JSON), text)
        archive.writestr(zipfile.ZipInfo(LABELS), labels)
    return buffer.getvalue()


def _split_tflite(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    if not _ends_as_ours(data):
        return data, {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            # Any other ZIP is TFLite's own metadata, and a part of the graph.
            if sorted(member.filename for member in members) != [LABELS, JSON]:
                return data, {}
            for member in members:
                if member.compress_type != zipfile.ZIP_STORED or member.file_size > MAX_METADATA_BYTES:
                    raise zipfile.BadZipFile(f"{member.filename} is packed or too large")
            start = min(member.header_offset for member in members)
            return data[:start], {member.filename: archive.read(member) for member in members}
    except (zipfile.BadZipFile, RuntimeError, OSError, EOFError, ValueError) as error:
        raise ModelFileError(f"damaged: the ZIP of the metadata cannot be read ({error}); {AGAIN}") from error


def _ends_as_ours(data: bytes) -> bool:
    # zipfile would read a directory of millions of members for minutes, and ZIP64 overrides what `end` says.
    end = data[-22:]
    directory_bytes = int.from_bytes(end[12:16], "little")
    return end[:4] == b"PK\5\6" and end[8:12] == b"\2\0\2\0" and directory_bytes < 1000 and data[-42:-38] != b"PK\6\7"


def _split_onnx(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    kept: list[memoryview] = []
    metadata: dict[str, bytes] = {}
    for number, whole, content in onnx_fields(data):
        entry = {n: bytes(value) for n, _, value in onnx_fields(content)} if number == _ONNX_METADATA else {}
        if entry.get(1) == _ONNX_KEY:
            metadata[JSON] = entry.get(2, b"")
        else:
            kept.append(whole)
    return b"".join(kept), metadata


def onnx_fields(data: bytes | memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Yield (number, the field's own bytes, its content) of each top-level field of a protobuf message."""
    view, start = memoryview(data), 0
    for _ in range(_MAX_ONNX_FIELDS):
        if start == len(view):
            return
        tag, content = decode_varint(view, start)
        if tag & 7 == 2:
            length, content = decode_varint(view, content)
        elif tag & 7 == 0:
            length = decode_varint(view, content)[1] - content
        else:
            length = {1: 8, 5: 4}.get(tag & 7, len(view))
        end = content + length
        if end > len(view):
            raise ModelFileError(f"damaged: the ONNX field at byte {start} goes past the end; {AGAIN}")
        yield tag >> 3, view[start:end], view[content:end]
        start = end
    raise ModelFileError(f"damaged: more than {_MAX_ONNX_FIELDS} ONNX fields; {AGAIN}")


def decode_varint(view: memoryview, position: int) -> tuple[int, int]:
    """Return (the number that begins at `position` in protobuf's variable length, the position after it)."""
    value = 0
    for i, byte in enumerate(view[position : position + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, position + i + 1
    raise ModelFileError(f"damaged: incomplete ONNX number at byte {position}; {AGAIN}")


def _encode_field(number: int, content: bytes) -> bytes:
    length = len(content)
    sevens = [length >> shift & 127 for shift in range(0, max(length.bit_length(), 1), 7)]
    return bytes([number << 3 | 2, *(seven | 128 for seven in sevens[:-1]), sevens[-1]]) + content
