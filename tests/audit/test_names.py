from __future__ import annotations

import re

import numpy as np
import pytest

from edgecls.audit.names import clusters, propose_group
from edgecls.images.layout import match_paths


@pytest.mark.parametrize(
    ("make", "example"),
    [
        (lambda part, shot: f"cat/part{part}_shot{shot}.png", "cat/part7_shot3.png"),
        (lambda part, shot: f"cat/cam_{part}_{shot}.png", "cat/cam_7_3.png"),
        (lambda part, shot: f"cat/s{part}/{shot}.png", "cat/s7/3.png"),
        (lambda part, shot: f"cat/exp{shot}_{part}.png", "cat/exp3_7.png"),
    ],
)
def test_the_pattern_that_duplicates_follow_is_proposed(make, example: str) -> None:  # type: ignore[no-untyped-def]
    paths = [make(part, shot) for part in range(20) for shot in range(8)]
    pairs = [(8 * part, 8 * part + shot) for part in range(20) for shot in range(1, 8)]
    pattern = propose_group(paths, pairs, ["cat"])
    assert pattern, paths[:3]
    found = [match[1] for path in paths if (match := re.search(pattern, path))]
    assert len(found) == len(paths) and len(set(found)) == 20 and re.search(pattern, example)


def test_stretches_of_a_counter_are_proposed() -> None:
    """As in magnetic-tile: six exposures of a tile follow each other, about 20 numbers apart, and tiles far apart."""
    random = np.random.default_rng(0)
    paths: list[str] = []
    pairs: list[tuple[int, int]] = []
    for _ in range(60):
        start, number = len(paths), int(random.integers(1000, 350_000))
        for exposure in range(1, 7):
            number += int(random.integers(10, 35))
            paths.append(f"{'train' if exposure % 4 else 'test'}/free/exp{exposure}_num_{number}.jpg")
        pairs += [(start, start + other) for other in range(1, 6)]
    pattern = propose_group(paths, pairs, ["free", "blowhole"])
    found = match_paths(paths, pattern, "--group")
    kept = sum(found[paths[one]] == found[paths[other]] for one, other in pairs) / len(pairs)
    assert kept > 0.9 and len(set(found.values())) >= 20


def test_names_that_say_nothing_give_no_pattern() -> None:
    paths = [f"{'cat' if number % 2 else 'dog'}/{number}.png" for number in range(100)]
    pairs = [(number, number + 50) for number in range(20)]
    assert propose_group(paths, pairs, ["cat", "dog"]) == ""
    assert propose_group([f"c/a_{n % 9}.png" for n in range(90)], [(0, 9)], ["c"]) == ""


def test_clusters() -> None:
    assert clusters(6, [(0, 2), (4, 2), (3, 5)]) == [0, 1, 0, 3, 0, 3]
