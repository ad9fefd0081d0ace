"""What systems and programs leave in folders of images: by whom, and how much of it was left out.

A name is left out only if nobody would call a class or an image so: "recycle", "trash" and "$5" are classes. Everything
that is left out is counted, and told in one sentence. Imports the standard library and `listing` only.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping

from edgecls.listing import some

# Why -> names, in lower case; a star stands for anything, at one end only. Whoever meets another one adds it here.
_FOLDERS: dict[str, tuple[str, ...]] = {
    "thumbnails and attributes of a Synology NAS": ("@eadir",),
    "thumbnails of a QNAP NAS": ("@__thumb", ".@__thumb", "@transcode"),
    "deleted files of a NAS": ("#recycle", "@recycle", "@recycled", "@sharebin", "recycle bin - *"),
    "snapshots of a NAS": ("#snapshot", "@snapshot", "@recently-snapshot", "@sharesnap", "~snapshot"),
    "working files of a NAS": ("@tmp", "@download", "@upload_cache", "@appstore", "@database", "nas_prog"),
    "deleted files of Windows": ("$recycle.bin", "recycler.bin"),
    "files of Windows": ("system volume information", "$extend", "$winreagent", "$sysreset", "config.msi", "wpsystem"),
    "damaged files that Windows found": ("found.0*",),
    "damaged files that Linux found": ("lost+found",),
    "damaged files that Android found": ("lost.dir",),
    "files of macOS": ("__macosx", "network trash folder", "temporary items", "thevolumesettingsfolder"),
    "previews of Lightroom": ("*.lrdata", "*.lrcat-data"),
    "previews of Capture One": ("captureone",),
    "settings of Nikon's programs": ("nksc_param",),
    "settings of a Canon camera": ("canonmsc",),
    "originals that ACDSee keeps": ("[originals]",),
    "unfinished downloads": ("*.download", "*.crdownload", "*.part"),
    "files of Python": ("__pycache__",),
    "files of FrontPage": ("_vti_cnf", "_vti_pvt"),
}
_FILES: dict[str, tuple[str, ...]] = {
    "thumbnails of Windows": ("thumbs.db", "thumbs.db:*", "ehthumbs.db", "ehthumbs_vista.db"),
    "settings of Windows": ("desktop.ini", "autorun.inf", "wpsettings.dat", "indexervolumeguid"),
    "marks of Windows on downloads": ("*zone.identifier", "*:smartscreen", "*:mshta"),
    "streams of NTFS": (
        "*:encryptable",
        "*:oecustomproperty",
        "*:afp_afpinfo",
        "*:afp_resource",
        "*:wofcompresseddata",
    ),
    "shortcuts, not files": ("*.lnk", "*.url", "*.webloc", "*.desktop", "*.gdoc", "*.gsheet", "*.gslides"),
    "folder icons of macOS": ("icon\r", "icon\uf00d"),
    "attributes of a Synology NAS": ("*@synoeastream", "*@synoresource"),
    "settings of photo programs": (
        *("*.xmp", "*.aae", "*.pp3", "*.dop", "*.on1", "*.cos", "*.comask", "*.arp", "*.nksc", "*.vrd", "*.acr"),
        *("picasa.ini", "*.lrcat", "*.lrcat-journal", "*.lrcat-wal", "*.lrcat-shm", "*.lrcat.lock", "*.lrprev"),
    ),
    "previews and lists of photo programs and cameras": (
        *("*.thm", "*.lrv", "*.ctg", "*.jbf", "zbthumbnail.info", "nc_fllst.dat", "indx.dat", "*.cot", "*.cop"),
        *("digikam4.db", "thumbnails-digikam.db", "similarity.db", "recognition.db"),
    ),
    "unfinished downloads and copies": (
        *("*.part", "*.partial", "*.crdownload", "*.download", "*.opdownload", "*.filepart", "*.aria2", "*.!ut"),
        *("*.!sync", "*.ffs_tmp", "~utorrentpartfile*", "*.rsync-partial"),
    ),
    "temporary files": ("*.tmp", "*.temp", "*.swp", "*.swo", "*.cache", "~wr*"),
    "backup copies": ("*.bak", "*~"),
    "locks of programs": ("~$*", "*.lock", "*.ffs_lock", "*.lck"),
    "lists of programs that synchronize": ("sync.ffs_db", "*.bts", "*.dvc"),
    "notes, tables, labels and settings": (
        *("*.txt", "*.csv", "*.tsv", "*.json", "*.jsonl", "*.xml", "*.md", "*.rst", "*.db", "*.ini", "*.cfg"),
        *("*.toml", "*.yaml", "*.yml", "*.html", "*.htm", "*.log", "*.md5", "*.sha1", "*.sha256"),
    ),
}
_HIDDEN: dict[str, tuple[str, ...]] = {
    "attributes of macOS": ("._*", ".appledouble", ".ds_store"),
    "pictures that iCloud has not downloaded": ("*.icloud",),
    "originals that Picasa keeps": (".picasaoriginals",),
    # The rest: .Trashes, .fseventsd, .Trash-1000, .thumbnails, .git, .ipynb_checkpoints, .dropbox.cache, .stversions.
    "hidden": (".*",),
}
# Windows XP's; in small letters a class of waste could be called so.
_EXACT = {"RECYCLER": "deleted files of Windows"}


class _Names:
    """Finds the pattern that a name fits without trying each: a folder may hold a million files."""

    def __init__(self, *tables: Mapping[str, tuple[str, ...]]) -> None:
        why = {pattern: reason for table in tables for reason, patterns in table.items() for pattern in patterns}
        self._whole = {pattern: reason for pattern, reason in why.items() if "*" not in pattern}
        self._ends = {pattern[1:]: reason for pattern, reason in why.items() if pattern.startswith("*")}
        self._starts = {pattern[:-1]: reason for pattern, reason in why.items() if pattern.endswith("*")}
        self._all_ends, self._all_starts = tuple(self._ends), tuple(self._starts)

    def find(self, name: str) -> str:
        """Return what is left out here and why, as "@eadir (thumbnails ...)"; "" for any other name."""
        lower = name.lower()
        if reason := self._whole.get(lower) or _EXACT.get(name):
            return f"{name.strip()} ({reason})"
        if lower.endswith(self._all_ends):
            end = max((end for end in self._ends if lower.endswith(end)), key=len)
            return f"*{end} ({self._ends[end]})"
        if lower.startswith(self._all_starts):
            start = max((start for start in self._starts if lower.startswith(start)), key=len)
            return "hidden files" if start == "." else f"{start}* ({self._starts[start]})"
        return ""


_folder_names, _file_names = _Names(_FOLDERS, _HIDDEN), _Names(_FILES, _HIDDEN)


def leftover_folder(name: str) -> str:
    """Return what a folder of this name is, in words, if it is no place for images; else ""."""
    return _folder_names.find(name)


def leftover_file(name: str) -> str:
    """Return what a file of this name is, in words, if it is none to be used; else ""."""
    return _file_names.find(name)


class LeftOut:
    """Counts what is left out of one command's folders."""

    def __init__(self, on_first: Callable[[str], object] = lambda text: None) -> None:
        """Count from 0; `on_first` is called with a sentence when the first file of each kind is left out."""
        self._counts: Counter[str] = Counter()
        self._links = 0
        self._on_first = on_first

    def add(self, kind: str, count: int = 1) -> None:
        """Count files of a kind."""
        if count and kind not in self._counts:
            self._on_first(f"Left out: {kind}.")
        self._counts[kind] += count

    def add_unknown(self, name: str) -> None:
        """Count a file that is neither an image nor known."""
        suffix = re.search(r"\.[a-z][a-z0-9]{0,9}$", name.lower())
        self.add(f"{suffix[0] if suffix else 'without a suffix'} (not an image that can be read)")

    def add_folder(self, folder: str, kind: str) -> None:
        """Count the files in and below a folder, as far as it can be listed."""
        # Not followed, and no error: what nobody wants to read need not be readable.
        count = sum(len(files) for _, _, files in os.walk(folder))
        self.add(kind if kind.startswith("hidden") else f"in {kind}", count)

    def add_link(self) -> None:
        """Count a link to a folder that is read already."""
        self._links += 1

    def __str__(self) -> str:
        """Return a sentence or two, "" if nothing was left out."""
        kinds = [f"{count:,} {kind}" for kind, count in self._counts.most_common() if count]
        total = self._counts.total()
        files = f"Left out {_count(total, 'file')}: {some(kinds, 8)}." if total else ""
        links = f"Left out {_count(self._links, 'linked folder')} that had been read already." if self._links else ""
        return " ".join(filter(None, (files, links)))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
