from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import pytest

from edgecls.validation import build, check, list_changes


@dataclass(frozen=True)
class Inner:
    name: str
    shares: tuple[float, ...] = ()


@dataclass(frozen=True)
class Outer:
    inner: tuple[Inner, ...]
    kind: Literal["a", "b"]
    pair: tuple[str, str]
    count: int | None = None
    other: Inner | None = None
    ready: bool = False


class Document(TypedDict):
    by_name: dict[str, list[int]]


GOOD: dict[str, Any] = {"inner": [{"name": "x", "shares": [0, 0.5]}], "kind": "a", "pair": ["p", "q"], "count": None}


def test_records_are_built_with_those_inside() -> None:
    assert build(Outer, GOOD, "it") == Outer((Inner("x", (0, 0.5)),), "a", ("p", "q"))
    assert build(Outer, GOOD | {"count": 3, "ready": True}, "it").count == 3
    assert build(Outer, GOOD | {"other": {"name": "y", "shares": [1]}}, "it").other == Inner("y", (1,))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inner": [{"shares": []}]}, r"it\.inner\[0\] lacks name"),
        ({"inner": [{"name": "x", "shares": ["y"]}]}, r"it\.inner\[0\]\.shares\[0\] must be a number; received 'y'"),
        ({"inner": {}}, "it.inner must be a list; received {}"),
        ({"inner": ["x"]}, r"it\.inner\[0\] must be an object; received 'x'"),
        ({"kind": "c"}, "it.kind must be .'a', 'b'.; received 'c'"),
        ({"pair": ["p"]}, "it.pair must be a list of 2"),
        ({"count": True}, "it.count must be a whole number; received True"),
        ({"count": 1.5}, "it.count must be a whole number; received 1.5"),
        ({"ready": 1}, "it.ready must be true or false; received 1"),
        ({"more": 1, "\n": 2}, r"it has unknown values: '\\n', 'more'"),
    ],
)
def test_the_first_wrong_value_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(Outer, GOOD | changes, "it")


@pytest.mark.parametrize("raw", [None, [], "x", 3])
def test_what_is_no_object_is_reported(raw: Any) -> None:
    with pytest.raises(ValueError, match="it must be an object"):
        build(Outer, raw, "it")


def test_documents_may_hold_more_than_is_read() -> None:
    check({"by_name": {"a": [1]}, "later": 5}, Document, "it")
    with pytest.raises(ValueError, match=r"it\.by_name\.a\[1\] must be a whole number; received None"):
        check({"by_name": {"a": [1, None]}}, Document, "it")


def test_a_setting_that_is_left_out_has_a_word() -> None:
    assert list_changes({"group": "", "labels": ["a.csv"]}, {"group": "x", "labels": []}) == (
        "group (nothing then, x now), labels (['a.csv'] then, nothing now)"
    )
