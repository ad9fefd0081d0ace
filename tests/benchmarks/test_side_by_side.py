from __future__ import annotations

import os
import threading

import pytest
from side_by_side import run_side_by_side

from edgecls.boards.cpus import allowed_cpus

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin threads")


def test_each_job_has_processors_of_its_own_and_answers_keep_their_order() -> None:
    cpus = allowed_cpus()
    jobs = min(2, len(cpus))
    together = threading.Barrier(jobs, timeout=30)

    def work(call: int) -> tuple[int, frozenset[int]]:
        together.wait()
        return call * 10, frozenset(os.sched_getaffinity(0))

    answers = run_side_by_side(work, range(jobs), jobs)
    assert [answer for answer, _ in answers] == [call * 10 for call in range(jobs)]
    shares = [share for _, share in answers]
    assert len(frozenset().union(*shares)) == sum(map(len, shares)) <= len(cpus)
    assert sorted(os.sched_getaffinity(0)) == cpus


def test_more_jobs_than_processors_are_refused() -> None:
    with pytest.raises(ValueError, match="choose 1 to"):
        run_side_by_side(str, [1], len(allowed_cpus()) + 1)
