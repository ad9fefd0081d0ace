"""The options `--out`, `--shard-images` and `--ray` of predict, and what the commands that have `--ray` do alike."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.output import echo
from edgecls.cli.terminal import PATH, counting_left_out, warn
from edgecls.limits import SHARD_IMAGES

if TYPE_CHECKING:
    from edgecls.bulk.predict import Done
    from edgecls.parallel.pool import Pool

TELL_EVERY_S = 5


class PathOrUrl(click.ParamType):  # type: ignore[type-arg]  # generic since Click 8.4 only
    """A path, or the text of a URL, which a Path would change."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Return a Path, or a str."""
        return value if isinstance(value, Path) or "://" in value else Path(value)


@dataclass(frozen=True)
class Bulk:
    """Where shards go: a folder, and how many images each has."""

    out: Path
    shard_images: int
    address: str | None


def ray_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds `--ray`; the command gets it as `ray`."""
    return click.option("--ray", metavar="ADDRESS|local[:N]", help=f"{text} on a Ray cluster.")


def bulk_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with `--out`, `--shard-images` and `--ray`; it gets them as `bulk`, None without `--out`."""

    @click.option("--out", type=PATH, metavar="DIR", help="Write the answers into DIR, one file a shard of images.")
    @click.option(
        "--shard-images", type=click.IntRange(min=1), default=SHARD_IMAGES, show_default=True, help="Images a file."
    )
    @ray_option("With --out: predict")
    @functools.wraps(command)
    def with_bulk(*args: Any, out: Path | None, shard_images: int, ray: str | None, **options: Any) -> Any:
        if ray is not None and out is None:
            raise click.UsageError("--ray works on shards of images; it needs --out DIR")
        return command(*args, bulk=Bulk(out, shard_images, ray) if out else None, **options)

    return with_bulk


@contextlib.contextmanager
def pool_at(address: str | None, threads: int | None = None) -> Iterator[Pool]:
    """Return the pool that `--ray` names, or this process without it."""
    # Without the flag nothing imports Ray.
    if address is None:
        from edgecls.parallel.pool import Here

        yield Here()
        return
    from edgecls.parallel.ray import connect

    # Ray tells of a dead worker on stdout, which is for the result.
    with contextlib.redirect_stdout(sys.stderr), connect(address, threads or 1) as pool:
        yield pool


def predict_into(bulk: Bulk, file: Path, images: tuple[Path | str, ...], settings: dict[str, Any]) -> None:
    """Predict images into the shards of a folder, and print what came of it.

    Raises:
        click.ClickException: images could not be read.
    """
    from edgecls.bulk.model import pack_model
    from edgecls.bulk.predict import MANIFEST_FILE, predict_all
    from edgecls.model_file.metadata import read_bytes

    data = read_bytes(file)
    with pool_at(bulk.address, settings["threads"]) as pool, counting_left_out() as left_out:
        model = pack_model(data, pool, **settings)
        done = predict_all(
            model,
            [os.fspath(image) for image in images],
            bulk.out,
            pool,
            shard_images=bulk.shard_images,
            left_out=left_out,
            progress=_Teller(),
            report=warn,
        )
    kept = f", {done.kept:,} of them before" if done.kept else ""
    retried = f", {done.retried:,} that had failed tried again" if done.retried else ""
    echo(f"{done.images:,} images{kept}{retried}; {bulk.out / MANIFEST_FILE} lists the files")
    if done.failed:
        raise click.ClickException(
            f"{done.failed:,} of {done.images:,} images could not be read; they have an error, and the same command "
            "tries them again"
        )


class _Teller:
    """Tells on stderr how far it is, now and then: how much there is in all is not known before the end."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()

    def __call__(self, done: Done) -> None:
        now = time.monotonic()
        if now - self._told >= TELL_EVERY_S:
            self._told = now
            rate = (done.images - done.kept) / (now - self._began)
            echo(f"{done.images:,} images, {rate:.0f} a second, {done.failed:,} unusable", err=True)
