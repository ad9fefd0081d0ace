from __future__ import annotations

from collections.abc import Iterator

import pytest
from pool_jobs import refuse, square

from edgecls.errors import DataError
from edgecls.parallel.pool import LocalPool, current_pool, work_in


def test_here_works_on_one_job_after_the_other() -> None:
    read: list[int] = []

    def jobs() -> Iterator[int]:
        for job in range(5):
            read.append(job)
            yield job

    results = LocalPool().map(square, 100, jobs())
    assert read == []
    assert next(results) == (0, 100) and read == [0]
    assert list(results) == [(1, 101), (2, 104), (3, 109), (4, 116)]


def test_an_error_comes_as_it_is() -> None:
    with pytest.raises(DataError, match="^no image 7; fix it$"):
        list(LocalPool().map(refuse, "no image", [7]))


def test_the_innermost_pool_counts_and_ends_with_its_block() -> None:
    outer, inner = LocalPool(), LocalPool()
    with work_in(outer):
        with pytest.raises(KeyError), work_in(inner):
            assert current_pool() is inner
            raise KeyError
        assert current_pool() is outer
    assert current_pool() not in (outer, inner)
