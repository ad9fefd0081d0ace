"""Predict any number of images into a folder of files, one a shard, each there whole and once.

Only this process writes. A worker returns the lines of a shard or, if it dies, nothing, and its shard is worked on
again. The same call after an interruption works on the shards that are missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edgecls.bulk.model import Model, open_model
from edgecls.bulk.read import decode_shard
from edgecls.bulk.shards import SHARD_IMAGES, Shard, cut
from edgecls.changes import tell_changes
from edgecls.errors import ConfigError, DataError
from edgecls.files import locked, read_json, remove_leftovers, write_atomically
from edgecls.leftovers import LeftOut
from edgecls.listing import some
from edgecls.pool import Here, Pool
from edgecls.runtime.classifier import to_entry

MANIFEST_FILE, SHARD_PATTERN = "manifest.json", "shard-*.jsonl"
FORMAT = 1


class Lines(NamedTuple):
    """What a shard comes to: JSON lines, and how many of them tell of an unusable image."""

    data: bytes
    failed: int


@dataclass(frozen=True)
class Part:
    """What the manifest says of a shard's file."""

    file: str
    images: int
    failed: int
    sha256: str


@dataclass(frozen=True)
class Done:
    """How far a run is, in images.

    Attributes:
        images: of all finished shards.
        failed: those of them that could not be used.
        kept: those that an earlier call had finished.
    """

    images: int = 0
    failed: int = 0
    kept: int = 0


def predict_all(
    model: Model,
    sources: Sequence[str],
    out: Path,
    pool: Pool | None = None,
    *,
    shard_images: int = SHARD_IMAGES,
    left_out: LeftOut | None = None,
    progress: Callable[[Done], object] = lambda done: None,
) -> Done:
    """Return what came of predicting the sources' images; `out` then holds their shards, no others, and a manifest.

    Args:
        model: of `pack_model`.
        sources: as `shards.cut` takes them.
        out: folder; new, or of the same call before.
        pool: that predicts; None is this process.
        shard_images: images a file.
        left_out: counts the files of folders that are no images.
        progress: told after each shard.

    Raises:
        ConfigError: `out` holds something else, or another process writes it. DataError: sources cannot be listed.
        EdgeclsError: as the pool raises it. What is finished stays.
    """
    settings = {
        "file_sha256": model.sha256,
        "versions": list(model.versions),
        "device": model.device,
        "threshold": model.threshold,
        "sources": list(sources),
        "folder": str(model.folder),
        "shard_images": shard_images,
    }
    out.mkdir(parents=True, exist_ok=True)
    try:
        with locked(out, wait=False):
            _begin(out, settings)
            parts, done = _fill(model, cut(sources, shard_images, left_out), out, pool or Here(), progress)
            if not parts:
                raise DataError(f"there is no image in {some(sources)}; pass files, folders, lists or tables")
            _finish(out, settings, parts)
    except BlockingIOError as error:
        raise ConfigError(f"another process writes {out}; wait for it, or give another folder") from error
    return done


def predict_shard(model: Model, shard: Shard) -> Lines:
    """Return the lines of a shard, each as of `predict --format jsonl` or, of an unusable image, with an "error".

    Raises:
        ConfigError: other versions are installed here than where the run began. And as `load` and `decode_shard` raise.
    """
    classifier = open_model(model)
    spec, entries = classifier.spec, []
    for name, image in decode_shard(shard, spec, model.folder, model.threads):
        if isinstance(image, DataError):
            entries.append({"image": name, "error": str(image)})
        else:
            entries.append(to_entry(name, classifier.predict(image), spec.labels))
    return Lines("".join(f"{json.dumps(entry)}\n" for entry in entries).encode(), _count_failed(entries))


def _fill(
    model: Model, shards: Iterator[Shard], out: Path, pool: Pool, progress: Callable[[Done], object]
) -> tuple[list[Part], Done]:
    """Write the shards that are missing, and return all in their order."""
    parts: dict[int, Part] = {}
    done = Done()

    def note(shard: Shard, lines: Lines, kept: bool) -> None:
        nonlocal done
        count = len(shard.names)
        parts[shard.number] = Part(_file_name(shard), count, lines.failed, hashlib.sha256(lines.data).hexdigest())
        done = Done(done.images + count, done.failed + lines.failed, done.kept + kept * count)
        progress(done)

    def missing() -> Iterator[Shard]:
        for shard in shards:
            if lines := _find_lines(out / _file_name(shard), shard):
                note(shard, lines, kept=True)
            else:
                yield shard

    for shard, lines in pool.map(predict_shard, model, missing()):
        write_atomically(out / _file_name(shard), lines.data)
        note(shard, lines, kept=False)
    return [parts[number] for number in sorted(parts)], done


def _find_lines(path: Path, shard: Shard) -> Lines | None:
    """Return what a finished file holds, or None if there is none or it is of other images."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    try:
        entries = [json.loads(line) for line in data.splitlines()]
        is_same = [entry["image"] for entry in entries] == list(shard.names)
    except (ValueError, LookupError, TypeError):
        return None
    return Lines(data, _count_failed(entries)) if is_same else None


def _count_failed(entries: Sequence[dict[str, Any]]) -> int:
    return sum("error" in entry for entry in entries)


def _file_name(shard: Shard) -> str:
    return SHARD_PATTERN.replace("*", f"{shard.number:08}")


def _begin(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings into `out`, or check that they are those that stand there."""
    path = out / MANIFEST_FILE
    if path.exists():
        try:
            before = read_json(path)["settings"]
            what = tell_changes(before, settings)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} is no manifest of predictions ({error}); give a new folder") from error
        # Where no shard is finished, as after a mistyped source, another run may begin.
        if what and any(out.glob(SHARD_PATTERN)):
            raise ConfigError(f"{out} holds the predictions of another run: {what}; give a new folder")
    elif any(not each.name.startswith(".") for each in out.iterdir()):
        raise ConfigError(f"{out} is not empty and holds no {MANIFEST_FILE}; give a new folder")
    remove_leftovers(out)
    # Without the shards: a reader sees by their list that all are there.
    _write_manifest(path, {"settings": settings})


def _finish(out: Path, settings: dict[str, Any], parts: Sequence[Part]) -> None:
    listed = {part.file for part in parts}
    for path in out.glob(SHARD_PATTERN):
        # Of an earlier run, on more images than there are now.
        if path.name not in listed:
            path.unlink()
    counts = {"images": sum(part.images for part in parts), "failed": sum(part.failed for part in parts)}
    shards = [asdict(part) for part in parts]
    _write_manifest(out / MANIFEST_FILE, {"settings": settings, **counts, "shards": shards})


def _write_manifest(path: Path, document: dict[str, Any]) -> None:
    # ASCII alone, as in the shards: a path may hold bytes that are no UTF-8.
    write_atomically(path, (json.dumps({"format": FORMAT, **document}, indent=1) + "\n").encode("ascii"))
