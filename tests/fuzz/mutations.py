"""Damage: strategies that change bytes, JSON documents and TOML tables as faults and attackers do."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
ODD_TEXTS = ("", "\0", "../../etc/passwd", "/etc/passwd", "a\nb", "\x1b[2J", "\ud800", "é" * 300, "x" * 100_000, "nan")
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1.5,
    -0.0,
    1e308,
    2**31,
    2**63,
    10**30,
    *ODD_TEXTS,
    [],
    {},
    [[]],
    [None],
)
ODD_VALUES += (float("nan"), float("inf"), {"": {}}, ["a"] * 1000)


def _flip(data: bytearray, draw: Draw, at: int, _: Sequence[bytes]) -> None:
    if at < len(data):
        data[at] ^= 1 << draw(st.integers(0, 7))


def _overwrite(data: bytearray, draw: Draw, at: int, _: Sequence[bytes]) -> None:
    new = draw(st.binary(min_size=1, max_size=8))
    data[at : at + len(new)] = new


def _number(data: bytearray, draw: Draw, at: int, _: Sequence[bytes]) -> None:
    size = draw(st.sampled_from([1, 2, 4, 8]))
    value = draw(st.sampled_from(EDGES)) % 2 ** (8 * size)
    data[at : at + size] = value.to_bytes(size, draw(st.sampled_from(["little", "big"])))


def _truncate(data: bytearray, _draw: Draw, at: int, _: Sequence[bytes]) -> None:
    del data[at:]


def _delete(data: bytearray, draw: Draw, at: int, _: Sequence[bytes]) -> None:
    del data[at : at + draw(st.integers(1, 64))]


def _repeat(data: bytearray, draw: Draw, at: int, _: Sequence[bytes]) -> None:
    piece = data[at : at + draw(st.integers(1, 64))]
    data[at:at] = piece * draw(st.sampled_from([1, 2, 100]))


def _splice(data: bytearray, draw: Draw, at: int, seeds: Sequence[bytes]) -> None:
    other = draw(st.sampled_from(seeds))
    start = draw(st.integers(0, len(other)))
    data[at:] = other[start:]


CHANGES = (_flip, _overwrite, _number, _truncate, _delete, _repeat, _splice)
# Those that keep the length get past a parser's outermost checks.
IN_PLACE = (_flip, _number)


@st.composite
def damaged(draw: Draw, seeds: Sequence[bytes], most: int = 5, changes: Sequence[Any] = CHANGES) -> bytes:
    """Return one of the seeds after one to `most` changes."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, most))):
        change = draw(st.sampled_from(changes))
        # Headers and footers are where parsers decide.
        near = draw(st.sampled_from(["anywhere", "head", "tail"]))
        low, high = {"anywhere": (0, len(data)), "head": (0, 64), "tail": (len(data) - 128, len(data))}[near]
        change(data, draw, draw(st.integers(max(low, 0), max(min(high, len(data)), 0))), seeds)
    return bytes(data)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a document; of long lists, of the first two."""
    found = [path] if path else []
    items = tree.items() if isinstance(tree, dict) else enumerate(tree[:2]) if isinstance(tree, list) else ()
    for key, value in items:
        found += places(value, (*path, key))
    return found


@st.composite
def odd_documents(draw: Draw, document: Any, values: Sequence[Any] = ODD_VALUES) -> Any:
    """Return the document with one to three values replaced, moved or left out."""
    tree = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        known = places(tree)
        if not known:
            return tree
        *parents, key = draw(st.sampled_from(known))
        holder = tree
        for parent in parents:
            holder = holder[parent]
        action = draw(st.sampled_from(["replace", "replace", "remove", "wrap"]))
        if action == "replace":
            holder[key] = copy.deepcopy(draw(st.sampled_from(values)))
        elif action == "remove":
            del holder[key]
        else:
            holder[key] = [holder[key]]
    return tree


def to_json(document: Any) -> bytes:
    """Return the document as JSON; a lone surrogate becomes an escape, NaN stays as Python writes it."""
    return json.dumps(document).encode()
