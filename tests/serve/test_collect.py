from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecls.errors import ConfigError, DataError
from edgecls.images.find import find_images
from edgecls.images.leftovers import LeftOut
from edgecls.model_file.known_images import measure_known
from edgecls.runtime.classifier import Prediction
from edgecls.serve.collect import Collection, Limits, find_doubt

LABELS = ("bolt", "nut", "Mutter ä")
DOUBTFUL = Prediction("bolt", 0, 0.5, np.array([0.5, 0.4, 0.1], np.float32))
SURE = Prediction("bolt", 0, 0.9, np.array([0.9, 0.05, 0.05], np.float32))
REJECTED = Prediction(None, 0, 0.9, np.array([0.9, 0.05, 0.05], np.float32))


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 1)).astype(np.uint8)


def content(seed: int, size: int = 100) -> bytes:
    return b"\x89PNG" + bytes([seed % 256]) * (size - 4)


def images_in(root: Path) -> list[Path]:
    return [path for path in root.rglob("*.png") if path.parent.name != "records"]


def test_uncertain_images_are_kept_byte_by_byte_with_what_was_predicted(tmp_path: Path) -> None:
    collection = Collection(tmp_path, LABELS)
    assert collection.consider(content(1), pixels(1), SURE, "a.png") == ""
    identity = collection.consider(content(2), pixels(2), DOUBTFUL, "b.png")
    path = tmp_path / "collected" / f"{identity}.png"
    assert path.read_bytes() == content(2) and images_in(tmp_path) == [path]
    record = json.loads((tmp_path / "records" / f"{identity}.json").read_text(encoding="utf-8"))
    assert (record["image"], record["label"], record["reason"]) == ("b.png", "bolt", "low margin")
    assert record["scores"] == {"bolt": 0.5, "nut": 0.4, "Mutter ä": 0.1}
    assert collection.consider(content(3), pixels(3), REJECTED, "c.png")
    (first, second) = collection.list_unlabeled(10)
    assert (first["reason"], second["id"]) == ("rejected", identity) and "thumbnail" not in first


@pytest.mark.parametrize(
    ("scores", "doubt"), [([0.64, 0.36], "low margin"), ([0.66, 0.34], ""), ([1.0], ""), ([0.5, 0.5], "low margin")]
)
def test_doubt(scores: list[float], doubt: str) -> None:
    assert find_doubt(Prediction("a", 0, scores[0], np.array(scores, np.float32))) == doubt


def test_an_image_unlike_the_training_images_is_kept_although_its_score_is_high(tmp_path: Path) -> None:
    known = measure_known(np.tile([0.97, 0.02, 0.01], (5, 1)), np.tile([0.96, 0.03, 0.01], (5, 1)))
    like, unlike = (np.array(scores, np.float32) for scores in ([0.97, 0.02, 0.01], [0.97, 0.03, 1e-6]))
    collection = Collection(tmp_path, LABELS, known=known)
    assert not collection.consider(content(1), pixels(1), Prediction("bolt", 0, 0.97, like), "a.png")
    assert collection.consider(content(2), pixels(2), Prediction("bolt", 0, 0.97, unlike), "b.png")
    (record,) = collection.list_unlabeled(10)
    assert record["reason"] == "unlike training images"


def test_near_duplicates_are_not_kept_even_after_a_restart(tmp_path: Path) -> None:
    collection = Collection(tmp_path, LABELS)
    assert collection.consider(content(1), pixels(1), DOUBTFUL, "a")
    noisy = (pixels(1).astype(int) + np.random.default_rng(0).integers(-6, 7, (32, 32, 1))).clip(0, 255)
    assert not collection.consider(content(2), noisy.astype(np.uint8), DOUBTFUL, "b")
    collection.close()
    again = Collection(tmp_path, LABELS)
    assert not again.consider(content(2), noisy.astype(np.uint8), DOUBTFUL, "b")
    assert again.consider(content(2), pixels(2), DOUBTFUL, "b")


def test_the_limits_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("edgecls.serve.collect.time.monotonic", lambda: now[0])
    collection = Collection(tmp_path, LABELS, Limits(size_bytes=550, images_per_minute=3))
    kept = [bool(collection.consider(content(n), pixels(n), DOUBTFUL, "a")) for n in range(5)]
    assert kept == [True, True, True, False, False] and not collection.fault
    now[0] += 61
    kept = [bool(collection.consider(content(n), pixels(n), DOUBTFUL, "a")) for n in range(5, 9)]
    assert kept == [True, True, False, False]
    assert "has reached its limit of 550 bytes" in collection.describe()["fault"]
    assert sum(path.stat().st_size for path in images_in(tmp_path)) == collection.size_bytes == 500
    collection.delete(collection.list_unlabeled(1)[0]["id"])
    assert collection.consider(content(9), pixels(9), DOUBTFUL, "a") and not collection.fault
    with pytest.raises(ConfigError):
        Limits(images_per_minute=0)


