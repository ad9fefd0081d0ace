"""Predictions in shards, called again: what failed is tried again, what was changed is made again, the rest stays."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from bulk_predict_cases import Spy, content, copy_photos, entries, make_sources, predict
from command_line import run

from edgecls.bulk import predict as predict_module
from edgecls.bulk.model import Model
from edgecls.bulk.predict import Done, predict_shard
from edgecls.parallel.pool import LocalPool


@pytest.fixture(scope="module")
def photos(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three classes, one of them damaged."""
    return copy_photos(tiny_data, tmp_path_factory.mktemp("bulk") / "photos")


def test_images_that_could_not_be_read_are_tried_again(
    tiny_tflite: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount that is away, no descriptors left, a disk that fails: errors of an hour and not of the image."""
    data, away, out = Path(shutil.copytree(photos, tmp_path / "data")), tmp_path / "away", tmp_path / "out"
    (tmp_path / "list.txt").write_text("\n".join(map(str, sorted(data.rglob("*.*")))))
    predict(tiny_tflite, [tmp_path / "list.txt"], whole := tmp_path / "whole")
    (data / "striped").rename(away)
    real, faults = Path.open, iter([errno.EMFILE, errno.EIO, errno.ESTALE])

    def fail(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.parent.name == "bright" and (fault := next(faults, 0)):
            raise OSError(fault, os.strerror(fault))
        return real(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        done = predict(tiny_tflite, [tmp_path / "list.txt"], out)
    assert done == Done(images=43, failed=14 + 3 + 1)
    good = {each["image"]: each for each in entries(out) if "error" not in each}
    away.rename(data / "striped")
    # What was right stays, whatever became of the image since.
    (data / "dark").rename(away)
    again = predict(tiny_tflite, [tmp_path / "list.txt"], out)
    assert again == Done(images=43, failed=1, kept=25, retried=18)
    assert good.items() <= {each["image"]: each for each in entries(out)}.items()
    away.rename(data / "dark")
    predict(tiny_tflite, [tmp_path / "list.txt"], out)
    assert content(out) == content(whole)


@pytest.mark.parametrize("kind", ["list", "table"])
def test_one_image_more_that_can_be_read_costs_one(
    kind: str, tiny_tflite: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, out = make_sources(photos, tmp_path)[kind], tmp_path / "out"
    predict(tiny_tflite, sources, out)
    seen: list[frozenset[int] | None] = []

    def spy(model: Model, shard: Any) -> list[bytes]:
        seen.append(shard.wanted)
        return predict_shard(model, shard)

    before = content(out)
    monkeypatch.setattr(predict_module, "predict_shard", spy)
    predict(tiny_tflite, sources, out)
    assert seen and all(wanted is not None and len(wanted) == 1 for wanted in seen)
    assert content(out) == before


def test_a_checksum_that_was_changed_costs_its_shard_and_nothing_else(
    tiny_tflite: Path, photos: Path, tmp_path: Path
) -> None:
    whole, out, reported = tmp_path / "whole", tmp_path / "out", list[str]()
    predict(tiny_tflite, [photos], whole)
    with pytest.raises(KeyboardInterrupt):
        predict(tiny_tflite, [photos], out, Spy(LocalPool(), 4))
    sums = out / predict_module.SUMS_FILE
    lines = sums.read_bytes().splitlines(keepends=True)
    sums.write_bytes(b"\xff\0" + lines[0] + lines[1] + b"junk\n" + lines[2][:30])
    again = Spy(LocalPool())
    predict(tiny_tflite, [photos], out, again, report=reported.append)
    assert again.jobs == [0, *range(2, 9)]
    assert ["was not finished" in text for text in reported] == [False, True, True]
    assert content(out) == content(whole)


def test_an_answer_that_was_changed_afterwards_is_predicted_again(
    tiny_tflite: Path, photos: Path, tmp_path: Path
) -> None:
    """Still JSON, still the same images: only a checksum tells."""
    out = tmp_path / "out"
    predict(tiny_tflite, [photos / "striped"], out)
    whole, path = content(out), out / "shard-00000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"score": 0', b'"score": 1', 1))
    assert content(out) != whole
    done = run("predict", tiny_tflite, photos / "striped", "--out", out, "--shard-images", 5)
    assert done.exit_code == 0 and f"Warning: {path} was changed" in done.stderr
    assert content(out) == whole
