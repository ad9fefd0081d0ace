"""The files that a command takes to a host, and the mapping between remote names and the user's names."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any


class FileBundle:
    """Files for a host, under generated names that are valid in every shell and file system.

    Attributes:
        files: remote name -> local file, or its bytes.
    """

    def __init__(self) -> None:
        self.files: dict[str, Path | bytes] = {}
        self._token = secrets.token_hex(6)
        self._shown: dict[str, str] = {}
        self._pattern = re.compile(rf"{self._token}-\w+(?:/{self._token}-\w+)?(?:\.\w+)?")

    def add(self, source: Path | bytes, shown: str, suffix: str, folder: str = "") -> str:
        """Add a file and return its remote name; the files of a folder sort in the order they were added.

        Args:
            source: a file, or its bytes.
            shown: the user's name of it.
            suffix: of the remote name.
            folder: what `add_folder` returned, if the file lies in a folder.
        """
        name = f"{folder}{self._token}-{len(self.files):08}{suffix}"
        self.files[name], self._shown[name] = source, shown
        return name

    def add_folder(self, shown: str) -> str:
        """Return the remote name, with a slash, of a folder that the user calls `shown`."""
        name = f"{self._token}-{len(self._shown)}f"
        self._shown[name] = shown
        return f"{name}/"

    def restore(self, value: Any) -> Any:
        """Return a text or a JSON document with the user's names in place of the remote ones."""
        if isinstance(value, str):
            return self._pattern.sub(lambda found: self._shown.get(found[0], found[0]), value)
        if isinstance(value, list):
            return [self.restore(each) for each in value]
        if isinstance(value, dict):
            return {key: self.restore(each) for key, each in value.items()}
        return value
