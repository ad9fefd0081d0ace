"""A few hundred of the files of `make fuzz-decode`: read rightly or refused, never different in silence."""

from __future__ import annotations

from cases import ran
from decoder_fuzz import run


def test_no_file_is_read_differently() -> None:
    counts, faults = run(420, seed=1)
    ran["decoder files"] += 420
    assert not faults, "\n".join(faults)
    # The forms that everybody writes are not merely refused.
    assert counts["read"] > 240 and counts["TIFF read"] > 100 and counts["PNG read"] > 30
