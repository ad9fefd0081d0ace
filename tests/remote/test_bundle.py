from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgecls.remote.bundle import Luggage


@given(st.lists(st.tuples(st.text(), st.booleans()), min_size=1))
def test_luggage_gives_the_users_names_back(files: list[tuple[str, bool]]) -> None:
    luggage = Luggage()
    folder = luggage.add_folder("the folder")
    for shown, inside in files:
        name = luggage.add(b"", shown, ".png", folder if inside else "")
        assert name.isascii() and not set(name) - set("0123456789abcdef-/.png")
        assert luggage.restore({"a": [f"cannot open {name}: it is bad", 3]}) == {
            "a": [f"cannot open {shown}: it is bad", 3]
        }
    assert len(luggage.files) == len(files)
    assert luggage.restore(f"no image in {folder.rstrip('/')}; pass") == "no image in the folder; pass"
