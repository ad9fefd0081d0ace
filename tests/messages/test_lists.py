from __future__ import annotations

import pytest

from edgecls.messages.lists import short, some, some_lines


@pytest.mark.parametrize(
    ("count", "text"), [(0, ""), (1, "0"), (3, "0, 1, 2"), (4, "0, 1, 2, 3"), (5, "0, 1, 2 and 2 more")]
)
def test_names_are_capped(count: int, text: str) -> None:
    assert some(range(count), 3) == text


def test_lines_and_values_are_capped() -> None:
    assert some_lines(["a", "b"], 2) == "\n  a\n  b"
    assert some_lines("abc", 2) == "\n  a\n  b\n  and 1 more"
    assert short("x" * 9, 9) == "x" * 9 and short("x" * 10, 9) == "x" * 9 + "..."
