"""An exported file packed for the workers of a pool, and opened by them."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from edgecls import __version__
from edgecls.errors import ConfigError
from edgecls.model_file.read import detect_format
from edgecls.parallel.pool import Pool
from edgecls.preprocessing import Roi
from edgecls.runtime.classifier import Classifier, load
from edgecls.runtime.engines import choose_engine


@dataclass(frozen=True)
class Model:
    """An exported file and how to run it, for any process.

    Attributes:
        versions: of edgecls and the interpreter; workers need the same, because others may round differently.
    """

    data: bytes = field(repr=False, compare=False)  # the file's bytes
    sha256: str  # of these bytes
    engine: str  # a name in `engines.ENGINES`
    versions: tuple[str, str]
    threads: int | None  # of the interpreter and of decoding; None takes `cpus.default_threads()`
    device: str  # a name in `engines.DEVICES`
    threshold: float | None  # labels of lower scores are rejected; None takes the file's own
    folder: Path  # that relative paths of images start from
    roi: Roi | None = None  # of each image; None takes the file's own


def pack_model(
    data: bytes,
    pool: Pool,
    *,
    engine: str | None = None,
    threads: int | None = None,
    device: str = "cpu",
    threshold: float | None = None,
    roi: Roi | None = None,
    untrusted: bool = False,
) -> Model:
    """Load an exported file once and return it packed for a pool; arguments and errors are those of `load`."""
    name = choose_engine(detect_format(data), engine, device)
    threads = threads or pool.threads
    with load(
        data, engine=name, threads=threads, device=device, threshold=threshold, roi=roi, untrusted=untrusted
    ) as opened:
        versions = _versions(opened)
    return Model(data, hashlib.sha256(data).hexdigest(), name, versions, threads, device, threshold, Path.cwd(), roi)


@functools.lru_cache(maxsize=1)
def open_model(model: Model) -> Classifier:
    """Return the classifier; a worker keeps it for its next shard.

    Raises:
        ConfigError: the worker has other versions than the machine that began the run. Others as `load`.
    """
    settings = {name: getattr(model, name) for name in ("engine", "threads", "device", "threshold", "roi")}
    opened = load(model.data, **settings)
    if (versions := _versions(opened)) != model.versions:
        raise ConfigError(
            f"a worker has {' and '.join(versions)}, this machine {' and '.join(model.versions)}; install the same "
            "versions everywhere"
        )
    return opened


def _versions(opened: Classifier) -> tuple[str, str]:
    return f"edgecls {__version__}", f"{opened.engine.name} {opened.engine.version}"
