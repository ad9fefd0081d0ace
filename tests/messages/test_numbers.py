from __future__ import annotations

import pytest

from edgecls.messages.numbers import percent


@pytest.mark.parametrize(
    ("fraction", "decimals", "expected"), [(0.875, 1, "87.5 %"), (1, 0, "100 %"), (0.99716, 2, "99.72 %")]
)
def test_percent(fraction: float, decimals: int, expected: str) -> None:
    assert percent(fraction, decimals) == expected
