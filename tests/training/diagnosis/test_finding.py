from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecls.errors import DataError
from edgecls.training.diagnosis.finding import Scored, confidence_interval


def test_arrays_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(DataError, match="N = 2"):
        Scored("validation", np.full((3, 4), 0.25), np.zeros(2, int))
    with pytest.raises(DataError, match="received 1"):
        Scored("validation", np.full((3, 4), 0.25), np.zeros(3, int), ["a.png"])


@given(st.integers(0, 500).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images))))
def test_confidence_interval_holds_the_share_and_narrows(drawn: tuple[int, int]) -> None:
    hits, images = drawn
    low, high = confidence_interval(hits, images)
    assert 0 <= low <= high <= 1
    if images:
        assert low <= hits / images <= high
        wide = high - low
        low, high = confidence_interval(10 * hits, 10 * images)
        assert high - low < wide
