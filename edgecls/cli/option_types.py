"""Types of options that Click lacks: numbers with a unit, lists separated by commas, and files to write."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from edgecls.preprocessing import Roi


class Quantity(click.ParamType):  # type: ignore[type-arg]  # generic since Click 8.4 only
    """A number with a unit, such as 90s, as a number of the unit ""."""

    def __init__(self, name: str, units: Mapping[str, float], examples: str) -> None:
        self.name, self._units, self._examples = name, units, examples

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)", str(value))
        # People write 500kB and 500KB.
        unit = self._units.get(match[2], self._units.get(match[2].upper())) if match else None
        if match is None or unit is None:
            self.fail(f"{value!r} is not a {self.name}; write it as {self._examples}", param, ctx)
        return float(match[1]) * unit


class Size(Quantity):
    """A size, such as 500kB, as a whole number of bytes above 0."""

    def __init__(self) -> None:
        units = {"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3}
        super().__init__("size", units, "500kB, 2MB or 1GB")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes."""
        if size := int(super().convert(value, param, ctx)):
            return size
        self.fail(f"{value!r} is less than a byte; give a larger size", param, ctx)


# What a file that edgecls wrote has in it: result of benchmark, page, table of mistakes, plot.
_OWN = {
    "JSON": rb'\A\s*(\{\s*"(schema|format_version)"|[\[{]\s*\{?\s*"file")',
    "HTML": rb"\A<!DOCTYPE html",
    "audit's page": rb"\A<!DOCTYPE html>[^\0]{,2000}: audit of a data set</title>",
    "CSV": rb"\Apath,true,predicted,score",
    "PNG": rb"(?i)matplotlib",
}
_READ_BYTES = 1 << 20


class OutputFile(click.Path):
    """The path of a file to write, as a Path; a file that is there is replaced only if it is one of edgecls.

    `kind` is JSON, HTML, CSV or PNG. A user who exchanges arguments would lose a model or an image otherwise.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(path_type=Path)
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if path.is_dir():
            self.fail(f"{path} is a folder; give the name of a file in it", param, ctx)
        if value != "-":
            check_writable(path, path.absolute().parents, param, ctx)
        if path.is_file() and os.access(path, os.R_OK):
            with path.open("rb") as file:
                found = file.read(_READ_BYTES)
            if found and not re.search(_OWN[self._kind], found):
                self.fail(
                    f"{path} exists, and edgecls did not write it as {self._kind}, so it is not replaced; remove it or "
                    "choose another name",
                    param,
                    ctx,
                )
        return path


class OutputFolder(click.Path):
    """The path of a folder to write files into, as a Path; it is made if it is missing.

    `files` are the names of those that are replaced, and their kind as of `OutputFile`.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        super().__init__(path_type=Path)
        self._files = {name: OutputFile(kind) for name, kind in files.items()}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        check_writable(path, (path.absolute(), *path.absolute().parents), param, ctx)
        for name, kind in self._files.items():
            kind.convert(str(path / name), param, ctx)
        return path


def check_writable(
    path: Path, folders: Sequence[Path], param: click.Parameter | None, ctx: click.Context | None
) -> None:
    """Fail where nothing could be written later, when minutes of work would be lost; missing folders are made."""
    folder = next(each for each in folders if each.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise click.BadParameter(
            f"{path} cannot be written: {folder} is no folder that takes files; choose another one", ctx, param
        )


DURATION = Quantity("duration", {"": 1, "s": 1, "m": 60, "h": 3600}, "90s, 5m or 1h")
"""In seconds."""
LATENCY = Quantity("latency", {"": 1, "ms": 1, "s": 1000}, "25ms or 0.1s")
"""In milliseconds."""


class Several(click.ParamType):  # type: ignore[type-arg]
    """Values separated by commas, as a tuple without duplicates."""

    def __init__(self, kind: Any, name: str) -> None:
        self._kind, self.name = click.types.convert_type(kind), name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Return the values."""
        parts = value if isinstance(value, tuple) else value.split(",")
        return tuple(dict.fromkeys(self._kind.convert(part, param, ctx) for part in parts))


class RoiType(click.ParamType):  # type: ignore[type-arg]
    """A region of interest, from text like 40,0,320,240."""

    name = "x,y,w,h"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Roi:
        """Return left, top, width and height."""
        if isinstance(value, tuple):
            return value
        if not (match := re.fullmatch(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})", value)):
            self.fail(f"{value!r} is not left,top,width,height in pixels; write 40,0,320,240", param, ctx)
        left, top, width, height = map(int, match.groups())
        return left, top, width, height
