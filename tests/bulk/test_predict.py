"""Predictions in shards: the same bytes from one process and from a cluster, whatever dies meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from bulk_predict_cases import Spy, content, copy_photos, entries, make_sources, predict
from command_line import run
from pool_jobs import predict_or_die

from edgecls.bulk import model as model_module
from edgecls.bulk.model import Model, pack_model
from edgecls.bulk.predict import Done, predict_all
from edgecls.errors import ConfigError, DataError
from edgecls.files import locked
from edgecls.parallel import ray
from edgecls.parallel.pool import LocalPool, Pool
from edgecls.parallel.ray import RayPool


@pytest.fixture(scope="module")
def photos(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three classes, one of them damaged."""
    return copy_photos(tiny_data, tmp_path_factory.mktemp("bulk") / "photos")


def test_the_lines_are_those_of_predict(tiny_tflite: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert predict(tiny_tflite, [photos], out) == Done(images=43, failed=1, kept=0)
    lines = run("predict", tiny_tflite, photos, "--format", "jsonl").stdout.splitlines()
    found = entries(out)
    assert [each for each in found if "error" not in each] == [json.loads(line) for line in lines]
    (bad,) = [each for each in found if "error" in each]
    assert bad["image"] == str(photos / "dark" / "09b.png") and "is not a PNG" in bad["error"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["images"], manifest["failed"]) == (43, 1)
    assert [each["images"] for each in manifest["shards"]] == [5] * 8 + [3]
    assert sorted(content(out)) == ["manifest.json", *(each["file"] for each in manifest["shards"])]


@pytest.mark.parametrize("kind", ["folder", "list", "table", "url"])
@pytest.mark.parametrize("fixture", ["tiny_tflite", "tiny_onnx"])
def test_a_cluster_writes_the_same_bytes(
    kind: str, fixture: str, photos: Path, tmp_path: Path, ray_pool_2: RayPool, request: pytest.FixtureRequest
) -> None:
    file, sources = request.getfixturevalue(fixture), make_sources(photos, tmp_path)[kind]
    here, there = tmp_path / "here", tmp_path / "there"
    assert predict(file, sources, here) == predict(file, sources, there, ray_pool_2)
    assert content(there) == content(here)
    labels = [each.get("label") for each in entries(here)]
    predict(file, [photos], tmp_path / "folder")
    expected = [each.get("label") for each in entries(tmp_path / "folder")]
    if kind == "table":
        expected[7] = None
    assert labels == expected and len(set(labels)) > 2


def test_a_worker_killed_before_it_hands_in_changes_nothing(
    tiny_tflite: Path, photos: Path, tmp_path: Path, ray_pool_2: RayPool
) -> None:
    log, here, there = tmp_path / "log", tmp_path / "here", tmp_path / "there"
    predict(tiny_tflite, [photos], here)
    predict(tiny_tflite, [photos], there, Spy(ray_pool_2, function=predict_or_die, shared=(log, 3)))
    assert content(there) == content(here)
    assert Counter(log.read_text().split()) == Counter(map(str, [*range(9), 3]))


# Again
@pytest.mark.parametrize("last", [1, 5])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(
    last: int, tiny_tflite: Path, photos: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    predict(tiny_tflite, [photos], whole)
    with pytest.raises(KeyboardInterrupt):
        predict(tiny_tflite, [photos], out, Spy(LocalPool(), last))
    assert "shards" not in json.loads((out / "manifest.json").read_text())
    again = Spy(LocalPool())
    reported: list[Done] = []
    done = predict(tiny_tflite, [photos], out, again, progress=reported.append)
    # The fifth shard has the image that is none.
    retried = int(last == 5)
    assert again.jobs == list(range(last - retried, 9))
    assert done == reported[-1] == Done(images=43, failed=1, kept=5 * last - retried, retried=retried)
    assert content(out) == content(whole)


def test_only_what_is_missing_or_damaged_is_made_again(tiny_tflite: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(tiny_tflite, [photos], out)
    whole = content(out)
    (out / "shard-00000001.jsonl").unlink()
    (out / "shard-00000003.jsonl").write_bytes(whole["shard-00000003.jsonl"][:-9])
    (out / "shard-00000005.jsonl").write_bytes(whole["shard-00000004.jsonl"])
    (out / "shard-00000006.jsonl").write_text("[]\n")
    (out / ".shard-00000007.jsonl.0a1b2c3d.tmp").write_bytes(b"left by a killed process")
    again, reported = Spy(LocalPool()), list[str]()
    predict(tiny_tflite, [photos], out, again, report=reported.append)
    assert again.jobs == [1, 3, 4, 5, 6]
    assert [text.removeprefix(f"{out}/").removesuffix(". Its images are predicted again") for text in reported] == [
        "shard-00000001.jsonl is missing",
        *(f"shard-0000000{number}.jsonl was changed" for number in (3, 5, 6)),
    ]
    assert content(out) == whole


def test_images_that_came_and_went_since_then(tiny_tflite: Path, photos: Path, tmp_path: Path) -> None:
    data, out = Path(shutil.copytree(photos, tmp_path / "photos")), tmp_path / "out"
    predict(tiny_tflite, [data], out)
    shutil.copy(data / "dark" / "04.png", data / "striped" / "99.png")
    again = Spy(LocalPool())
    predict(tiny_tflite, [data], out, again)
    assert again.jobs == [4, 8]
    shutil.rmtree(data / "striped")
    predict(tiny_tflite, [data], out)
    fresh = tmp_path / "fresh"
    predict(tiny_tflite, [data], fresh)
    assert content(out) == content(fresh)


def test_the_folder_of_another_run_is_refused(tiny_tflite: Path, tiny_onnx: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(tiny_tflite, [photos], out)
    before = content(out)
    for arguments, options, changed in [
        ((tiny_onnx, [photos]), {}, "file_sha256"),
        ((tiny_tflite, [photos / "dark"]), {}, "sources"),
        ((tiny_tflite, [photos]), {"shard_images": 6}, r"shard_images \(5 then, 6 now\)"),
    ]:
        with pytest.raises(ConfigError, match=f"holds the predictions of another run: .*{changed}"):
            predict(*arguments, out, **options)  # type: ignore[arg-type]
    assert content(out) == before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("notes.txt", "mine", r"is not empty and holds no manifest.json"),
        ("manifest.json", "[]", r"is not a manifest of predictions"),
        ("manifest.json", '{"settings": 3}', r"is not a manifest of predictions"),
        ("manifest.json", "{", r"is not a manifest of predictions"),
    ],
)
def test_a_folder_of_something_else_is_left_alone(
    name: str, text: str, message: str, tiny_tflite: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        predict(tiny_tflite, [photos], out)
    assert content(out) == {name: text.encode()}


def test_names_that_are_no_utf_8_are_resumed(tiny_tflite: Path, photos: Path, tmp_path: Path) -> None:
    odd, out = tmp_path / "caf\udce9", tmp_path / "out"
    shutil.copytree(photos / "striped", odd)
    for kept in (0, 14):
        assert predict(tiny_tflite, [odd], out).kept == kept
    assert {each["image"].rpartition("/")[0] for each in entries(out)} == {str(odd)}


def test_after_a_mistake_that_wrote_nothing_the_folder_is_free(tiny_tflite: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match="cannot open|cannot read"):
        predict(tiny_tflite, [tmp_path / "none.txt"], out)
    predict(tiny_tflite, [photos], out)
    assert len(entries(out)) == 43


def test_two_at_once_are_refused(tiny_tflite: Path, photos: Path, tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ConfigError, match="another process writes"):
        predict(tiny_tflite, [photos], tmp_path)


def test_no_image_at_all(tiny_tflite: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(DataError, match=r"list.txt holds no image"):
        predict(tiny_tflite, [tmp_path / "list.txt"], tmp_path / "out")


def test_a_worker_of_another_version_is_refused(
    tiny_tflite: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = LocalPool()
    packed = pack_model(tiny_tflite.read_bytes(), pool)
    monkeypatch.setattr(model_module, "__version__", "9.9")
    model_module.open_model.cache_clear()
    with pytest.raises(ConfigError, match=r"a worker has edgecls 9.9 and litert .*install the same versions"):
        predict_all(packed, [str(photos)], tmp_path / "out", pool)


def test_a_model_is_opened_once_for_all_shards(tiny_tflite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    packed = pack_model(tiny_tflite.read_bytes(), LocalPool())
    assert model_module.open_model(packed) is model_module.open_model(pickle.loads(pickle.dumps(packed)))
    other = Model(**{**vars(packed), "threshold": 0.9})
    assert model_module.open_model(other).threshold == 0.9


# The command
def test_the_command_says_what_it_did_and_exits_with_1_for_bad_images(
    tiny_tflite: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for kept in ("", ", 42 of them earlier, 1 that had failed tried again"):
        done = run("predict", tiny_tflite, photos, "--out", out, "--shard-images", 10)
        assert done.exit_code == 1
        assert done.stdout == f"43 images{kept}; {out / 'manifest.json'} lists the files\n"
        assert "1 of 43 images could not be read; their lines hold the error. The same command tries" in done.stderr
    assert len(list(out.glob("shard-*.jsonl"))) == 5
    good = run("predict", tiny_tflite, (photos / "striped").as_uri(), "--out", tmp_path / "good", "--threshold", 1)
    assert (good.exit_code, good.stderr) == (0, "")
    assert {each["label"] for each in entries(tmp_path / "good")} == {None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ray", "local"], "--ray needs --out DIR, because it works on shards of images"),
        (["--out", "out", "--json"], "--out excludes --watch, --host, --format, --json"),
        (["--out", "out", "--watch", "in"], "--out excludes --watch"),
        (["--out", "out", "--host", "pi@board"], "--out excludes --watch, --host"),
        (["--out", "out", "-"], "and an image on stdin"),
        (["--out", "out", "--shard-images", "0"], "--shard-images"),
        (["s3://bucket/a.png"], "s3://bucket/a.png is a URL; URLs need --out DIR"),
        (["--out", "out", "--ray", "nowhere"], "'nowhere' is not the address of a Ray cluster"),
    ],
)
def test_wrong_usage(options: list[str], message: str, tiny_tflite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    done = run("predict", tiny_tflite, "a.png", *options)
    assert done.exit_code == 2 and message in done.stderr


def test_without_the_flag_nothing_imports_ray_or_pyarrow(tiny_tflite: Path, photos: Path, tmp_path: Path) -> None:
    code = "import sys\nfrom edgecls.cli import main\nmain(sys.argv[1:], standalone_mode=False)\nprint(*sys.modules)"
    arguments = [str(each) for each in ("predict", tiny_tflite, photos / "striped", "--out", tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.split())
    assert "edgecls.bulk.predict" in modules
    assert modules & {"ray", "pyarrow", "fsspec", "pandas", "tensorflow"} == set()


def workers_below(pid: int) -> list[int]:
    """Return the processes that Ray runs jobs in, of the cluster that a process started."""
    found, below = [], {pid}
    for folder in sorted(
        (each for each in Path("/proc").iterdir() if each.name.isdigit()), key=lambda each: int(each.name)
    ):
        try:
            status, title = (folder / "stat").read_text(), (folder / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(status.rpartition(")")[2].split()[1]) in below:
            below.add(int(folder.name))
            found += [int(folder.name)] if title.startswith(b"ray::predict_shard") else []
    return found


def test_a_cluster_of_the_commands_own_survives_a_sigkill(tiny_tflite: Path, photos: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    # Long enough to be met in the middle of it.
    many = [photos] * 60
    predict(tiny_tflite, many, here, shard_images=100)
    command = [sys.executable, "-m", "edgecls", "predict", tiny_tflite, *many, "--out", there]
    started = subprocess.Popen(
        [*map(str, command), "--ray", "local:2", "--shard-images", "100"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while not (busy := workers_below(started.pid)) and started.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(busy[0], signal.SIGKILL)
    stdout, stderr = started.communicate(timeout=120)
    assert started.returncode == 1, stderr
    assert stdout.decode() == f"2,580 images; {there / 'manifest.json'} lists the files\n"
    assert b"worker died" in stderr and b"60 of 2,580 images could not be read; their lines hold the error" in stderr
    assert content(there) == content(here)


def test_the_cli_pool_is_a_cluster_only_with_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecls.cli.bulk import pool_at

    asked: list[Any] = []

    def connect(*arguments: Any) -> contextlib.AbstractContextManager[Pool]:
        asked.append(arguments)
        return contextlib.nullcontext(LocalPool())

    monkeypatch.setattr(ray, "connect", connect)
    with pool_at(None) as pool:
        assert isinstance(pool, LocalPool) and asked == []
    with pool_at("head:1", 3):
        assert asked == [("head:1", 3)]
