"""Files on their way to a board: the names that they have there, and the way back to the user's names."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any


class FileBundle:
    """Files that go to a board, under names without meaning there: no shell and no file system can trip over them.

    Attributes:
        files: name there -> file here, or its bytes.
    """

    def __init__(self) -> None:
        self.files: dict[str, Path | bytes] = {}
        self._token = secrets.token_hex(6)
        self._shown: dict[str, str] = {}
        self._pattern = re.compile(rf"{self._token}-\w+(?:/{self._token}-\w+)?(?:\.\w+)?")

    def add(self, source: Path | bytes, shown: str, suffix: str, folder: str = "") -> str:
        """Return the name there of one more file; those of a folder sort as they were added.

        Args:
            source: a file, or the bytes of one.
            shown: its name for the user.
            suffix: that it gets there.
            folder: that `add_folder` returned, if it lies in one.
        """
        name = f"{folder}{self._token}-{len(self.files):08}{suffix}"
        self.files[name], self._shown[name] = source, shown
        return name

    def add_folder(self, shown: str) -> str:
        """Return the name there, with a slash, of a folder that the user calls `shown`."""
        name = f"{self._token}-{len(self._shown)}f"
        self._shown[name] = shown
        return f"{name}/"

    def restore(self, value: Any) -> Any:
        """Return a text, or a JSON document, with the user's names in the place of those there."""
        if isinstance(value, str):
            return self._pattern.sub(lambda found: self._shown.get(found[0], found[0]), value)
        if isinstance(value, list):
            return [self.restore(each) for each in value]
        if isinstance(value, dict):
            return {key: self.restore(each) for key, each in value.items()}
        return value
