"""Properties of the seeded split, on names alone."""

from __future__ import annotations

import random
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from edgecls.images.splitting import split_groups

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
groups = st.dictionaries(names, st.lists(names, min_size=3, max_size=20, unique=True), min_size=1, max_size=3)
fractions = st.tuples(st.floats(0.01, 0.49), st.floats(0.01, 0.49)).map(lambda pair: {"val": pair[0], "test": pair[1]})


@settings(max_examples=50)
@given(groups, fractions, st.integers(0, 2**32 - 1), st.randoms())
def test_split_is_complete_stratified_and_blind_to_listing_order(
    groups: dict[str, list[str]], fractions: dict[str, float], seed: int, shuffler: random.Random
) -> None:
    parts = split_groups(groups, fractions, seed)
    assert list(parts) == ["train", "val", "test"]
    for name, paths in groups.items():
        chosen = [path for part in parts.values() for path in part[name]]
        assert sorted(chosen) == sorted(paths)
        for part, fraction in fractions.items():
            assert abs(len(parts[part][name]) - len(paths) * fraction) <= 1
        assert all(part[name] for part in parts.values())
    shuffled = {name: shuffler.sample(paths, len(paths)) for name, paths in groups.items()}
    again = split_groups(shuffled, fractions, seed)
    assert {p: {n: set(v) for n, v in g.items()} for p, g in again.items()} == {
        p: {n: set(v) for n, v in g.items()} for p, g in parts.items()
    }


@settings(max_examples=50)
@given(st.sets(st.integers(0, 10**6), min_size=3, max_size=60), st.integers(10**6 + 1, 10**6 + 99), fractions)
def test_one_more_image_moves_at_most_one_image_over_each_border(
    numbers: set[int], more: int, fractions: dict[str, float]
) -> None:
    paths = [f"cat/{number}.png" for number in sorted(numbers)]
    before = split_groups({"cat": paths}, fractions, 0)
    after = split_groups({"cat": [*paths, f"cat/{more}.png"]}, fractions, 0)
    moved = [p for part in before for p in before[part]["cat"] if p not in after[part]["cat"]]
    assert len(moved) <= len(fractions)


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 2**31))
def test_other_seed_gives_other_split(seed: int, step: int) -> None:
    groups = {"cat": [f"cat/{number}.png" for number in range(200)]}
    parts = split_groups(groups, {"val": 0.25}, seed)
    assert parts == split_groups(groups, {"val": 0.25}, seed)
    assert parts != split_groups(groups, {"val": 0.25}, seed + step)


def test_split_is_the_same_on_every_machine() -> None:
    groups = {"cat": [f"cat/{number}.png" for number in range(10)]}
    parts = split_groups(groups, {"val": 0.2, "test": 0.2}, 7)
    # `printf "7\\0cat\\0cat/$n.png" | sha256sum` ranks the numbers 0 3 8 7 4 9 2 6 1 5.
    assert parts["val"]["cat"] == ["cat/0.png", "cat/3.png"]
    assert parts["test"]["cat"] == ["cat/1.png", "cat/5.png"]


def test_split_does_not_depend_on_how_a_name_is_composed() -> None:
    composed = [f"cat/é{number}.png" for number in range(50)]
    decomposed = [unicodedata.normalize("NFD", path) for path in composed]
    one = split_groups({"cat": composed}, {"val": 0.3}, 0)["val"]["cat"]
    other = split_groups({"cat": decomposed}, {"val": 0.3}, 0)["val"]["cat"]
    assert one == [unicodedata.normalize("NFC", path) for path in other]
