from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_files import make_record, make_result, make_times
from hypothesis import given
from hypothesis import strategies as st

from edgecls.benchmark.record import SCHEMA, BenchmarkError, parse_record, read_record, write_record

# What scripts read: see the design.
FIXED = "file engine engine_version threads scope n p50_ms p90_ms p99_ms mean_ms samples_ms valid warnings".split()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    ratio = {"slow": 0, "fast": 1, "ratio": 1.5, "low": 1.4, "high": 1.6}
    record = make_record(make_result(), make_result(make_times(3)), ratios=[ratio])
    path = tmp_path / "results" / "new.json"
    write_record(record, path)
    found = read_record(path)
    assert found.to_json() == record.to_json()
    assert np.allclose(found.results[1].batches, make_times(3), atol=1e-6)
    assert found.results[0].batches.shape == (30, 10)


def test_the_keys_that_scripts_read_are_there() -> None:
    document = make_record().to_json()
    assert {"schema", "machine", "results"} <= document.keys()
    assert document["schema"] == SCHEMA
    (result,) = document["results"]
    assert set(FIXED) <= result.keys()
    assert len(result["samples_ms"]) == result["n"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no json", "is not JSON or is damaged"),
        ("[]", "its schema is None"),
        ("{}", "its schema is None"),
        ('{"schema": true}', "its schema is True"),
        ('{"schema": 99}', "upgrade edgecls"),
        ('{"schema": 1}', "damaged"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(BenchmarkError, match=said):
        read_record(path)
    with pytest.raises(BenchmarkError, match="no such file"):
        read_record(tmp_path / "none.json")


def test_a_record_of_schema_1_is_read() -> None:
    document = json.loads(
        json.dumps(make_record(make_result(valid=False, causes=["contention", "governor"])).to_json())
    )
    today = parse_record(document, "new.json").results[0]
    document["schema"] = 1
    (result,) = document["results"]
    result["calls_per_turn"] = result.pop("calls_per_batch")
    result["causes"][0] = "noisy neighbour"
    result["warnings"] = ["noisy neighbour: other processes took 76% of CPU 0"]
    found = parse_record(document, "old.json").results[0]
    assert (found.causes, found.warnings) == (
        ["contention", "governor"],
        ["contention: other processes took 76% of CPU 0"],
    )
    assert np.array_equal(found.batches, today.batches)


SAMPLES: dict[str, list[Any]] = {"empty": [], "negative": [-1.0] * 300, "texts": ["a"] * 300, "odd": [1.0] * 7}
OTHERS = ("results is empty", "model lacks bytes")


def damage(document: dict[str, Any], name: str) -> None:
    result = document["results"][0]
    if name in result:
        del result[name]
    elif name in document:
        del document[name]
    elif name == "results is empty":
        document["results"] = []
    elif name == "model lacks bytes":
        del result["model"]["bytes"]
    else:
        result["samples_ms"] = SAMPLES[name]


@pytest.mark.parametrize("name", ["p50_ms", "samples_ms", "machine", "states", *SAMPLES, *OTHERS])
def test_a_damaged_file_is_refused(name: str) -> None:
    document = json.loads(json.dumps(make_record().to_json()))
    parse_record(document, "old.json")
    damage(document, name)
    with pytest.raises(BenchmarkError, match=r"old.json is damaged .*measure again"):
        parse_record(document, "old.json")


@pytest.mark.parametrize("data", [b"", b"[0]", b"null", b"NaN", b"[" * 100_000, b"\xff"])
def test_what_is_no_record_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "old.json"
    write_record(make_record(), path)
    whole = path.read_bytes()
    for each in (data, whole[: len(whole) // 2]):
        path.write_bytes(each)
        with pytest.raises(BenchmarkError, match=r"old.json .*(measure again|is None)") as caught:
            read_record(path)
        assert "\n" not in str(caught.value)


def test_a_time_that_was_changed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    write_record(make_record(), path)
    document = json.loads(path.read_text())
    document["results"][0]["p50_ms"] *= 2
    path.write_text(json.dumps(document))
    with pytest.raises(BenchmarkError, match="old.json .*it was changed: its sha256 differs"):
        read_record(path)
    # As an older edgecls wrote it.
    del document["sha256"]
    path.write_text(json.dumps(document))
    assert read_record(path).results[0].p50_ms == document["results"][0]["p50_ms"]


def test_keys_of_a_later_edgecls_are_left_out() -> None:
    document = json.loads(json.dumps(make_record().to_json()))
    document["weather"] = document["results"][0]["color"] = "gray"
    assert parse_record(document, "new.json").to_json() == make_record().to_json()


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.dictionaries(st.text(), x)))
def test_any_other_json_is_refused(value: object) -> None:
    for document in (value, {"schema": 1, "results": value}, {"schema": 1, "results": [value]}):
        with pytest.raises(BenchmarkError):
            parse_record(document, "old.json")


def test_a_number_that_is_none_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write_record(make_record(make_result(p50_ms=float("nan"))), tmp_path / "new.json")
    assert list(tmp_path.iterdir()) == []


def test_names_distinguish_results() -> None:
    first, second = make_result(), make_result(device="edgetpu")
    record = make_record(first, second, make_result(file="b/other.tflite"))
    assert record.name_of(first) == "model-int8.tflite in litert, threads: 1"
    assert record.name_of(second) == "model-int8.tflite in litert on edgetpu, threads: 1"
    assert record.file_of(record.results[2]) == "other.tflite"
    alike = make_record(first, make_result(file="run2/export/model-int8.tflite"))
    assert [alike.file_of(each) for each in alike.results] == [each.file for each in alike.results]
