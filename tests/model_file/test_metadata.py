from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spec_cases import GRAPHS, KINDS, ONNX, TFLITE, attach, forge
from tiny import LABELS, make_spec

from edgecls.errors import ModelFileError
from edgecls.model_file import metadata as metadata_module
from edgecls.model_file import write
from edgecls.model_file.graph import MAX_METADATA_BYTES
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.read import detect_format, read_bytes, read_model_file, read_spec
from edgecls.model_file.write import attach_spec
from edgecls.preprocessing import Preprocessing

quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

lines = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=12)


@KINDS
@quick
@given(labels=st.lists(lines, min_size=1, max_size=40, unique=True), metrics=st.dictionaries(lines, st.floats(0, 1)))
def test_what_is_attached_is_read_back(kind: Any, labels: list[str], metrics: dict[str, object]) -> None:
    spec = make_spec(labels=tuple(labels), metrics=metrics)
    data = attach_spec(GRAPHS[kind], spec, kind)
    _, graph, read = read_model_file(data)
    assert graph == GRAPHS[kind]
    assert read.graph_sha256 == hashlib.sha256(graph).hexdigest()
    assert read == ModelSpec(**{**vars(spec), "graph_sha256": read.graph_sha256})
    assert data.startswith(graph)
    assert detect_format(data) == kind


@KINDS
def test_attaching_is_deterministic_and_replaces(kind: Any) -> None:
    assert attach(kind) == attach(kind)
    again = attach_spec(attach(kind, arch="old" * 500), make_spec(), kind)
    assert again == attach(kind)


