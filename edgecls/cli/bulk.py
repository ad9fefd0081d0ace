"""The options `--out`, `--shard-images` and `--ray` of predict, and what all commands with `--ray` share."""

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

REPORT_EVERY_S = 5


class PathOrUrl(click.ParamType):  # type: ignore[type-arg]  # generic since Click 8.4 only
    """A path, or a URL, which a Path would change."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Return a Path, or a str."""
        return value if isinstance(value, Path) or "://" in value else Path(value)


@dataclass(frozen=True)
class Bulk:
    """Where shards are written, how many images each has, and the Ray cluster, None for none."""

    out: Path
    shard_images: int
    address: str | None


def ray_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds `--ray`; the command gets it as `ray`."""
    return click.option("--ray", metavar="ADDRESS|local[:N]", help=f"{text} on a Ray cluster.")


def bulk_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with `--out`, `--shard-images` and `--ray`; it gets them as `bulk`, None without `--out`."""

    @click.option(
        "--out", type=PATH, metavar="DIR", help="Write predictions into DIR, one file for each shard of images."
    )
    @click.option(
        "--shard-images", type=click.IntRange(min=1), default=SHARD_IMAGES, show_default=True, help="Images in a file."
    )
    @ray_option("With --out: predict")
    @functools.wraps(command)
    def with_bulk(*args: Any, out: Path | None, shard_images: int, ray: str | None, **options: Any) -> Any:
        if ray is not None and out is None:
            raise click.UsageError("--ray needs --out DIR, because it works on shards of images")
        return command(*args, bulk=Bulk(out, shard_images, ray) if out else None, **options)

    return with_bulk


@contextlib.contextmanager
def pool_at(address: str | None, threads: int | None = None) -> Iterator[Pool]:
    """Yield the pool that `--ray` names; without it, this process."""
    # Without the flag nothing imports Ray.
    if address is None:
        from edgecls.parallel.pool import LocalPool

        yield LocalPool()
        return
    from edgecls.parallel.ray import connect

    # Ray reports dead workers on stdout, which is for the result.
    with contextlib.redirect_stdout(sys.stderr), connect(address, threads or 1) as pool:
        yield pool


def predict_into(bulk: Bulk, file: Path, images: tuple[Path | str, ...], settings: dict[str, Any]) -> None:
    """Predict images into the shards of a folder and print the counts.

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
            progress=_Reporter(),
            report=warn,
        )
    kept = f", {done.kept:,} of them earlier" if done.kept else ""
    retried = f", {done.retried:,} that had failed tried again" if done.retried else ""
    echo(f"{done.images:,} images{kept}{retried}; {bulk.out / MANIFEST_FILE} lists the files")
    if done.failed:
        raise click.ClickException(
            f"{done.failed:,} of {done.images:,} images could not be read; their lines hold the error. The same "
            "command tries them again"
        )


class _Reporter:
    """Prints progress to stderr every few seconds, without a total, which is not known before the end."""

    def __init__(self) -> None:
        self._began = self._reported = time.monotonic()

    def __call__(self, done: Done) -> None:
        now = time.monotonic()
        if now - self._reported >= REPORT_EVERY_S:
            self._reported = now
            rate = (done.images - done.kept) / (now - self._began)
            echo(f"{done.images:,} images, {rate:.0f} per second, {done.failed:,} unusable", err=True)
