from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgecls.remote.bundle import FileBundle


@given(st.lists(st.tuples(st.text(), st.booleans()), min_size=1))
def test_a_file_bundle_restores_the_names_of_the_user(files: list[tuple[str, bool]]) -> None:
    bundle = FileBundle()
    folder = bundle.add_folder("the folder")
    for shown, inside in files:
        name = bundle.add(b"", shown, ".png", folder if inside else "")
        assert name.isascii() and not set(name) - set("0123456789abcdef-/.png")
        assert bundle.restore({"a": [f"cannot open {name}: it is bad", 3]}) == {
            "a": [f"cannot open {shown}: it is bad", 3]
        }
    assert len(bundle.files) == len(files)
    assert bundle.restore(f"no image in {folder.rstrip('/')}; pass") == "no image in the folder; pass"
