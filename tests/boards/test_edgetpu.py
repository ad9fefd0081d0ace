"""A failing and a passing case of every rule of the Edge TPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from graphs import CONV, IMAGE, MEAN, QUANTIZE, SOFTMAX, node, onnx, tflite, value, weights, whole
from tiny import make_spec

from edgecls.boards.compatibility import check_file, check_graph
from edgecls.boards.edgetpu import COMPILED, cpu_layers, preflight
from edgecls.boards.profiles import load_profile
from edgecls.boards.rule_result import RuleResult, is_yes
from edgecls.model_file.graph import Graph, Node

DENSE = node("FULLY_CONNECTED", 4, value("mean", (1, 4)), weights((3, 4)), weights_format=0, keep_num_dims=0)
ADD = node("ADD", 2, value("a"), value("b"))


def blame(graph: Graph) -> tuple[str, str, str]:
    """Return the rule, level and text of the finding on the mapping, which comes first."""
    finding = preflight(graph)[0]
    return finding.rule, finding.level, finding.text


def test_a_clean_graph_maps() -> None:
    assert {finding.level for finding in preflight(tflite())} == {"ok"}
    assert blame(tflite())[:2] == ("ops", "ok")


def test_format() -> None:
    assert preflight(onnx()) == (
        RuleResult("format", "no", "the Edge TPU runs TFLite only; export with --format tflite --int8"),
    )


BAD: dict[str, tuple[str, Node, str]] = {
    "op": ("ops", node("CAST", 1, value("a")), "does not have this operation"),
    "version": ("op versions", replace(ADD, op="CONV_2D", version=6), "refuses 6 and later"),
    "dense version": ("op versions", replace(DENSE, version=9), "refuses 9 and later"),
    "dtype": ("dtypes", replace(ADD, inputs=(value("a", dtype="float32"),)), "a is float32, not 8-bit"),
    "open shape": ("shapes", replace(ADD, inputs=(value("a", (-1, 8, 8, 4)),)), "a has the unknown shape"),
    "rank": ("shapes", replace(ADD, inputs=(value("a", (2, 8, 8, 4)),)), "only the last three dimensions"),
    "dense": ("per-channel dense", replace(DENSE, inputs=(value("a"), weights((3, 4), 3))), "a scale per channel"),
    "dense format": ("limits", replace(DENSE, options={"weights_format": 1, "keep_num_dims": 0}), "default format"),
    "dense dimensions": ("limits", replace(DENSE, options={"weights_format": 0, "keep_num_dims": 1}), "keep_num_dims"),
    "pool": ("limits", node("AVERAGE_POOL_2D", 2, value("a"), activation=1), "a fused activation"),
    "max pool": ("limits", node("MAX_POOL_2D", 2, value("a"), activation=3), "a fused activation"),
    "concatenation": ("limits", node("CONCATENATION", 2, value("a"), activation=1), "a fused activation"),
    "dilation": ("limits", replace(CONV, options={"dilation_w": 2, "dilation_h": 1}), "dilation differs"),
    "mean of batch": ("limits", replace(MEAN, inputs=(value("a"), whole(0, 1))), "reduces the batch"),
    "mean of channels": ("limits", replace(MEAN, inputs=(value("a", (1, 8, 8, 6)), whole(-1))), "not a multiple of 4"),
    "pad": ("limits", node("PAD", 2, value("a"), whole(0, 1, 0, 0)), "pads the batch"),
    "softmax": ("limits", replace(SOFTMAX, inputs=(value("a", (1, 16001)),)), "at most 16000 fit"),
}
GOOD = {
    "op": ADD,
    "version": CONV,
    "dense version": DENSE,
    "pool": node("AVERAGE_POOL_2D", 2, value("a"), activation=0),
    "dilation": replace(CONV, options={"dilation_w": 2, "dilation_h": 2}),
    "mean of channels": replace(MEAN, inputs=(value("a", (1, 8, 8, 8)), whole(-1))),
    "pad": node("PAD", 2, value("a"), whole(0, 0, 0, 1, 0, 1, 0, 0)),
    "softmax": replace(SOFTMAX, inputs=(value("a", (1, 16000)),)),
    "weights of four dimensions": replace(CONV, inputs=(value("a"), weights((64, 3, 3, 4), 64))),
}


@pytest.mark.parametrize("name", BAD)
def test_the_layer_that_falls_to_the_cpu_is_named(name: str) -> None:
    rule, bad, reason = BAD[name]
    found = blame(tflite(bad))
    assert found[:2] == (rule, "no")
    assert f"{bad.layer} ({bad.op}) runs on the CPU" in found[2]
    assert reason in found[2]
    assert "so do the 3 after it" in found[2]


@pytest.mark.parametrize("name", GOOD)
def test_what_is_within_the_limits_maps(name: str) -> None:
    assert blame(tflite(GOOD[name]))[:2] == ("ops", "ok")


def test_a_cheap_tail_on_the_cpu_is_only_a_note() -> None:
    tail = tflite(nodes=(QUANTIZE, CONV, MEAN, node("CAST", 1, value("mean", (1, 4)))))
    assert blame(tail)[:2] == ("ops", "note")
    assert is_yes(preflight(tail))


def test_versions_that_nobody_saw_mapped_are_a_note() -> None:
    (note,) = [f for f in preflight(tflite(replace(ADD, version=4))) if f.rule == "op versions"]
    assert note.level == "note"
    assert "ADD 4" in note.text


@pytest.mark.parametrize(("side", "level"), [(1024, "ok"), (4096, "note")])
def test_on_chip_memory(side: int, level: str) -> None:
    large = replace(CONV, inputs=(value("a"), weights((side, 1, 1, side), side)))
    (finding,) = [f for f in preflight(tflite(large)) if f.rule == "on-chip memory"]
    assert finding.level == level


def test_compiled_files() -> None:
    compiled = node(COMPILED, 1, IMAGE)
    assert blame(tflite(nodes=(compiled,)))[:2] == ("ops", "ok")
    assert blame(tflite(nodes=(compiled, SOFTMAX)))[1] == "note"
    assert blame(tflite(nodes=(compiled, CONV)))[1] == "no"
    assert cpu_layers(tflite(nodes=(compiled, SOFTMAX))) == (SOFTMAX,)


def test_a_whole_check_of_a_coral(tiny_tflite: Path, tiny_onnx: Path) -> None:
    coral = load_profile("coral-usb")
    assert is_yes(check_graph(tflite(), make_spec(), 1, coral))
    found = {finding.rule: finding for finding in check_file(tiny_tflite, coral) if finding.level == "no"}
    # The stock converter gives Dense a scale a channel.
    assert found.keys() == {"per-channel dense"}
    assert "scores" in found["per-channel dense"].text
    assert not is_yes(check_file(tiny_onnx, coral))
