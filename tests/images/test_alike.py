from __future__ import annotations

import pytest

from edgecls.images.alike import list_alike, list_combined


@pytest.mark.parametrize(
    "names",
    [
        ("Cat", "cat"),
        ("cat", "cat "),
        ("cat", "cat\u200b"),
        ("ankle-boot", "ankle_boot"),
        ("1", "01"),
        ("0", "0.0"),
        ("cat", "cat - Copy (2)"),
        ("Copy of cat", "cat"),
        ("cat", "cat copy 2"),
        ("cat", "cat (1)"),
        ("straße", "STRASSE"),
    ],
)
def test_names_that_people_read_as_one_are_told(names: tuple[str, ...]) -> None:
    (sentence,) = list_alike([*names, "dog"])
    assert all(repr(name) in sentence for name in names) and "dog" not in sentence


@pytest.mark.parametrize(
    "names", [("a", "A"), ("1", "10", "100"), ("cat", "cats"), ("plate (1)", "plate (2)"), ("-1", "1"), ("copy", "cat")]
)
def test_names_that_differ_are_not(names: tuple[str, ...]) -> None:
    assert list_alike(names) == ()


@pytest.mark.parametrize("both", ["cat|dog", "cat, dog", "dog;cat", "cat+dog", "cat / dog"])
def test_classes_of_several_labels_are_told(both: str) -> None:
    (sentence,) = list_combined(["cat", "dog", both])
    assert f"together: {both!r}. " in sentence


@pytest.mark.parametrize("names", [("cat", "cat|dog"), ("a", "b", "a-b"), ("cat", "dog", "cat|dog|"), ("|", "a")])
def test_other_names_with_separators_are_not(names: tuple[str, ...]) -> None:
    assert list_combined(names) == ()
