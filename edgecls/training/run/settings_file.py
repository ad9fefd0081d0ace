"""The settings of a run: an interrupted or complete one is resumed only with the same settings and images."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgecls.config import TrainConfig
from edgecls.config.choices import ALL_BLOCKS, name_settings
from edgecls.errors import ConfigError
from edgecls.files import read_json, write_atomically
from edgecls.images.assign import Assignment
from edgecls.images.dataset import Dataset
from edgecls.networks.weights import Weights
from edgecls.training.run.run_folder import read_whole_record
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
            what = list_changes(_name_blocks(read_json(path)), _name_blocks(made_of))
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


def check_complete(out: Path, config: TrainConfig, found: Assignment) -> dict[str, Any]:
    """Return run.json of the complete run in the folder `out`, after checking that it is of these settings and images.

    Args:
        out: the run folder.
        config: the settings now.
        found: the images now; whether their content is the same is not looked at.

    Raises:
        ConfigError: it was made with other settings or images. ModelFileError: it is damaged.
    """
    record = read_whole_record(out)
    # JSON turns tuples into lists, as in the record.
    usual, now = (json.loads(json.dumps(dataclasses.asdict(each))) for each in (TrainConfig(), config))
    # A setting that an older version did not have was mostly what it usually is now.
    before = usual | name_settings(record["config"])
    asked, known = now["augment"], before["augment"]
    # The record has what training chose for "auto"; where it did not measure, that is "horizontal".
    if asked and known and asked["flip"] == "auto" and (record.get("flip_errors") or known["flip"] == "horizontal"):
        asked["flip"] = known["flip"]
    if record.get("depth_accuracies"):
        before["blocks"] = None
    before |= {"arch": record["arch"], "data": record["data"], "time_budget_s": config.time_budget_s}
    now |= {"data": str(found.root)}
    what = filter(None, [list_changes(_name_blocks(before), _name_blocks(now)), _describe_images(record, found)])
    if text := ", ".join(what):
        raise ConfigError(
            f"{out} was made with other settings: {text}; give --out another folder, or remove that run ('edgecls "
            "train --overwrite' does)"
        )
    return record


def _name_blocks(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return `settings` with one value for the number of blocks: a number, "all", or who chooses it."""
    blocks = settings.get("blocks") or ("chosen by training" if settings.get("choose_blocks") else ALL_BLOCKS)
    return {name: value for name, value in settings.items() if name != "choose_blocks"} | {"blocks": blocks}


def _describe_images(record: Mapping[str, Any], found: Assignment) -> str:
    """Return how many images have another class or split than in the record, or are gone or new; "" if none."""
    then = {(part, name, path) for part, named in record["split"].items() for name in named for path in named[name]}
    now = {(part, found.classes[label], path) for part in found.samples for path, label in found.samples[part]}
    skipped = {each["path"] for each in record.get("skipped", ())}
    new = [path for _, _, path in now - then if path not in skipped]
    return f"images ({len(then - now):,} gone, {len(new):,} new)" if then - now or new else ""
