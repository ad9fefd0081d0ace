"""Predict any number of images into a folder with one file for each shard, each complete and written once.

Only this process writes. If a worker dies, its shard is given to another. The same call again works on shards that
are missing or damaged, and on images that could not be used: a mount or a permission may have been restored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgecls.bulk.model import Model, open_model
from edgecls.bulk.shards import Shard, cut, decode_shard
from edgecls.errors import ConfigError, DataError
from edgecls.files import locked, read_json, remove_leftovers, write_atomically
from edgecls.images.leftovers import LeftOut
from edgecls.limits import SHARD_IMAGES
from edgecls.messages.lists import some
from edgecls.parallel.pool import LocalPool, Pool
from edgecls.runtime.classifier import to_entry
from edgecls.validation import list_changes

MANIFEST_FILE, SHARD_PATTERN = "manifest.json", "shard-*.jsonl"
# While the manifest lists no shards: a line "sha256  file" for each finished one, as sha256sum writes it.
SUMS_FILE = ".shards.sha256"
FORMAT = 1


@dataclass(frozen=True)
class ShardEntry:
    """The manifest's entry of a shard's file."""

    file: str
    images: int
    failed: int
    sha256: str


@dataclass(frozen=True)
class Done:
    """How many images are done."""

    images: int = 0  # in all finished shards
    failed: int = 0  # of these, how many could not be used
    kept: int = 0  # how many an earlier call had finished
    retried: int = 0  # how many an earlier call could not use and this one tried again


def predict_all(
    model: Model,
    sources: Sequence[str],
    out: Path,
    pool: Pool | None = None,
    *,
    shard_images: int = SHARD_IMAGES,
    left_out: LeftOut | None = None,
    progress: Callable[[Done], object] = lambda done: None,
    report: Callable[[str], object] = lambda text: None,
) -> Done:
    """Predict the sources' images and return the counts; `out` then holds their shards, no others, and a manifest.

    Args:
        model: of `pack_model`.
        sources: as `shards.cut` takes them.
        out: folder; new, or of the same call before.
        pool: that predicts; None is this process.
        shard_images: images a file.
        left_out: counts the files of folders that are no images.
        progress: called after each shard.
        report: gets a line for each file that is not what an earlier call wrote.

    Raises:
        ConfigError: `out` holds something else, or another process writes into it. DataError: sources cannot be listed.
        EdgeclsError: as the pool raises it. What is finished stays.
    """
    settings = _settings(model, sources, shard_images)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with locked(out, wait=False):
            earlier = _Earlier(out, _begin(out, settings), report)
            shards = cut(sources, shard_images, left_out)
            parts, done = _Writer(out, earlier, progress).fill(model, shards, pool or LocalPool())
            if not parts:
                raise DataError(f"{some(sources)} holds no image; pass files, folders, lists or tables")
            _finish(out, settings, parts)
    except BlockingIOError as error:
        raise ConfigError(f"another process writes {out}; wait for it, or give another folder") from error
    return done


def _settings(model: Model, sources: Sequence[str], shard_images: int) -> dict[str, Any]:
    """Return everything that the predictions in a folder depend on."""
    of_model = {"file_sha256": model.sha256, "versions": list(model.versions), "device": model.device}
    of_images = {"sources": list(sources), "folder": str(model.folder), "shard_images": shard_images}
    # Left out if it is the file's own, as in folders of older versions.
    roi = {} if model.roi is None else {"roi": list(model.roi)}
    return {**of_model, "threshold": model.threshold, **roi, **of_images}


def predict_shard(model: Model, shard: Shard) -> list[bytes]:
    """Return the JSON lines of a shard's wanted images, as of `predict --format jsonl` or with an "error".

    Raises:
        ConfigError: see `open_model`. Others as `load` and `decode_shard`.
    """
    classifier = open_model(model)
    spec, entries = classifier.spec, []
    for name, image in decode_shard(shard, spec, model.folder, model.threads):
        if isinstance(image, DataError):
            entries.append({"image": name, "error": str(image)})
        else:
            entries.append(to_entry(name, classifier.classify(image), spec))
    return [f"{json.dumps(entry)}\n".encode() for entry in entries]


class _Earlier:
    """The shards that earlier calls finished, checked against the checksums from then."""

    def __init__(self, out: Path, sums: dict[str, str], report: Callable[[str], object]) -> None:
        self._out, self._sums, self._report = out, sums, report

    def find_lines(self, shard: Shard) -> list[bytes]:
        """Return the lines of a finished shard; [] if it is missing, damaged, or of other images."""
        name = _file_name(shard)
        path, expected = self._out / name, self._sums.get(name)
        data = path.read_bytes() if path.is_file() else None
        if data is None and expected is None:
            return []
        if data is None or hashlib.sha256(data).hexdigest() != expected:
            what = "is missing" if data is None else "was changed" if expected else "was not finished"
            self._report(f"{path} {what}. Its images are predicted again")
            return []
        lines = data.splitlines(keepends=True)
        # Otherwise images were added or removed.
        return lines if [json.loads(line)["image"] for line in lines] == list(shard.names) else []


class _Writer:
    """Writes the shards that are missing, and counts all."""

    def __init__(self, out: Path, earlier: _Earlier, progress: Callable[[Done], object]) -> None:
        self._out, self._earlier, self._progress = out, earlier, progress
        self._parts: dict[int, ShardEntry] = {}
        self._kept: dict[int, list[bytes]] = {}
        self._done = Done()

    def fill(self, model: Model, shards: Iterator[Shard], pool: Pool) -> tuple[list[ShardEntry], Done]:
        """Write what is missing of the shards, and return all in their order."""
        with (self._out / SUMS_FILE).open("a", encoding="ascii") as sums:
            for shard, result in pool.map(predict_shard, model, self._missing(shards)):
                before = self._kept.pop(shard.number, [])
                lines = _merge(before, shard, result)
                if lines != before:
                    write_atomically(self._out / _file_name(shard), b"".join(lines))
                    # Last: a line means that the file exists.
                    sums.write(_sum_line(_file_name(shard), _sha256(lines)))
                    sums.flush()
                self._count(shard, lines, len(shard.names if shard.wanted is None else shard.wanted))
        return [self._parts[number] for number in sorted(self._parts)], self._done

    def _missing(self, shards: Iterator[Shard]) -> Iterator[Shard]:
        for shard in shards:
            lines = self._earlier.find_lines(shard)
            if failed := _failed(lines):
                self._kept[shard.number] = lines
                yield replace(shard, wanted=failed)
            elif lines:
                self._count(shard, lines, 0)
            else:
                yield shard

    def _count(self, shard: Shard, lines: Sequence[bytes], new: int) -> None:
        done, count, failed = self._done, len(shard.names), len(_failed(lines))
        self._parts[shard.number] = ShardEntry(_file_name(shard), count, failed, _sha256(lines))
        retried = done.retried + len(shard.wanted or ())
        self._done = Done(done.images + count, done.failed + failed, done.kept + count - new, retried)
        self._progress(self._done)


def _merge(before: list[bytes], shard: Shard, lines: list[bytes]) -> list[bytes]:
    """Return all lines of a shard, with new ones for its wanted images."""
    if shard.wanted is None:
        return lines
    merged = list(before)
    for place, line in zip(sorted(shard.wanted), lines, strict=True):
        merged[place] = line
    return merged


def _failed(lines: Sequence[bytes]) -> frozenset[int]:
    """Return the positions of the lines of unusable images."""
    # Parsed only if the line holds the word, which may be a label.
    return frozenset(n for n, line in enumerate(lines) if b'"error"' in line and "error" in json.loads(line))


def _sha256(lines: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(lines)).hexdigest()


def _sum_line(file: str, sha256: str) -> str:
    return f"{sha256}  {file}\n"


def _file_name(shard: Shard) -> str:
    return SHARD_PATTERN.replace("*", f"{shard.number:08}")


def _begin(out: Path, settings: dict[str, Any]) -> dict[str, str]:
    """Return the sha256 of each finished shard; write the settings into `out`, or check that they are the same."""
    path, sums = out / MANIFEST_FILE, {}
    if path.exists():
        try:
            before = read_json(path)
            what = list_changes(before["settings"], settings)
            sums = {str(part["file"]): str(part["sha256"]) for part in before.get("shards", ())}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} is not a manifest of predictions ({error}); give a new folder") from error
        # If no shard is finished, as after a mistyped source, another run may begin.
        if what and any(out.glob(SHARD_PATTERN)):
            raise ConfigError(f"{out} holds the predictions of another run: {what}; give a new folder")
    elif any(not each.name.startswith(".") for each in out.iterdir()):
        raise ConfigError(f"{out} is not empty and holds no {MANIFEST_FILE}; give a new folder")
    remove_leftovers(out)
    sums |= _read_sums(out / SUMS_FILE)
    write_atomically(out / SUMS_FILE, "".join(_sum_line(*item) for item in sums.items()).encode("ascii", "replace"))
    # Without the shards: their list means that all are complete.
    _write_manifest(path, {"settings": settings})
    return sums


def _read_sums(path: Path) -> dict[str, str]:
    """Return the sha256 of each file; a damaged line matches no file."""
    lines = path.read_text("ascii", "replace").splitlines() if path.is_file() else []
    return {file: sha256 for sha256, _, file in (line.partition("  ") for line in lines) if file}


def _finish(out: Path, settings: dict[str, Any], parts: Sequence[ShardEntry]) -> None:
    listed = {part.file for part in parts}
    for path in out.glob(SHARD_PATTERN):
        # From an earlier run on more images.
        if path.name not in listed:
            path.unlink()
    counts = {"images": sum(part.images for part in parts), "failed": sum(part.failed for part in parts)}
    shards = [asdict(part) for part in parts]
    _write_manifest(out / MANIFEST_FILE, {"settings": settings, **counts, "shards": shards})
    (out / SUMS_FILE).unlink()


def _write_manifest(path: Path, document: dict[str, Any]) -> None:
    # ASCII, as in the shards: a path may hold bytes that are not UTF-8.
    write_atomically(path, (json.dumps({"format": FORMAT, **document}, indent=1) + "\n").encode("ascii"))
