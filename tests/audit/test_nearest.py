"""The nearest vectors are found without sorting all products."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgecls.audit.nearest import blocks_of_nearest, project


@given(st.integers(2, 700), st.integers(1, 15), st.integers(0, 2**32 - 1))
def test_they_are_those_with_the_largest_products(rows: int, count: int, seed: int) -> None:
    vectors = project(np.random.default_rng(seed).normal(0, 1, (rows, 20)).astype(np.float32), 8)
    products = vectors @ vectors.T
    np.fill_diagonal(products, -2)
    found, sizes = [], []
    for start, alike, nearest in blocks_of_nearest(vectors, count):
        np.testing.assert_allclose(alike, products[start : start + len(alike)], atol=1e-5)
        found.append(np.take_along_axis(alike, nearest, 1))
        sizes.append(nearest.shape[1])
    expected = -np.sort(-products, axis=1)[:, : min(count, rows - 1)]
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)


def test_a_single_vector_has_none() -> None:
    assert list(blocks_of_nearest(np.ones((1, 3), np.float32), 4)) == []


def test_the_projection_keeps_what_varies_most() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(0, [10, 5, 0.01], (300, 3)).astype(np.float32) + 100
    kept = project(rows, 2)
    assert kept.shape == (300, 2)
    centered = rows - rows.mean(0)
    expected = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    np.testing.assert_allclose(kept @ kept.T, expected @ expected.T, atol=0.05)
