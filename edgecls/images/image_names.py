"""The images of a dataset by what tables call them, and the split that the folder of an image says."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import Path

from edgecls.images.split_names import read_role


class Files:
    """The images of a dataset, found by what tables call them."""

    def __init__(self, images: Iterable[Path], root: Path) -> None:
        """Index images in the root, which is absolute, by their posix paths relative to it."""
        self._root = f"{root.as_posix()}/"
        paths = [image.relative_to(root).as_posix() for image in images]
        self.paths = frozenset(paths)
        self._by_end: dict[str, list[str]] = {}
        for path in paths:
            leaf = posixpath.basename(path)
            for end in {leaf, posixpath.splitext(leaf)[0]}:
                self._by_end.setdefault(end, []).append(path)

    def find(self, name: str, part: str = "") -> list[str]:
        """Return the images that a name may mean: their path, absolute or not, its end, or either without the suffix.

        Of several, those in the folder of `part` are meant, if there are any.
        """
        name = name.replace("\\", "/").removeprefix("./").removeprefix(self._root)
        if name in self.paths:
            return [name]
        found = [
            path
            for path in self._by_end.get(posixpath.basename(name), ())
            if f"/{path}".endswith(f"/{name}") or f"/{posixpath.splitext(path)[0]}".endswith(f"/{name}")
        ]
        inside = [path for path in found if part and folder_part(path) == part]
        return inside or found


def folder_part(path: str) -> str:
    """Return the part, "train", "val" or "test", that the first folder of a path is called; "" if none."""
    return read_role(path.split("/")[0]) if "/" in path else ""
