"""Estimates agree with published latencies, impossible ones are refused, and the stored errors are up to date."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from estimate_validation import digest, fit_prior_scales
from hypothesis import given, settings
from hypothesis import strategies as st
from measured_board import measured_record

from edgecls.benchmark.record import BenchmarkError, write_record
from edgecls.boards.profiles import board_names, load_profile, read_table
from edgecls.config import TrainConfig
from edgecls.errors import ConfigError
from edgecls.estimate.estimate import BoardMeasurement, Estimate, estimate, load_validation, make_run
from edgecls.estimate.measured import read_measured
from edgecls.estimate.model import Evidence
from edgecls.estimate.operators import Network, count_network
from edgecls.estimate.published_latencies import load_latencies
from edgecls.messages.numbers import percent

NETWORK = count_network(TrainConfig(), 6)
PI4 = load_profile("raspberry-pi-4b")


def small(image_size: int = 160, alpha: float = 0.5) -> Network:
    return count_network(TrainConfig(image_size=image_size, alpha=alpha), 6)


def test_the_stored_fit_and_errors_are_up_to_date() -> None:
    table = read_table("estimate")
    hint = "run benchmarks/estimate_errors.py"
    assert table["latencies_sha256"] == digest(load_latencies()), hint
    assert fit_prior_scales(load_latencies()) == pytest.approx(table["prior_scales"], rel=1e-2, abs=1e-3), hint


def test_stored_errors_are_as_promised() -> None:
    found = {evidence: load_validation(evidence) for evidence in get_args(Evidence)}
    assert found["latency"].median_error < 0.25
    assert all(0.7 < row.coverage <= 1 and row.latencies >= 40 for row in found.values())
    # Who knows less errs more.
    order = [found[evidence].median_error for evidence in ("latency", "engine", "board", "new")]
    assert order == sorted(order)


def test_estimates_agree_with_published_latencies() -> None:
    # XNNPACK on a Pi 4 with 4 threads: 17 and 20 ms in int8, 41 to 46 ms in fp32 (devices/raspberry-pi-4b*.toml).
    int8, fp32 = (estimate(NETWORK, PI4, precision) for precision in ("int8", "fp32"))
    assert 15 < int8.p50_ms < 22
    assert 38 < fp32.p50_ms < 50
    for found in (int8, fp32):
        assert found.low_ms < found.p50_ms < found.high_ms
        assert found.validation.evidence == "latency"
        assert not found.calibrated
        assert any(
            row.source.startswith("https://github.com/google/XNNPACK, README.md") for row in found.nearest_references
        )


def test_systems_of_32_and_64_bits_differ_as_published() -> None:
    old = load_profile("raspberry-pi-4b-32bit")
    for precision, ratio in (("int8", 20 / 17), ("fp32", 41 / 46)):
        times = [estimate(NETWORK, profile, precision).p50_ms for profile in (old, PI4)]
        assert times[0] / times[1] == pytest.approx(ratio, rel=1e-6)
    # With one thread, and for a board with one system in the table, no difference is published.
    assert estimate(NETWORK, old, "int8", threads=1).p50_ms == estimate(NETWORK, PI4, "int8", threads=1).p50_ms
    pi3 = [load_profile(f"raspberry-pi-3b-plus{bits}") for bits in ("", "-32bit")]
    assert len({estimate(NETWORK, profile, "int8").p50_ms for profile in pi3}) == 1


def test_every_latency_has_its_primary_source() -> None:
    places = ("https://", "benchmarks/results/")
    assert {row.source for row in load_latencies() if not row.source.startswith(places)} == set()


# No latencies of these are published that a model could learn from.
NPUS = ("ethos-u85-256", "nxp-imx93", "synaptics-coralboard")
ESTIMATED = tuple(name for name in board_names() if name not in NPUS)


@pytest.mark.parametrize("name", NPUS)
def test_a_board_without_published_latencies_names_its_compiler(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"no latency is published .*edgecls check FILE --board {name} --compile"):
        estimate(NETWORK, load_profile(name), "int8")


@pytest.mark.parametrize("name", ESTIMATED)
def test_every_board_has_an_estimate(name: str) -> None:
    profile = load_profile(name)
    found = estimate(NETWORK, profile, profile.recommended.precision)
    # From a tenth of the fastest published to ten times the slowest one.
    assert 0.1 < found.low_ms < found.p50_ms < found.high_ms < 3000
    assert (found.engine, found.device) == (profile.recommended.engine, name)


def test_evidence_follows_from_the_board_and_engine() -> None:
    def evidence(name: str, engine: str | None = None, network: Network = NETWORK) -> str:
        return estimate(network, load_profile(name), "int8", engine=engine).validation.evidence

    assert evidence("raspberry-pi-5") == "latency"
    assert evidence("jetson-nano") == "engine"
    assert evidence("desktop-x86") == "board"
    assert evidence("raspberry-pi-4b", "onnxruntime") == "new"
    assert evidence("coral-usb") == "board"
    unlike = estimate(count_network(TrainConfig(arch="mlp"), 6), PI4, "int8")
    assert any("no latency of a network like mlp" in note for note in unlike.notes)


def test_the_less_is_known_the_wider_the_interval() -> None:
    def width(found: Estimate) -> float:
        return found.high_ms / found.low_ms

    known = width(estimate(NETWORK, PI4, "int8"))
    assert known < width(estimate(NETWORK, load_profile("raspberry-pi-zero-2w"), "int8"))
    assert known < width(estimate(NETWORK, PI4, "int8", engine="ort"))
    # No published network is so small.
    assert known < width(estimate(small(96, 0.35), PI4, "int8"))


@settings(max_examples=30)
@given(size=st.integers(64, 480), alpha=st.sampled_from((0.35, 0.5, 0.75, 1.0)), name=st.sampled_from(ESTIMATED))
def test_larger_networks_take_longer(size: int, alpha: float, name: str) -> None:
    profile = load_profile(name)
    times = [estimate(small(side, alpha), profile, profile.recommended.precision).p50_ms for side in (size, 2 * size)]
    assert times[0] < times[1] < 8 * times[0]


def test_more_threads_help_but_less_than_they_are() -> None:
    one, four = (estimate(NETWORK, PI4, "int8", threads=threads).p50_ms for threads in (1, 4))
    assert 1.2 < one / four < 4


def test_it_is_fast_enough_for_a_search() -> None:
    estimate(NETWORK, PI4, "int8")
    start = time.perf_counter()
    for size in range(96, 256, 4):
        estimate(small(size), PI4, "int8")
    assert (time.perf_counter() - start) / 40 < 0.05


@pytest.mark.parametrize("name", ["coral-usb", "desktop-nvidia"])
def test_threads_of_an_accelerator_have_no_effect_and_that_is_said(name: str) -> None:
    board = load_profile(name)
    usual, given = (estimate(NETWORK, board, board.recommended.precision, threads=threads) for threads in (None, 3))
    assert given == replace(usual, notes=given.notes)
    assert set(given.notes) - set(usual.notes) == {
        f"the number of threads has no effect: {name} computes on its accelerator"
    }


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="threads must be 1 to 4 for raspberry-pi-4b; received 5"):
        estimate(NETWORK, PI4, "int8", threads=5)
    with pytest.raises(ConfigError, match="runs networks in edgetpu, not in onnxruntime"):
        estimate(NETWORK, load_profile("coral-usb"), "int8", engine="onnxruntime")
    with pytest.raises(ConfigError, match=r"no fp32 latency is published for an Edge TPU.*use int8"):
        estimate(NETWORK, load_profile("coral-usb"), "fp32")
    with pytest.raises(ConfigError, match=r"no int8 latency is published for a desktop GPU.*use fp16 or fp32"):
        estimate(NETWORK, load_profile("desktop-nvidia"), "int8")


def test_a_measurement_scales_the_board_and_narrows_the_interval() -> None:
    before = estimate(small(), PI4, "int8")
    run = make_run(NETWORK, PI4, "int8", "litert", 4)
    usual = estimate(NETWORK, PI4, "int8").p50_ms
    slow = estimate(small(), PI4, "int8", measured=[BoardMeasurement(run, 2 * usual)])
    assert 1.3 * before.p50_ms < slow.p50_ms < 2.5 * before.p50_ms
    assert slow.high_ms / slow.low_ms < before.high_ms / before.low_ms
    assert (slow.calibrated, slow.validation.evidence) == (True, "measured")
    # In another setting it helps too, but the evidence stays what it was.
    other = estimate(small(), PI4, "int8", threads=1, measured=[BoardMeasurement(run, 2 * usual)])
    assert other.validation.evidence == "latency"
    assert other.p50_ms > estimate(small(), PI4, "int8", threads=1).p50_ms
    # Another board's estimate is not touched.
    assert estimate(small(), PI4, "int8") == before


def test_a_record_becomes_a_measurement(int8: Path, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    record = measured_record(path, int8)
    (found,) = read_measured(path, PI4)
    assert math.isclose(found.ms, record.results[0].p50_ms)
    assert (found.run.engine, found.run.precision, found.run.cores) == ("xnnpack", "int8", 4)
    assert found.run.network.multiply_adds > 0
    # The file that is asked for may be the measured one under another name.
    copy = tmp_path / "copy.tflite"
    copy.write_bytes(int8.read_bytes())
    measured_record(path, copy)
    copy.rename(tmp_path / "moved.tflite")
    assert read_measured(path, PI4, [tmp_path / "moved.tflite"])


def test_a_result_that_is_not_valid_is_left_out_whatever_other_file_has_its_name(int8: Path, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    record = measured_record(path, int8)
    (result,) = record.results
    invalid = replace(result, file=f"other/{int8.name}", p50_ms=9.0, valid=False, causes=["throttled"])
    write_record(replace(record, results=[invalid, result]), path)
    assert [each.ms for each in read_measured(path, PI4)] == [result.p50_ms]


def test_a_record_that_does_not_fit_is_refused(int8: Path, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    measured_record(path, int8, board="Raspberry Pi 5 Model B")
    with pytest.raises(ConfigError, match="measured on Raspberry Pi 5 Model B, not on Raspberry Pi 4"):
        read_measured(path, PI4)
    record = measured_record(path, int8, board="Raspberry Pi 3 Model B Plus")
    write_record(replace(record, machine=record.machine | {"arch": "armv7l"}), path)
    assert read_measured(path, load_profile("raspberry-pi-3b-plus-32bit"))
    with pytest.raises(ConfigError, match="measured on Raspberry Pi 3 Model B Plus, not on Raspberry Pi 4"):
        read_measured(path, load_profile("raspberry-pi-4b-32bit"))
    measured_record(path, int8, board="")
    with pytest.raises(ConfigError, match="a machine of aarch64"):
        read_measured(path, load_profile("desktop-x86"))
    for changes, why in (
        ({"valid": False, "causes": ["throttled"]}, "not valid: throttled"),
        ({"scope": "load"}, "scope is load"),
        ({"device": "edgetpu"}, "ran on edgetpu"),
    ):
        measured_record(path, int8, **changes)
        with pytest.raises(ConfigError, match=why):
            read_measured(path, PI4)
    measured_record(path, int8)
    moved = int8.with_name("elsewhere.tflite")
    int8.rename(moved)
    try:
        with pytest.raises(ConfigError, match="is missing, .*; put it beside the record"):
            read_measured(path, PI4)
    finally:
        moved.rename(int8)
    with pytest.raises(BenchmarkError, match="no such file"):
        read_measured(tmp_path / "none.json", PI4)


def test_the_documentation_shows_the_stored_errors() -> None:
    text = (Path(__file__).parents[2] / "docs/estimates.md").read_text(encoding="utf-8")
    for evidence in get_args(Evidence):
        row = load_validation(evidence)
        assert f"| {row.latencies} | {percent(row.median_error, 0)} | {percent(row.coverage, 0)} |" in text, evidence
