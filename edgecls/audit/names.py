"""Finds out whether near duplicates follow file names, and proposes the pattern that groups them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np

# Of near duplicates that a pattern must keep together, and of other pairs that it may.
LEAST_KEPT, MOST_BY_CHANCE = 0.8, 0.1
LEAST_PAIRS = 5
_SEPARATED = r"[^/_\-. ]+"
# Folders, words of the name from its beginning, a single word, and all but the last number or its last digits.
PATTERNS = (
    r"([^/]+)/[^/]+$",
    *(rf"([^/_\-. ]+(?:[_\-. ]+{_SEPARATED}){{{count}}})[_\-. ][^/]*$" for count in range(3)),
    *(rf"(?:^|/){_SEPARATED}(?:[_\-. ]+{_SEPARATED}){{{count}}}[_\-. ]+({_SEPARATED})[^/]*$" for count in range(2)),
    r"([^/]*[^/\d])\d+[^/\d]*$",
    # Stretches of a counter: all but the last digits of the last number.
    *(rf"(/?[^/\d]*\d*?)\d{{1,{count}}}[^/\d]*$" for count in range(1, 5)),
)


def propose_group(paths: Sequence[str], pairs: Sequence[tuple[int, int]], classes: Sequence[str]) -> str:
    """Return a regular expression for `--group` that keeps near duplicates together; "" if names say nothing of them.

    Args:
        paths: of all images.
        pairs: of indices of near duplicates.
        classes: names; a pattern that only finds them is none.
    """
    pairs = [pair for pair in pairs if paths[pair[0]] != paths[pair[1]]]
    if len(pairs) < LEAST_PAIRS:
        return ""
    random = np.random.default_rng(0).integers(0, len(paths), (2000, 2)).tolist()
    best, chosen = 0.0, ""
    for pattern in PATTERNS:
        found = [match[1] if (match := re.search(pattern, path)) else "" for path in paths]
        if not all(found) or set(found) <= set(classes) or len(set(found)) < len(set(classes)) + 2:
            continue
        kept = sum(found[one] == found[other] for one, other in pairs) / len(pairs)
        chance = sum(found[one] == found[other] for one, other in random if one != other) / len(random)
        if kept >= LEAST_KEPT and chance <= MOST_BY_CHANCE and kept - chance > best:
            best, chosen = kept - chance, pattern
    return chosen


def clusters(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Return for each of `count` images the smallest index among those that pairs connect it with."""
    above = list(range(count))

    def root(index: int) -> int:
        while above[index] != index:
            above[index] = above[above[index]]
            index = above[index]
        return index

    for one, other in itertools.starmap(lambda a, b: (root(a), root(b)), pairs):
        above[max(one, other)] = min(one, other)
    return [root(index) for index in range(count)]
