"""Puts the metadata into an exported file.

A TFLite file carries them as an appended ZIP (model.json, labels.txt), which interpreters ignore. An ONNX file carries
them as metadata_props["edgecls"].
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import asdict, replace

from edgecls.errors import ModelFileError
from edgecls.limits import Format
from edgecls.model_file.graph import MAX_METADATA_BYTES
from edgecls.model_file.metadata import FORMAT_VERSION, STRETCHED_VERSION, ModelSpec, checksum, label_lines
from edgecls.model_file.onnx import METADATA_FIELD, METADATA_KEY
from edgecls.model_file.read import detect_format, split
from edgecls.model_file.tflite import JSON, LABELS


def attach_spec(graph: bytes, spec: ModelSpec, kind: Format) -> bytes:
    """Return the file's bytes: the graph with the metadata, whose `graph_sha256` and `format_version` are set here.

    Metadata that `graph` already carries are replaced. The same input gives the same bytes.

    Raises:
        ModelFileError: `graph` has another format, or the metadata are not JSON or too large.
    """
    if (found := detect_format(graph)) != kind:
        raise ModelFileError(f"the graph is {found}, not {kind}; pass kind={found!r}")
    bare, *_ = split(graph, kind)
    try:
        # Converted to JSON and back, so that the checksum is that of what a reader gets.
        version = STRETCHED_VERSION if (spec.resize, spec.roi) == ("stretch", None) else FORMAT_VERSION
        whole = replace(spec, graph_sha256=hashlib.sha256(bare).hexdigest(), format_version=version)
        metadata = json.loads(json.dumps(asdict(whole), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"the metadata cannot be written as JSON ({error}); use plain, finite values") from error
    metadata["contract_sha256"] = checksum(metadata)
    text = json.dumps(metadata, ensure_ascii=False, indent=1).encode()
    if len(text) > MAX_METADATA_BYTES:
        raise ModelFileError(f"the metadata have {len(text)} bytes, at most {MAX_METADATA_BYTES} fit; shorten metrics")
    return attach(bare, text, label_lines(spec.labels), kind)


def attach(graph: bytes, text: bytes, labels: bytes, kind: Format) -> bytes:
    """Return the graph with the metadata's JSON `text` and, in TFLite, the `labels`, one a line."""
    if kind == "tflite":
        return graph + _zip(text, labels)
    # Protobuf merges concatenated messages, so an entry at the end of the file joins the list.
    return graph + _encode_field(METADATA_FIELD, _encode_field(1, METADATA_KEY) + _encode_field(2, text))


def _zip(text: bytes, labels: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        # A ZipInfo without a date gets that of 1980, so the same metadata give the same bytes.
        archive.writestr(zipfile.ZipInfo(JSON), text)
        archive.writestr(zipfile.ZipInfo(LABELS), labels)
    return buffer.getvalue()


def _encode_field(number: int, content: bytes) -> bytes:
    length = len(content)
    sevens = [length >> shift & 127 for shift in range(0, max(length.bit_length(), 1), 7)]
    return bytes([number << 3 | 2, *(seven | 128 for seven in sevens[:-1]), sevens[-1]]) + content
