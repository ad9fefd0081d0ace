"""A run of two folders of images: what is kept of the first one's, what is computed, and what later commands do."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from command_line import run
from tiny import make_data

from edgecls.audit.material import read_material
from edgecls.config import TrainConfig
from edgecls.training.features import cache


def arguments(config: TrainConfig) -> list[object]:
    settings = ["--image-size", config.image_size, "--alpha", config.alpha, "--weights", config.weights]
    return [*settings, "--effort", "quick", "--augmented-copies", 0]


def test_a_second_folder_adds_to_the_first(
    tiny_data: Path, tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more, runs, missing, compute = (
        make_data(tmp_path / "more", 9),
        [tmp_path / "one", tmp_path / "two"],
        [],
        cache._compute,
    )
    shutil.rmtree(more / "dark")
    (more / "striped").rename(more / "hatched")

    def count(folder: Path, forward: object, images: object, digests: object, new: set[bytes], *rest: object) -> None:
        missing.append(len(new))
        compute(folder, forward, images, digests, new, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cache, "_compute", count)
    for out, folders in zip(runs, ([tiny_data], [tiny_data, more]), strict=True):
        missing.clear()
        # Other images could choose another number of blocks, of which no features are cached.
        done = run("train", *folders, "--out", out, "--blocks", "all", *arguments(tiny_config))
        assert done.exit_code == 0, done.stderr
    # Of the first folder everything is cached.
    assert sum(missing) <= 2 * 9
    assert f"{more} is split by the time of the last change" in done.stderr and "Only" in done.stderr
    assert f"edgecls sweep {tiny_data} {more}\n" in done.stdout
    one, two = (json.loads((out / "run.json").read_text()) for out in runs)
    assert two["classes"] == ["bright", "dark", "hatched", "striped"] and two["folders"] == [str(tiny_data), str(more)]
    root = Path(two["data"])
    for part, classes in one["split"].items():
        for name, paths in classes.items():
            first = [root / path for path in two["split"][part][name] if (root / path).is_relative_to(tiny_data)]
            assert first == [tiny_data / path for path in paths]
    page = run("report", runs[1])
    assert (
        page.exit_code == 0 and f"edgecls train {tiny_data} {more} --out two" in (runs[1] / "report.html").read_text()
    )
    exported = run("export", runs[1], "--fp32", "--format", "onnx", "--max-drop", 1)
    assert exported.exit_code == 0, exported.stderr
    again = run("train", *[tiny_data, more], "--out", tmp_path / "again", "--preview", *arguments(tiny_config))
    assert again.exit_code == 0 and "is split as it is alone" in again.stderr


def test_an_audit_sees_all_folders_and_the_groups_of_the_first(
    tiny_data: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    more = make_data(tmp_path / "more", 9)
    config = dataclasses.replace(tiny_config, more_data=(str(more),), group=r"(\d)")
    material = read_material(tiny_data, config)
    assert len(material.paths) == 3 * (14 + 9) == len(material.digests)
    grouped = [material.dataset.root / path for path in material.group_of]
    assert len(grouped) == 3 * 14 and all(path.is_relative_to(tiny_data) and path.is_file() for path in grouped)
