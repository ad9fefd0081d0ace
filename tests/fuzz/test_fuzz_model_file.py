"""Exported files before an interpreter sees them: changes are refused, even where the checksums are correct."""

from __future__ import annotations

import hashlib
import io
import json
import unicodedata
import zipfile
from dataclasses import asdict, replace
from typing import Any

import pytest
from cases import fuzz, ran
from hypothesis import given
from hypothesis import strategies as st
from mutations import Draw, damaged, odd_documents
from tiny import make_spec

from edgecls.boards.compatibility import check_graph
from edgecls.boards.profiles import load_profile
from edgecls.errors import EdgeclsError, ModelFileError
from edgecls.model_file import metadata as metadata_module
from edgecls.model_file import write
from edgecls.model_file.read import read_graph, read_model_file
from edgecls.model_file.selftest import run_selftest
from edgecls.model_file.write import attach_spec

# ir_version = 8, graph = {name = "g"}.
SMALLEST = {"tflite": b"\x1c\0\0\0TFL3" + bytes(range(64)), "onnx": b"\x08\x08\x3a\x03\x12\x01g"}
MEMBERS = ("model.json", "labels.txt", "../labels.txt", "/etc/passwd", "model.json/", "labelmap.txt", "a\\..\\b", "")


def forged(graph: bytes, document: Any, kind: Any) -> bytes:
    """A file whose metadata are this document, with correct checksums, as an attacker would make it."""
    if isinstance(document, dict):
        document = {name: value for name, value in document.items() if name != "contract_sha256"}
        document["graph_sha256"] = hashlib.sha256(graph).hexdigest()
        document["contract_sha256"] = metadata_module.checksum(document)
    labels = document.get("labels") if isinstance(document, dict) else None
    lines = "".join(f"{label}\n" for label in labels) if isinstance(labels, list) else ""
    text = json.dumps(document).encode()
    return write.attach(graph, text, lines.encode("utf-8", "replace"), kind)


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_changed_files(kind: Any) -> None:
    good = attach_spec(SMALLEST[kind], make_spec(), kind)
    metadata = read_model_file(good)

    @fuzz(3000, quick=100)
    @given(damaged((good, attach_spec(SMALLEST[kind], make_spec(labels=("a", "b")), kind))))
    def change(data: bytes) -> None:
        ran[f"changed {kind} files"] += 1
        try:
            found = read_model_file(data)
        except ModelFileError:
            return
        # A ZIP's dates and padding mean nothing; the graph and the metadata are never changed.
        assert (
            found.spec in (metadata.spec, replace(metadata.spec, labels=("a", "b"))) and found.graph == metadata.graph
        )

    change()


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_metadata_with_correct_checksums(kind: Any) -> None:
    golden = ({"name": "a.png", "file": "", "gray_sha256": "", "pixels": "", "scores": [0.5, 0.25, 0.25]},)
    document = asdict(make_spec(golden=golden, threshold=0.5, target="coral"))
    document = json.loads(json.dumps(document))

    @fuzz(1200)
    @given(odd_documents(document))
    def change(document: Any) -> None:
        ran[f"{kind} metadata with correct checksums"] += 1
        try:
            _, _, read = read_model_file(forged(SMALLEST[kind], document, kind))
        except ModelFileError:
            return
        shown = [*read.labels, read.arch, read.created, read.luma, read.target, *read.versions.values()]
        categories = {unicodedata.category(char) for text in shown for char in text}
        assert not categories & {"Cc", "Cs", "Zl", "Zp"}, "a terminal would obey it"

        class Stub:
            spec = read

        with pytest.raises(ModelFileError):
            run_selftest(Stub())  # type: ignore[arg-type]

    change()


@st.composite
def odd_zips(draw: Draw) -> bytes:
    """A ZIP with members of any name and content, packed or not, some twice."""
    buffer = io.BytesIO()
    metadata = asdict(make_spec())
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in draw(st.lists(st.sampled_from(MEMBERS), min_size=1, max_size=4)):
            content = draw(st.sampled_from([b"", b"bolt\nnut\n", json.dumps(metadata).encode(), b"0" * 100_000]))
            archive.writestr(zipfile.ZipInfo(name), content, draw(st.sampled_from([0, 8])))
    return buffer.getvalue()


@fuzz(800)
@given(odd_zips(), st.booleans())
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_appended_zips(data: bytes, after_a_good_one: bool) -> None:
    ran["appended ZIPs"] += 1
    head = attach_spec(SMALLEST["tflite"], make_spec(), "tflite") if after_a_good_one else SMALLEST["tflite"]
    with pytest.raises(ModelFileError):
        read_model_file(head + data)


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_graphs_that_check_reads(kind: Any, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(f"tiny_{kind}")
    _, graph, metadata = read_model_file(path.read_bytes())
    profile = load_profile("raspberry-pi-4b")

    @fuzz(800)
    @given(damaged((graph,)))
    def change(data: bytes) -> None:
        ran[f"{kind} graphs for check"] += 1
        try:
            check_graph(read_graph(data, kind), metadata, len(data), profile)
        except EdgeclsError:
            return

    change()
