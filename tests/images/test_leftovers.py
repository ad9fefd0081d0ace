from __future__ import annotations

from pathlib import Path

import pytest
from folder_trees import touch

from edgecls.images.leftovers import LeftOut, leftover_file, leftover_folder
from edgecls.images.walk import list_folder

FOLDERS = (
    "@eaDir|#recycle|@Recycle|.@__thumb|$RECYCLE.BIN|$Recycle.Bin|System Volume Information|RECYCLER|.Trash-1000|"
    ".Trashes|.Spotlight-V100|.fseventsd|.AppleDouble|__MACOSX|lost+found|.ipynb_checkpoints|__pycache__|.git|.svn|.dvc|"
    ".picasaoriginals|.dropbox.cache|.sync|LOST.DIR|.thumbnails|FOUND.000|.TemporaryItems|Photos Previews.lrdata|"
    "Network Trash Folder|#snapshot|Recycle Bin - Volume_1"
)
FILES = (
    "Thumbs.db|ehthumbs.db|Desktop.ini|desktop.ini|.DS_Store|Icon\r|a.png:Zone.Identifier|a.pngZone.Identifier|"
    "Thumbs.db:encryptable|0.xmp|0.AAE|0.THM|a.jpg.pp3|a.dop|c.lrcat|a.png~|a.bak|a.tmp|a.jpg.part|a.jpg.crdownload|"
    "~$list.xlsx|._a.png|.a.png.icloud|.trashed-1-a.jpg|a.png@SynoEAStream|labels.csv|notes.TXT|.picasa.ini|x.lock"
)
CLASSES = "recycle|Recycler|trash|$5|@|#|+|thumbs|tmp|cache|a.b|found|part|download|recycled|Originals"


def test_names_that_systems_and_programs_leave() -> None:
    assert [name for name in FOLDERS.split("|") if not leftover_folder(name)] == []
    assert [name for name in FILES.split("|") if not leftover_file(name)] == []


@pytest.mark.parametrize("name", CLASSES.split("|"))
def test_names_that_a_class_may_have(name: str) -> None:
    assert leftover_folder(name) == ""


@pytest.mark.parametrize("name", ["a.png", "1", "a.gif", "photo.heic", "Zone.png", "a.0001", "part.jpg", "icon.png"])
def test_names_that_an_image_may_have(name: str) -> None:
    assert leftover_file(name) == ""


def test_kinds_are_counted_the_most_frequent_first_and_capped(tmp_path: Path) -> None:
    left_out = LeftOut()
    assert str(left_out) == ""
    for kind in [*range(20), 7, 7]:
        left_out.add(f"k{kind}")
    assert str(left_out).startswith("Left out 22 files: 3 k7, 1 k0, 1 k1,") and str(left_out).endswith(" and 12 more.")
    one = LeftOut()
    one.add_unknown("a\x1b[31m.p\x1bng")
    one.add_unknown("A.HEIC")
    assert str(one) == (
        "Left out 2 files: 1 without a suffix (not an image that can be read), 1 .heic (not an image that can be read)."
    )


def test_a_left_out_folder_is_counted_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "@eaDir/a/b").mkdir(parents=True)
    for name in ("1", "a/2", "a/b/3"):
        (tmp_path / "@eaDir" / name).touch()
    (tmp_path / "@eaDir/up").symlink_to(tmp_path)
    left_out = LeftOut()
    left_out.add_folder(str(tmp_path / "@eaDir"), leftover_folder("@eaDir"))
    left_out.add_folder(str(tmp_path / "gone"), "hidden files")
    assert str(left_out) == "Left out 3 files: 3 in @eaDir (thumbnails and attributes of a Synology NAS)."


def test_results_of_edgecls_are_no_class(tmp_path: Path) -> None:
    touch(tmp_path, *(f"run/{name}" for name in ("run.json", "model.keras", "plots/curves.png")))
    touch(tmp_path, "audit/audit.json", "audit/audit.html", "run2.partial/lock", "run2.partial/curves.png")
    touch(tmp_path, "out/manifest.json", "out/shard-00000000.jsonl", "cat/manifest.json")
    touch(tmp_path, "cat/run.json", "cat/1.png", "dog.partial/1.png")
    left_out = LeftOut()
    assert list_folder(tmp_path, left_out)[0] == ["cat", "dog.partial"]
    for words in (
        "3 in run (results of",
        "2 in audit (results of",
        "2 in out (results of",
        "2 in run2.partial (results of",
    ):
        assert words in str(left_out)


def test_the_first_of_each_kind_is_reported_at_once() -> None:
    reported: list[str] = []
    left_out = LeftOut(reported.append)
    for kind in ("a", "b", "a"):
        left_out.add(kind)
    assert reported == ["Left out: a.", "Left out: b."]
