"""From a rare class to a better file: train, serve and collect, label, train again, compare.

One class is withheld from the training images but for five. The others of it, and some of the other classes, come as a
stream of frames. EDGECLS_LOOP_DATA names a folder with train/ and test/, and EDGECLS_LOOP_CLASS the class; without them
the images of the package are taken. `--log-cli-level=INFO` shows the figures.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from command_line import run
from model_copies import with_labels
from server import Server, start_server

from edgecls.demo import unpack_demo_data
from edgecls.model_file.read import read_spec

pytest.importorskip("starlette", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")

KEPT = 5
SECONDS = float(os.environ.get("EDGECLS_LOOP_SECONDS", "150"))
FRAME_S = 0.5
SETTINGS = ("--image-size", 96, "--effort", "quick", "--augmented-copies", 0)
log = logging.getLogger(__name__)


def withhold(source: Path, rare: str, root: Path) -> dict[str, Path]:
    """Copy the data set to root/photos without the stream; return the stream: name of a frame -> its image."""
    shutil.copytree(source, root / "photos")
    stream: dict[str, Path] = {}
    for folder in sorted((root / "photos" / "train").iterdir()):
        images = sorted(folder.iterdir())
        # Of other classes as many as of the rare one, together; the most of them stay.
        moved = images[KEPT:] if folder.name == rare else images[:: max(4, len(images) // 12)]
        for image in moved:
            (root / "stream" / folder.name).mkdir(parents=True, exist_ok=True)
            stream[f"{folder.name}-{image.name}"] = image.rename(root / "stream" / folder.name / image.name)
    return stream


def show_and_label(server: Server, inbox: Path, stream: Mapping[str, Path]) -> dict[str, int]:
    """Put frames into the inbox for a while, and label what the server collects; return the labels' counts."""
    counts: dict[str, int] = {}
    end = time.monotonic() + SECONDS
    for name, image in itertools.cycle(stream.items()):
        partial = inbox / "frame.partial"
        shutil.copyfile(image, partial)
        partial.replace(inbox / name)
        time.sleep(FRAME_S)
        for item in server.ask_json("/api/collected")["items"]:
            label = stream[item["image"]].parent.name
            server.ask_json(f"/api/collected/{item['id']}", "POST", json.dumps({"label": label}).encode())
            counts[label] = counts.get(label, 0) + 1
        if time.monotonic() > end:
            return counts
    raise AssertionError("there is no frame")


def train(out: Path, *folders: Path) -> tuple[Path, dict[str, Any]]:
    """Train and export; return the int8 TFLite file and run.json."""
    succeed("train", *folders, "--out", out, *SETTINGS)
    succeed("export", out, "--int8", "--format", "tflite", "--max-drop", 1)
    return out / "export" / "model-int8.tflite", json.loads((out / "run.json").read_text(encoding="utf-8"))


def succeed(*arguments: object) -> Result:
    done = run(*arguments)
    assert done.exit_code == 0, (arguments, done.output)
    return done


@pytest.mark.slow
def test_a_rare_class_is_learned_from_collected_frames(tmp_path: Path) -> None:
    given = os.environ.get("EDGECLS_LOOP_DATA")
    source = Path(given) if given else unpack_demo_data(tmp_path / "images")
    rare = os.environ.get("EDGECLS_LOOP_CLASS") or min(folder.name for folder in (source / "train").iterdir())
    stream = withhold(source, rare, tmp_path)
    photos, board, inbox = (tmp_path / name for name in ("photos", "board-photos", "inbox"))
    inbox.mkdir()
    old, first = train(tmp_path / "run", photos)
    with start_server(old, "--watch", inbox, "--collect", board) as server:
        labeled = show_and_label(server, inbox, stream)
    new, second = train(tmp_path / "run2", photos, board)
    for part, classes in first["split"].items():
        for name, paths in classes.items():
            assert {f"photos/{path}" for path in paths} <= set(second["split"][part][name])
    found = json.loads(succeed("compare", new, old, tmp_path / "run2", "--json").stdout)
    recall = found["per_class"][rare]["recall"]
    log.info("labeled %s; recall of %s %s; %s, accuracy %s", labeled, rare, recall, found["verdict"], found["accuracy"])
    assert labeled[rare] > KEPT and recall["new"] > recall["old"] and found["verdict"] != "worse"
    labels = read_spec(new).labels
    worse = with_labels(new, tmp_path / "worse.tflite", (*labels[1:], labels[0]))
    refused = run("compare", worse, old, tmp_path / "run2")
    assert refused.exit_code == 1 and "\nworse: " in refused.stdout
