"""Options that say which images there are and how each becomes the network's input, for all commands that read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.option_types import RoiType
from edgecls.cli.terminal import echo
from edgecls.preprocessing import RESIZES

if TYPE_CHECKING:
    from edgecls.config import TrainConfig
    from edgecls.images.layout import Layout


class FileList(click.ParamType):  # type: ignore[type-arg]
    """A tuple of paths, from text like train.csv,test.csv."""

    name = "file,file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the paths; a file whose name has a comma is one path."""
        if isinstance(value, tuple):
            return value
        return (value,) if Path(value).is_file() else tuple(filter(None, value.split(",")))


# Setting -> (type, help). Defaults are in config/data.py.
DATA: dict[str, tuple[Any, str]] = {
    "image_size": (int, "Side of the network's input in pixels; for images of at most 64 pixels, 96."),
    "labels": (
        FileList(),
        "Tables of the class of each image: CSV, Parquet, JSON lines, or path and label a line.",
    ),
    "columns": (str, "Columns of --labels: image=NAME,label=NAME,split=NAME,group=NAME, any of them."),
    "class_from": (str, "Regular expression that finds the class in each image's path."),
    "splits": (str, "Folders of the splits: train=FOLDER,val=FOLDER,test=FOLDER; none if all are classes."),
    "group": (str, "Keep images together: a regular expression for their paths, folder, or a table of groups."),
    "exclude": (str, "Table of images to leave out, such as that of edgecls audit --fix."),
    "good_class": (str, "The class that is no defect, to report missed defects and false alarms."),
    "resize": (click.Choice(RESIZES), "How images of another shape are fitted: stretched, cropped or padded."),
    "roi": (RoiType(), "Use only this part of each image: left,top,width,height in pixels."),
    "bits": (int, "Bits used in 16-bit images that do not say it, 8 to 16.  [default: 16]"),
}
# Those of `images.layout.Layout`; an exported file is scored on one split, whose groups do not matter.
LAYOUT = ("labels", "columns", "class_from", "splits", "group", "exclude")
SCORED_LAYOUT = tuple(name for name in LAYOUT if name != "group")


def data_options(names: Iterable[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds the options of these settings; those that are not given are None."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(tuple(names)):
            kind, text = DATA[name]
            command = click.option(f"--{name.replace('_', '-')}", name, type=kind, help=text)(command)
        return command

    return decorate


def to_layout(given: Mapping[str, Any]) -> Layout:
    """Return the layout that options of `data_options` say.

    Raises:
        ConfigError: they contradict each other.
    """
    from edgecls.images.layout import Layout

    return Layout(**{name: value for name, value in given.items() if value is not None})


def more_data(folders: Sequence[Path]) -> tuple[str, ...]:
    """Return the setting `more_data` for DATA of several folders: the absolute paths of all but the first."""
    return tuple(str(folder.resolve()) for folder in folders[1:])


def with_usual_size(data: Path, config: TrainConfig, given: Mapping[str, Any]) -> TrainConfig:
    """Return the settings with the image size that suits the training images, and say so if it is not the usual one.

    An `image_size` that the user gave stays.
    """
    from edgecls.training.image_size import usual_image_size

    if given.get("image_size") is not None:
        return config
    size = usual_image_size(data, config)
    if size != config.image_size:
        echo(f"The images are small, so the network takes {size} x {size} pixels (--image-size sets it).", err=True)
    return replace(config, image_size=size)


def report_note(note: str) -> None:
    """Print how the images were read."""
    echo(note, err=True)
