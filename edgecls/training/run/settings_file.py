"""The settings of a run in progress: an interrupted run is resumed only with the same settings, images and weights."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from edgecls.config import TrainConfig
from edgecls.errors import ConfigError
from edgecls.files import read_json, write_atomically
from edgecls.images.dataset import Dataset
from edgecls.networks.weights import Weights
from edgecls.validation import list_changes

SETTINGS_FILE = "settings.json"


def describe_settings(config: TrainConfig, dataset: Dataset, weights: Weights | None) -> dict[str, Any]:
    """Return JSON of the settings, images and weights of a run."""
    digest = hashlib.sha256()
    for part in (dataset.train, dataset.val):
        digest.update(b"".join(part.digests) + part.labels.tobytes())
    settings = {
        **dataclasses.asdict(config),
        "images": digest.hexdigest(),
        "classes": dataset.classes,
        "weights' sha256": weights.sha256 if weights else None,
    }
    # Through JSON, so that tuples compare equal to the lists that are read back.
    described: dict[str, Any] = json.loads(json.dumps(settings))
    return described


def check_settings(work: Path, now: dict[str, Any]) -> str:
    """Write the settings file, after comparing it with an interrupted run's, and return an identifier of the run.

    Raises:
        ConfigError: the interrupted run had other settings, images or weights, or its file is damaged.
    """
    path, made_of = work / SETTINGS_FILE, {name: value for name, value in now.items() if name != "time_budget_s"}
    if path.exists():
        try:
            what = list_changes(read_json(path), made_of)
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"{path} is damaged ({error}); delete it to resume, or remove {work} to start again "
                "('edgecls train --overwrite' does)"
            ) from error
        if what:
            raise ConfigError(
                f"the interrupted run in {work} was made with other settings: {what}; give the same ones, or "
                "remove that folder to start again ('edgecls train --overwrite' does)"
            )
    write_atomically(path, json.dumps(now, indent=1).encode())
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
