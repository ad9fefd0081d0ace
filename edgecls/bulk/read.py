"""Decode the images of a shard, reading ahead where that is faster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.cpus import default_threads
from edgecls.bulk import storage
from edgecls.bulk.shards import Shard, open_images
from edgecls.errors import DataError
from edgecls.images.decode import Source, load_gray
from edgecls.model_file.metadata import ModelSpec
from edgecls.runtime.classifier import map_ahead

# A file of a bucket takes tens of milliseconds to arrive and almost no CPU time.
URL_READERS = 16


def decode_shard(
    shard: Shard, spec: ModelSpec, folder: Path, threads: int | None
) -> Iterator[tuple[str, NDArray[np.uint8] | DataError]]:
    """Yield the name of each image and its pixels, uint8 (H, W, 1), 0..255, or why there are none.

    Args:
        shard: of `shards.cut`.
        spec: whose height and width they get.
        folder: that relative paths start from.
        threads: 1 reads paths in the caller's thread, more read ahead. None takes `threads.default_threads()`.

    Raises:
        DataError: the table of the shard cannot be read. StorageError: a storage does not answer.
    """

    def decode(image: tuple[str, Source | None]) -> NDArray[np.uint8] | DataError:
        name, source = image
        try:
            if source is None:
                raise DataError(f"{name} is empty; fill or remove it")
            if isinstance(source, str):
                source = storage.read_file(source)
            return load_gray(source, spec.height, spec.width, spec.bits)
        except DataError as error:
            return error

    readers = default_threads() if threads is None else threads
    if shard.table is None and any(map(storage.is_url, shard.names)):
        readers = URL_READERS
    images = open_images(shard, folder)
    # One thread does not read ahead: a worker with one CPU uses one.
    found = ((image, decode(image)) for image in images) if readers == 1 else map_ahead(decode, images, readers)
    for (name, _), pixels in found:
        yield name, pixels