def test_zipfile_opens_the_tflite_itself(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(attach("tflite"))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode().splitlines() == list(LABELS)
        assert json.loads(archive.read("model.json"))["labels"] == list(LABELS)


def test_another_zip_in_a_tflite_belongs_to_the_graph() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("labelmap.txt", "a\nb")
    graph = TFLITE + buffer.getvalue()
    with pytest.raises(ModelFileError, match="no edgecls metadata"):
        read_model_file(graph)
    data = attach_spec(graph, make_spec(), "tflite")
    assert read_model_file(data).graph == graph
    assert attach_spec(data, make_spec(), "tflite") == data


def test_onnx_and_onnxruntime_read_the_metadata(tiny_onnx: Path) -> None:
    import onnx
    import onnxruntime

    reported = onnxruntime.InferenceSession(tiny_onnx).get_modelmeta().custom_metadata_map["edgecls"]
    assert json.loads(reported)["labels"] == list(LABELS)
    model = onnx.load(tiny_onnx)
    onnx.checker.check_model(model)
    assert {entry.key: entry.value for entry in model.metadata_props}["edgecls"] == reported


def test_other_onnx_metadata_belongs_to_the_graph(tiny_onnx: Path) -> None:
    import onnx

    model = onnx.load(tiny_onnx)
    del model.metadata_props[:]
    model.metadata_props.add(key="author", value="me" * 100)
    graph = model.SerializeToString()
    data = attach_spec(graph, make_spec(), "onnx")
    assert read_model_file(data).graph == graph
    read = onnx.load_from_string(data)
    assert [entry.key for entry in read.metadata_props] == ["author", "edgecls"]


def test_real_files_read_back(tiny_tflite: Path, tiny_tflite_fp32: Path, tiny_onnx: Path) -> None:
    assert read_spec(tiny_tflite).precision == "int8"
    data = tiny_onnx.read_bytes()
    assert read_model_file(tiny_onnx) == read_model_file(data) and read_model_file(data).format == "onnx"
    assert [read_spec(path).labels for path in (tiny_tflite_fp32, tiny_onnx)] == [LABELS, LABELS]


@KINDS
def test_every_flipped_bit_is_noticed_or_harmless(kind: Any) -> None:
    good = attach(kind)
    for position in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[position] ^= 1 << bit
            try:
                read = read_model_file(bytes(bad))
            except ModelFileError:
                continue
            # The ZIP holds dates, permissions and the like, which mean nothing here.
            assert position >= len(GRAPHS[kind]) and read == read_model_file(good)


@KINDS
def test_every_truncation_is_noticed(kind: Any) -> None:
    good = attach(kind)
    for length in range(len(good)):
        with pytest.raises(ModelFileError):
            read_model_file(good[:length])


@quick
@given(st.binary(max_size=300), st.sampled_from([b"", TFLITE, ONNX, TFLITE + b"PK\5\6", ONNX + b"\x72"]))
def test_any_bytes_give_our_error(tail: bytes, head: bytes) -> None:
    with pytest.raises(ModelFileError):
        read_model_file(head + tail)


def test_a_changed_label_is_noticed_in_onnx() -> None:
    bad = attach("onnx").replace(b'"bolt"', b'"colt"')
    with pytest.raises(ModelFileError, match="sha256 of the metadata"):
        read_model_file(bad)


def test_a_changed_graph_is_reported_with_both_hashes() -> None:
    good = attach("tflite")
    with pytest.raises(ModelFileError, match=r"damaged: its graph's sha256 is \w{64}, the metadata say \w{64}; copy"):
        read_model_file(good[:20] + b"!" + good[21:])


def test_labels_file_and_json_must_agree() -> None:
    good = attach("tflite")
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        text = archive.read("model.json")
    buffer = io.BytesIO(TFLITE)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.json", text)
        archive.writestr("labels.txt", "nut\nbolt\n")
    with pytest.raises(ModelFileError, match=r"labels\.txt and model\.json disagree"):
        read_model_file(buffer.getvalue())


@pytest.mark.parametrize("size", [10, 50_000_000])
def test_a_packed_zip_is_not_unpacked(size: int) -> None:
    buffer = io.BytesIO(TFLITE)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", b"0" * size)
        archive.writestr("labels.txt", "a\n")
    with pytest.raises(ModelFileError, match="packed or too large"):
        read_model_file(buffer.getvalue())


@KINDS
def test_unbounded_json_is_refused(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelFileError, match="shorten metrics"):
        attach(kind, metrics={"long": "x" * MAX_METADATA_BYTES})
    big = attach(kind, metrics={"long": "x" * 5000})
    monkeypatch.setattr(metadata_module, "MAX_METADATA_BYTES", 4000)
    with pytest.raises(ModelFileError, match="damaged"):
        read_model_file(big)


@pytest.mark.parametrize("value", [b"[" * 100_000, b"1" * 5000, b"[]", b"\xff", b"{", b'{"format_version": 1}'])
def test_odd_json_is_refused(value: bytes) -> None:
    entry = write._encode_field(1, b"edgecls") + write._encode_field(2, value)
    with pytest.raises(ModelFileError):
        read_model_file(ONNX + write._encode_field(14, entry))


def test_too_many_onnx_fields_are_refused() -> None:
    with pytest.raises(ModelFileError, match="more than"):
        read_model_file(ONNX + b"\x08\x08" * 20_000)


@KINDS
def test_versions_and_later_keys(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelFileError, match=r"newer edgecls; upgrade"):
        read_model_file(forge(kind, monkeypatch, format_version=3))
    assert read_model_file(forge(kind, monkeypatch, later=[[1, 2]])).spec == read_model_file(attach(kind)).spec
    with pytest.raises(ModelFileError, match="lack arch"):
        read_model_file(forge(kind, monkeypatch, arch=...))


@KINDS
def test_a_threshold_is_kept_and_may_be_missing(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_model_file(attach(kind, threshold=0.625)).spec.threshold == 0.625
    # Files of before there was one.
    assert read_model_file(forge(kind, monkeypatch, threshold=...)).spec.threshold is None


BAD_FIELDS: list[tuple[str, Any]] = [
    ("format_version", 0),
    ("format_version", True),
    ("labels", []),
    ("labels", "ab"),
    ("labels", ["a", "a"]),
    ("labels", ["a", ""]),
    ("labels", ["a", 1]),
    ("labels", ["a", "b\nc"]),
    ("labels", ["a", "\x1b[2J"]),
    ("arch", "\x9b2J"),
    ("created", "\u2028"),
    ("height", 0),
    ("height", 12.0),
    ("width", 1025),
    ("labels", ["a", "b" * 2001]),
    ("golden", [{}] * 101),
    ("width", True),
    ("resample", ""),
    ("luma", None),
    ("precision", "int4"),
    ("input_dtype", "int8"),
    ("input_scale", 0.0),
    ("input_scale", 1),
    ("input_zero_point", 256),
    ("arch", 3),
    ("weights", []),
    ("metrics", None),
    ("metrics", {"accuracy": "0.9"}),
    ("metrics", {"accuracy": None}),
    ("metrics", {"drop": [0.1]}),
    ("metrics", {"agreement": 2}),
    ("metrics", {"verdict": 1}),
    ("train_sha256", "0" * 63),
    ("calibration_sha256", "x" * 64),
    ("versions", {"numpy": 2}),
    ("created", 0),
    ("graph_sha256", "no"),
    ("threshold", -0.1),
    ("threshold", 1.5),
    ("threshold", 1),
    ("threshold", "0.5"),
    ("bits", 7),
    ("bits", 17),
    ("bits", True),
    ("resize", "fill"),
    ("resize", None),
    ("roi", [1, 2, 3]),
    ("roi", [0, 0, 0, 5]),
    ("roi", "1,2,3,4"),
    ("roi", [0, 0, 1.0, 5]),
]


@pytest.mark.parametrize(("name", "value"), BAD_FIELDS)
def test_a_bad_field_is_named(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelFileError, match=f"metadata field {name} must be"):
        make_spec(**{name: tuple(value) if isinstance(value, list) and name in ("labels", "golden", "roi") else value})
    with pytest.raises(ModelFileError, match=f"metadata field {name} must be"):
        read_model_file(forge("onnx", monkeypatch, **{name: value}))


@KINDS
def test_resize_and_roi_are_read_and_older_files_are_stretched(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = read_model_file(attach(kind, resize="pad", roi=(1, 2, 30, 40))).spec
    assert spec.preprocessing == Preprocessing(None, "pad", (1, 2, 30, 40))
    old = read_model_file(forge(kind, monkeypatch, resize=..., roi=...)).spec
    assert old.preprocessing == Preprocessing() and old.format_version == 1


@KINDS
@pytest.mark.parametrize("changes", [{"resize": "crop"}, {"roi": (0, 0, 5, 5)}])
def test_an_edgecls_that_would_stretch_refuses_files_that_do_not(
    kind: Any, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, file = attach(kind), attach(kind, **changes)
    # Before 1.1, this was the newest format.
    monkeypatch.setattr(metadata_module, "FORMAT_VERSION", 1)
    assert read_model_file(plain).spec.labels
    with pytest.raises(ModelFileError, match="newer edgecls; upgrade"):
        read_model_file(file)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_metrics_must_be_json(value: object) -> None:
    with pytest.raises(ModelFileError, match="cannot be written as JSON"):
        attach("onnx", metrics={"loss": value})
    with pytest.raises(ModelFileError, match="field metrics must be"):
        attach("onnx", metrics={"accuracy": value})


def test_kind_is_read_off_the_bytes() -> None:
    with pytest.raises(ModelFileError, match="the graph is onnx, not tflite"):
        attach_spec(ONNX, make_spec(), "tflite")
    for data in (b"", b"\x89PNG\r\n\x1a\n" + bytes(40), b"\x08\x08"):
        with pytest.raises(ModelFileError, match="not a TFLite or ONNX file"):
            detect_format(data)


@KINDS
def test_a_file_without_metadata_names_the_command(kind: Any) -> None:
    with pytest.raises(ModelFileError, match=r"no edgecls metadata.*'edgecls export'"):
        read_model_file(GRAPHS[kind])


def test_unreadable_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, why in ((tmp_path / "none", "no such"), (tmp_path, "is a folder"), (tmp_path / "pipe", "not a regular")):
        with pytest.raises(ModelFileError, match=why):
            read_bytes(path)
    for wrong in ("nul\0l", None, 3, b"bytes"):
        with pytest.raises(ModelFileError, match="no such model file|must be a str or a Path"):
            read_bytes(wrong)  # type: ignore[arg-type]
    path = tmp_path / "big"
    path.write_bytes(bytes(11))
    monkeypatch.setattr("edgecls.model_file.read.MAX_FILE_BYTES", 10)
    with pytest.raises(ModelFileError, match="has 11 bytes"):
        read_bytes(path)
