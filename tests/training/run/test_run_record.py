"""What run.json must hold, and tricks that it must not."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from report_run import make_run

from edgecls.errors import ModelFileError
from edgecls.training.run.run_folder import read_record, read_whole_record, write_record
from edgecls.training.run.run_record import check_record


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    return read_record(make_run(tmp_path))


def test_a_run_of_ours_is_accepted(record: dict[str, Any], tiny_run: Path) -> None:
    check_record(record)
    assert read_whole_record(tiny_run) == read_record(tiny_run)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("config", "image_size"), "96", "config.image_size must be a whole number; received '96'"),
        (("config", "image_size"), 10**9, "config.image_size must be 1 to"),
        (("config", "bits"), 17, "config.bits must be 8 to 16 or null; received 17"),
        (("config", "bits"), "12", "config.bits must be a whole number; received '12'"),
        (("config", "resize"), "fill", "config.resize must be one of stretch, crop, pad; received 'fill'"),
        (("config", "roi"), [0, 0, 0, 5], "config.roi must be left, top, width and height"),
        (("config", "roi"), [0, 0, 5], "config.roi must be left, top, width and height"),
        (("config", "roi"), "0,0,5,5", "config.roi must be a list"),
        (("classes",), ["only"], "two or more, all different"),
        (("classes",), ["a", "a"], "two or more, all different"),
        (("data",), "\0", "data must be the path of a folder"),
        (("held_out", "split"), "train", "held_out.split must be"),
        (("weights",), {}, "weights lacks sha256, source"),
        (("metrics", "macro_f1"), None, "metrics.macro_f1 must be a number; received None"),
        (("split", "train"), {}, "split.train must list the images of every class"),
        (("seconds",), "long", "seconds must be a number"),
        (("phases",), [{"name": "classifier"}], r"phases\[0\] lacks"),
        (("diagnosis",), [None], r"diagnosis\[0\] must be an object"),
    ],
)
def test_what_cannot_be_used_is_named(record: dict[str, Any], place: tuple[str, ...], value: Any, words: str) -> None:
    *parents, key = place
    holder = record
    for parent in parents:
        holder = holder[parent]
    holder[key] = value
    with pytest.raises(ValueError, match=words):
        check_record(record)


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/a.png", "a/../../b.png", "a\0b.png"])
@pytest.mark.parametrize("part", ["train", "val"])
def test_an_image_outside_of_the_folder_is_refused(
    record: dict[str, Any], tmp_path: Path, part: str, path: str
) -> None:
    changed = copy.deepcopy(record)
    next(iter(changed["split"][part].values())).append(path)
    write_record(tmp_path / "run", changed)
    with pytest.raises(ModelFileError, match=r"run\.json is damaged \(split names an image outside"):
        read_whole_record(tmp_path / "run")


def test_settings_of_a_wrong_type_are_reported(record: dict[str, Any]) -> None:
    from edgecls.config import TrainConfig
    from edgecls.report.settings import read_config

    odd: list[dict[str, Any]] = [
        {"epochs": None},
        {"filters": 5, "arch": "cnn"},
        {"augment": {"flip": []}},
        {"augment": 3},
    ]
    for changes in odd:
        with pytest.raises(ModelFileError, match=r"settings in run\.json are damaged"):
            read_config(dataclasses.asdict(TrainConfig()) | changes)
