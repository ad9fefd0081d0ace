"""Damaged graphs with correct checksums, in the real interpreters: scores, our error or, with --untrusted, a report.

Nothing but those: an exception of another kind is a bug of ours.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cases import fuzz, keep, ran
from forks import fork_server
from hypothesis import given
from mutations import IN_PLACE, damaged

from edgecls.errors import ModelFileError
from edgecls.model_file.read import read_model_file
from edgecls.model_file.write import attach_spec
from edgecls.runtime.trial import try_in_child


@pytest.mark.parametrize(
    ("engine", "kind", "cases"),
    [("litert", "tflite", 1500), ("onnxruntime", "onnx", 800), ("openvino", "onnx", 200), ("openvino", "tflite", 200)],
)
def test_changed_graphs_of_valid_checksum(engine: str, kind: str, cases: int, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(f"tiny_{kind}")
    _, graph, spec = read_model_file(path.read_bytes())
    name = f"{engine} {kind} graphs with correct checksums"
    crashes: list[bytes] = []

    @fuzz(cases, quick=15)
    @given(damaged((graph,), most=3) | damaged((graph,), most=3, changes=IN_PLACE))
    def change(damaged_graph: bytes) -> None:
        ran[name] += 1
        try:
            data = attach_spec(damaged_graph, spec, kind)  # type: ignore[arg-type]
        except ModelFileError:
            return
        outcome, text = server.ask(data)
        ran[f"{name}: {outcome}"] += 1
        if outcome == "crashed":
            crashes.append(data)
        assert outcome != "bug", text

    with fork_server(engine) as server:
        change()
    for data in crashes[:2]:
        keep(data, f"{engine}-crash")
        with pytest.raises(ModelFileError, match=f"{engine} (crashed|failed|did not)"):
            try_in_child(data, engine, 1, "cpu", most_seconds=20)
