"""What to measure: the settings with their defaults and range checks, and the configurations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from edgecls.errors import ConfigError, DataError
from edgecls.images.find import find_images
from edgecls.images.leftovers import LeftOut
from edgecls.limits import MAX_THREADS
from edgecls.model_file.read import detect_format, read_bytes
from edgecls.runtime.engines import ALIASES, ENGINES, choose_engine

SCOPES = ("invoke", "end-to-end", "load")
MAX_SECONDS = 3600.0
MAX_FPS = 1000.0
# End to end, more images would only measure the disk's cache.
MAX_IMAGES = 256


@dataclass(frozen=True)
class Settings:
    """Settings of one benchmark.

    Attributes:
        scope: one of `SCOPES`: the network alone, from the image file to the label, or loading in a new process.
    """

    scope: str = "invoke"
    seconds: float = 5.0  # for each configuration, at least
    fps: float | None = None  # frame rate of a camera to keep up with; None runs without pause
    seed: int = 0  # for the order of batches and the bootstrap

    def __post_init__(self) -> None:
        """Raise ConfigError for a value out of range, or two that contradict each other."""
        if self.scope not in SCOPES:
            raise ConfigError(f"scope must be one of {', '.join(SCOPES)}; received {self.scope!r}")
        if not 0 < self.seconds <= MAX_SECONDS:
            raise ConfigError(f"seconds must be above 0 and at most {MAX_SECONDS:g}; received {self.seconds}")
        if self.fps is not None and not 0 < self.fps <= MAX_FPS:
            raise ConfigError(f"fps must be above 0 and at most {MAX_FPS:g}; received {self.fps}")
        if self.fps is not None and self.scope == "load":
            raise ConfigError("fps sets the pace of predictions, and scope 'load' makes none; leave one out")


@dataclass(frozen=True)
class Configuration:
    """One file to be measured in one way."""

    file: str  # path
    engine: str | None = None  # a name in `engines.ENGINES`, or None for the first that fits
    threads: int | None = None  # of the interpreter, or None for the usual number
    device: str = "cpu"  # a name in `engines.DEVICES`
    images: tuple[str, ...] = ()  # paths of real images; may be empty unless the scope is end-to-end


def plan(
    files: Sequence[Path],
    engines: Sequence[str] = (),
    threads: Sequence[int] = (),
    device: str = "cpu",
    images: Iterable[Path] = (),
) -> tuple[Configuration, ...]:
    """Return a configuration for every file in every engine that runs it, with every number of threads.

    Raises:
        ConfigError: threads out of range, or no engine that runs a file on the device.
        ModelFileError: no such file, or neither TFLite nor ONNX.
    """
    if invalid := [count for count in threads if not 1 <= count <= MAX_THREADS]:
        raise ConfigError(f"threads must be 1 to {MAX_THREADS}; received {invalid[0]}")
    paths = tuple(str(image) for image in images)
    found: list[Configuration] = []
    for file in files:
        kind = detect_format(read_bytes(file))
        named = [ALIASES.get(engine, engine) for engine in engines]
        fitting: list[str | None] = [name for name in named if name not in ENGINES or kind in ENGINES[name].kinds]
        # If none fits, this raises the reason. An engine may be for the other files only.
        for engine in fitting or [engines[0] if engines else None]:
            choose_engine(kind, engine, device)
        counts: list[int | None] = [*dict.fromkeys(threads)]
        for name, count in product(dict.fromkeys(fitting or [None]), counts or [None]):
            found.append(Configuration(str(file), name, count, device, paths))
    return tuple(found)


def list_images(folder: Path, left_out: LeftOut | None = None) -> tuple[Path, ...]:
    """Return images of a folder and those below it, at most `MAX_IMAGES`, evenly spread over all.

    Args:
        folder: or a file, or a pattern.
        left_out: counts the files that are not images.

    Raises:
        DataError: there is none.
    """
    left_out, paths = left_out or LeftOut(), []
    for path in find_images(folder, left_out):
        if path.is_file():
            paths.append(path)
        elif path != folder:
            left_out.add("that are not regular files, or are broken links")
    if not paths:
        raise DataError(f"no image in {folder}; pass a folder with images")
    step = max(1, -(-len(paths) // MAX_IMAGES))
    return tuple(paths[::step])