def test_labels_move_images_into_class_folders(tmp_path: Path) -> None:
    collection = Collection(tmp_path, LABELS)
    first, second, third = (collection.consider(content(n), pixels(n), DOUBTFUL, "a") for n in range(3))
    collection.set_label(first, "Mutter ä")
    collection.set_label(second, None)
    assert (tmp_path / "labeled" / "Mutter ä" / f"{first}.png").read_bytes() == content(0)
    assert (tmp_path / "no-class" / f"{second}.png").is_file()
    collection.set_label(first, "nut")
    assert collection.path_of(first) == tmp_path / "labeled" / "nut" / f"{first}.png"
    assert [item["id"] for item in collection.list_unlabeled(9)] == [third]
    with pytest.raises(DataError, match="unknown label '../x'"):
        collection.set_label(third, "../x")
    for wrong in ("../records/x", first[:-1], ""):
        with pytest.raises(KeyError):
            collection.set_label(wrong, "nut")
        with pytest.raises(KeyError):
            collection.delete(wrong)
    assert [path.stem for path in find_images(tmp_path / "labeled", LeftOut())] == [first]
    assert collection.describe() == {
        "unlabeled": 1,
        "labeled": 2,
        "bytes": 300,
        "limit_bytes": 500_000_000,
        "fault": "",
    }


@pytest.mark.parametrize("label", ["..", "a/b", "a\\b", "c:", "."])
def test_labels_that_are_no_folder_names_are_refused(label: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a folder"):
        Collection(tmp_path, ("a", label))


def test_two_processes_do_not_collect_into_one_folder(tmp_path: Path) -> None:
    collection = Collection(tmp_path, LABELS)
    code = "import sys; from pathlib import Path; from edgecls.serve.collect import Collection; "
    code += "Collection(Path(sys.argv[1]), ('a',))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "another process collects into" in done.stderr
    collection.close()
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == 0


def test_a_disk_that_takes_nothing_costs_no_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = Collection(tmp_path, LABELS)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgecls.serve.collect.write_atomically", full)
    assert collection.consider(content(1), pixels(1), DOUBTFUL, "a") == ""
    assert "No space left on device" in collection.fault


KILLED = """
import sys
from pathlib import Path
import numpy as np
from test_collect import DOUBTFUL, LABELS, content, pixels
from edgecls.serve.collect import Collection, Limits

collection = Collection(Path(sys.argv[1]), LABELS, Limits(images_per_minute=10**6))
print("ready", flush=True)
for seed in range(int(sys.argv[2]), 10**9):
    identity = collection.consider(content(seed, 50_000), pixels(seed), DOUBTFUL, str(seed))
    # Written to the pipe at once: the test knows what was kept before the kill.
    print("kept", identity, seed % 256, flush=True)
    if seed % 2:
        label = (*LABELS, None)[seed % 4]
        collection.set_label(identity, label)
        print("labeled", identity, label, flush=True)
"""


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_nothing_is_half_written_or_lost(tmp_path: Path, kills: int) -> None:
    root, random_ = tmp_path / "collection", random.Random(kills)
    kept: dict[str, int] = {}
    places: dict[str, str] = {}
    paths = f"sys.path[:0] = {[str(Path(__file__).parent)]!r}\n"
    for attempt in range(kills):
        command = [sys.executable, "-c", "import sys\n" + paths + KILLED, str(root), str(attempt * 100_000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            # Counted, not timed: a busy machine would be killed before it kept an image.
            lines = [process.stdout.readline() for _ in range(random_.randrange(2, 12))]
            time.sleep(random_.uniform(0, 0.05))
            process.kill()
            for line in [*lines, *process.stdout.read().splitlines(keepends=True)]:
                word, *rest = line.rstrip("\n").split(" ", 2)
                if line.endswith("\n") and word == "kept":
                    kept[rest[0]] = int(rest[1])
                if line.endswith("\n") and word == "labeled":
                    places[rest[0]] = rest[1]
        collection = Collection(root, LABELS)
        found = {path.stem: path for path in images_in(root)}
        # At most the image of the moment of the kill is there without having been reported.
        assert set(kept) <= set(found) and len(set(found) - set(kept)) <= attempt + 1
        for identity, path in found.items():
            data = path.read_bytes()
            assert len(data) == 50_000 and len(set(data[4:])) == 1
            assert json.loads((root / "records" / f"{identity}.json").read_text(encoding="utf-8"))["reason"]
            assert identity not in kept or data[4] == kept[identity]
        for identity, label in places.items():
            expected = "no-class" if label == "None" else label
            assert found[identity].parent.name == expected
        assert len(list((root / "records").iterdir())) == len(found)
        collection.close()
    assert len(kept) > kills and places


def test_frames_of_a_camera_are_kept_without_loss(tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    collection = Collection(tmp_path, LABELS)
    identity = collection.consider(frame, pixels(0), DOUBTFUL, "camera 0")
    np.testing.assert_array_equal(np.asarray(Image.open(collection.path_of(identity))), frame)
