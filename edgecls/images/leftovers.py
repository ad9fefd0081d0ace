"""What systems and programs leave in folders of images: by whom, and how much of it was left out.

A name is left out only if nobody would call a class or an image so: "recycle", "trash" and "$5" are classes. Everything
that is left out is counted, and told in one sentence.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping

from edgecls.messages.lists import counted, some

HIDDEN = "hidden files"
# Why -> names, in any case; a star stands for anything, at one end only. Whoever meets another one adds it here.
_FOLDERS: dict[str, tuple[str, ...]] = {
    "thumbnails and attributes of a Synology NAS": ("@eaDir",),
    "thumbnails of a QNAP NAS": ("@__thumb", ".@__thumb", "@Transcode"),
    "deleted files of a NAS": ("#recycle", "@Recycle", "@Recycled", "@sharebin", "Recycle Bin - *"),
    "snapshots of a NAS": ("#snapshot", "@snapshot", "@Recently-Snapshot", "@sharesnap", "~snapshot"),
    "working files of a NAS": ("@tmp", "@download", "@upload_cache", "@appstore", "@database", "Nas_Prog"),
    "deleted files of Windows": ("$RECYCLE.BIN", "recycler.bin"),
    "files of Windows": ("System Volume Information", "$Extend", "$WinREAgent", "$SysReset", "Config.Msi", "WPSystem"),
    "damaged files that Windows found": ("FOUND.0*",),
    "damaged files that Linux found": ("lost+found",),
    "damaged files that Android found": ("LOST.DIR",),
    "files of macOS": ("__MACOSX", "Network Trash Folder", "Temporary Items", "TheVolumeSettingsFolder"),
    "previews of Lightroom": ("*.lrdata", "*.lrcat-data"),
    "previews of Capture One": ("CaptureOne",),
    "settings of Nikon's programs": ("NKSC_PARAM",),
    "settings of a Canon camera": ("CANONMSC",),
    "originals that ACDSee keeps": ("[Originals]",),
    "unfinished downloads": ("*.download", "*.crdownload", "*.part"),
    "files of Python": ("__pycache__",),
    "files of FrontPage": ("_vti_cnf", "_vti_pvt"),
}
_FILES: dict[str, tuple[str, ...]] = {
    "thumbnails of Windows": ("Thumbs.db", "Thumbs.db:*", "ehthumbs.db", "ehthumbs_vista.db"),
    "settings of Windows": ("Desktop.ini", "autorun.inf", "WPSettings.dat", "IndexerVolumeGuid"),
    "marks of Windows on downloads": ("*Zone.Identifier", "*:SmartScreen", "*:mshta"),
    "streams of NTFS": (
        "*:encryptable",
        "*:OECustomProperty",
        "*:AFP_AfpInfo",
        "*:AFP_Resource",
        "*:WofCompressedData",
    ),
    "shortcuts, not files": ("*.lnk", "*.url", "*.webloc", "*.desktop", "*.gdoc", "*.gsheet", "*.gslides"),
    "folder icons of macOS": ("Icon\r", "Icon\uf00d"),
    "attributes of a Synology NAS": ("*@SynoEAStream", "*@SynoResource"),
    "settings of photo programs": (
        *("*.xmp", "*.aae", "*.pp3", "*.dop", "*.on1", "*.cos", "*.comask", "*.arp", "*.nksc", "*.vrd", "*.acr"),
        *("Picasa.ini", "*.lrcat", "*.lrcat-journal", "*.lrcat-wal", "*.lrcat-shm", "*.lrcat.lock", "*.lrprev"),
    ),
    "previews and lists of photo programs and cameras": (
        *("*.thm", "*.lrv", "*.ctg", "*.jbf", "ZbThumbnail.info", "NC_FLLST.DAT", "indx.dat", "*.cot", "*.cop"),
        *("digikam4.db", "thumbnails-digikam.db", "similarity.db", "recognition.db"),
    ),
    "unfinished downloads and copies": (
        *("*.part", "*.partial", "*.crdownload", "*.download", "*.opdownload", "*.filepart", "*.aria2", "*.!ut"),
        *("*.!sync", "*.ffs_tmp", "~uTorrentPartFile*", "*.rsync-partial"),
    ),
    "temporary files": ("*.tmp", "*.temp", "*.swp", "*.swo", "*.cache", "~WR*"),
    "backup copies": ("*.bak", "*~"),
    "locks of programs": ("~$*", "*.lock", "*.ffs_lock", "*.lck"),
    "lists of programs that synchronize": ("sync.ffs_db", "*.bts", "*.dvc"),
    "notes, tables, labels and settings": (
        *("*.txt", "*.csv", "*.tsv", "*.json", "*.jsonl", "*.xml", "*.md", "*.rst", "*.db", "*.ini", "*.cfg"),
        *("*.toml", "*.yaml", "*.yml", "*.html", "*.htm", "*.log", "*.md5", "*.sha1", "*.sha256"),
    ),
}
_HIDDEN: dict[str, tuple[str, ...]] = {
    "attributes of macOS": ("._*", ".AppleDouble", ".DS_Store"),
    "pictures that iCloud has not downloaded": ("*.icloud",),
    "originals that Picasa keeps": (".picasaoriginals",),
    # The rest: .Trashes, .fseventsd, .Trash-1000, .thumbnails, .git, .ipynb_checkpoints, .dropbox.cache, .stversions.
    HIDDEN: (".*",),
}
# The files by which a folder is known that edgecls itself wrote: a run, an audit, a search, predictions. And the end of
# the name of one in which a run is being made, and its file.
_RESULTS = (
    ("run.json", "model.keras"),
    ("audit.json", "audit.html"),
    ("sweep.json", "frontier.png"),
    ("manifest.json", "shard-00000000.jsonl"),
)
_UNFINISHED, _LOCK = ".partial", "lock"
# Windows XP's; in small letters a class of waste could be called so.
_EXACT = {"RECYCLER": "RECYCLER (deleted files of Windows)"}


class _Names:
    """Finds the pattern that a name fits without trying each: a folder may hold a million files."""

    def __init__(self, *tables: Mapping[str, tuple[str, ...]]) -> None:
        self._whole: dict[str, str] = {}
        self._ends: dict[str, str] = {}
        self._starts: dict[str, str] = {}
        for reason, patterns in (row for table in tables for row in table.items()):
            for pattern in patterns:
                text = reason if reason == HIDDEN else f"{pattern.strip()} ({reason})"
                found = self._ends if pattern[0] == "*" else self._starts if pattern[-1] == "*" else self._whole
                found[pattern.strip("*").lower()] = text
        self._all_ends, self._all_starts = tuple(self._ends), tuple(self._starts)

    def find(self, name: str) -> str:
        """Return the pattern that a name fits and what it is, as "@eaDir (thumbnails ...)"; "" if it fits none."""
        lower = name.lower()
        if text := self._whole.get(lower) or _EXACT.get(name):
            return text
        if lower.endswith(self._all_ends):
            return self._ends[max((end for end in self._ends if lower.endswith(end)), key=len)]
        if lower.startswith(self._all_starts):
            return self._starts[max((start for start in self._starts if lower.startswith(start)), key=len)]
        return ""


_folder_names, _file_names = _Names(_FOLDERS, _HIDDEN), _Names(_FILES, _HIDDEN)


def leftover_folder(name: str) -> str:
    """Return what a folder of this name is, in words, if it is no place for images; else ""."""
    return _folder_names.find(name)


def leftover_file(name: str) -> str:
    """Return what a file of this name is, in words, if it is none to be used; else ""."""
    return _file_names.find(name)


def leftover_results(name: str, has_file: Callable[[str], bool]) -> str:
    """Return what a folder is, in words, if edgecls itself wrote it; else "". `has_file` says which files are in it."""
    found = name.endswith(_UNFINISHED) and has_file(_LOCK)
    found = found or any(all(map(has_file, names)) for names in _RESULTS)
    return f"{name} (results of edgecls)" if found else ""


def in_folder(kind: str) -> str:
    """Return what the files of a folder are, of which `leftover_folder` returns the kind."""
    return kind if kind == HIDDEN else f"in {kind}"


class LeftOut:
    """Counts what is left out of one command's folders."""

    def __init__(self, on_first: Callable[[str], object] = lambda text: None) -> None:
        """Count from 0; `on_first` is called with a sentence when the first file of each kind is left out."""
        self._counts: Counter[str] = Counter()
        self._links = 0
        self._on_first = on_first

    def add(self, kind: str, count: int = 1) -> None:
        """Count files of a kind."""
        first = count > 0 and kind not in self._counts
        # Counted first: a command that is stopped in between still says what it left out.
        self._counts[kind] += count
        if first:
            self._on_first(f"Left out: {kind}.")

    def add_unknown(self, name: str) -> None:
        """Count a file that is neither an image nor known."""
        suffix = re.search(r"\.[a-z][a-z0-9]{0,9}$", name.lower())
        self.add(f"{suffix[0] if suffix else 'without a suffix'} (not an image that can be read)")

    def add_folder(self, folder: str, kind: str) -> None:
        """Count the files in and below a folder, as far as it can be listed."""
        # Not followed, and no error: what nobody wants to read need not be readable.
        count = sum(len(files) for _, _, files in os.walk(folder))
        self.add(in_folder(kind), count)

    def add_link(self) -> None:
        """Count a link to a folder that is read already."""
        self._links += 1

    def __str__(self) -> str:
        """Return a sentence or two, "" if nothing was left out."""
        kinds = [f"{count:,} {kind}" for kind, count in self._counts.most_common() if count]
        total = self._counts.total()
        files = f"Left out {counted(total, 'file')}: {some(kinds, 8)}." if total else ""
        links = f"Left out {counted(self._links, 'linked folder')} that had been read already." if self._links else ""
        return " ".join(filter(None, (files, links)))
