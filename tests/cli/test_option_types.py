from __future__ import annotations

from typing import Any

import click
import pytest

from edgecls.cli.option_types import DURATION, LATENCY, Quantity, Several, Size


@pytest.mark.parametrize(
    ("kind", "text", "number"),
    [
        (DURATION, "90", 90),
        (DURATION, "1.5h", 5400),
        (LATENCY, "25ms", 25),
        (LATENCY, "0.1s", 100),
        (Size(), "300000", 300_000),
        (Size(), "500kB", 500_000),
        (Size(), "2 MB", 2_000_000),
        (Size(), "2gb", 2_000_000_000),
        (Size(), "1KiB", 1024),
        (Size(), "1", 1),
    ],
)
def test_quantities_are_numbers_with_a_unit(kind: Quantity, text: str, number: float) -> None:
    assert kind.convert(text, None, None) == number


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (DURATION, "5M", "'5M' is not a duration; write it as 90s, 5m or 1h"),
        (DURATION, "-1s", "is not a duration"),
        (LATENCY, "fast", "'fast' is not a latency; write it as 25ms or 0.1s"),
        (LATENCY, "25kB", "is not a latency"),
        (Size(), "", "'' is not a size"),
        (Size(), "2 parsecs", "is not a size"),
        (Size(), "0.5B", "'0.5B' is less than a byte"),
    ],
)
def test_other_texts_are_refused_with_examples(kind: Quantity, text: str, message: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        kind.convert(text, None, None)
    assert message in caught.value.message


@pytest.mark.parametrize(("text", "values"), [("1,4", (1, 4)), ("4,1,4", (4, 1)), ((2,), (2,)), ((), ())])
def test_a_list_has_each_value_once(text: Any, values: tuple[int, ...]) -> None:
    assert Several(int, "n,n").convert(text, None, None) == values


def test_a_list_of_other_values_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="'many' is not a valid integer"):
        Several(int, "n,n").convert("1,many", None, None)
