"""What `edgecls predict --out` does, and what all commands with `--ray` share."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.terminal import counting_left_out, echo, warn
from edgecls.messages.lists import counted

if TYPE_CHECKING:
    from edgecls.bulk.predict import Done
    from edgecls.parallel.pool import Pool

REPORT_EVERY_S = 5


def ray_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds `--ray`; the command gets it as `ray`."""
    return click.option("--ray", metavar="ADDRESS|local[:N]", help=f"{text} on a Ray cluster.")


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


def predict_into(
    out: Path, shard_images: int, ray: str | None, file: Path, images: Iterable[str], settings: dict[str, Any]
) -> None:
    """Predict images into the shards of the folder `out`, on the cluster at `ray`, and print the counts.

    Raises:
        click.ClickException: images could not be read.
    """
    from edgecls.bulk.model import pack_model
    from edgecls.bulk.predict import MANIFEST_FILE, predict_all
    from edgecls.model_file.read import read_bytes

    data = read_bytes(file)
    with pool_at(ray, settings["threads"]) as pool, counting_left_out() as left_out:
        model = pack_model(data, pool, **settings)
        done = predict_all(
            model,
            [image if "://" in image else str(Path(image)) for image in images],
            out,
            pool,
            shard_images=shard_images,
            left_out=left_out,
            progress=_Reporter(),
            report=warn,
        )
    kept = f", {done.kept:,} of them earlier" if done.kept else ""
    retried = f", {done.retried:,} that had failed tried again" if done.retried else ""
    echo(f"{counted(done.images, 'image')}{kept}{retried}; {out / MANIFEST_FILE} lists the files")
    if done.failed:
        raise click.ClickException(
            f"{done.failed:,} of {counted(done.images, 'image')} could not be read; their lines hold the error. The "
            "same command tries them again"
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
            echo(f"{counted(done.images, 'image')}, {rate:.0f} per second, {done.failed:,} unusable", err=True)
