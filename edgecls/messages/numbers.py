"""Numbers as messages and pages show them."""

from __future__ import annotations


def percent(fraction: float, decimals: int = 1) -> str:
    """Return a fraction, 0..1, in percent: 0.875 -> "87.5 %"."""
    return f"{100 * fraction:.{decimals}f} %"
