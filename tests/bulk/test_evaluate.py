"""A cluster evaluates a file with exactly the results of one process."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import run

from edgecls.bulk import shards
from edgecls.parallel import ray
from edgecls.parallel.ray import RayPool


@pytest.fixture
def on_ray(ray_pool_2: RayPool, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Let `--ray` be the tests' cluster; return the addresses and threads that are asked for."""
    asked: list[tuple[str, int]] = []

    def connect(address: str, threads: int) -> contextlib.AbstractContextManager[RayPool]:
        asked.append((address, threads))
        return contextlib.nullcontext(ray_pool_2)

    monkeypatch.setattr(ray, "connect", connect)
    return asked


@pytest.mark.parametrize("name", ["model-int8.tflite", "model-fp32.tflite", "model-int8.onnx", "model-fp32.onnx"])
def test_the_command_prints_the_same(
    name: str, file_named: Callable[[str], Path], tiny_data: Path, on_ray: list[tuple[str, int]]
) -> None:
    local = run("evaluate", file_named(name), tiny_data, "--json")
    remote = run("evaluate", file_named(name), tiny_data, "--json", "--ray", "head:6379")
    assert on_ray == [("head:6379", 1)]
    assert remote.exit_code == 0 and remote.stdout == local.stdout
    assert json.loads(local.stdout)["images"] == 42


def test_bad_images_give_the_same_error(
    int8: Path, tiny_data: Path, tmp_path: Path, on_ray: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(shutil.copytree(tiny_data, tmp_path / "photos"))
    (data / "dark" / "09b.png").write_bytes(b"no image")
    (data / "dark" / "empty.png").touch()
    (data / "striped" / "zz.png").write_bytes((data / "striped" / "03.png").read_bytes()[:60])
    Path(data / "bright" / "\udcff.png").write_bytes((data / "bright" / "03.png").read_bytes())
    local, remote = (run("evaluate", int8, data, *flags) for flags in ([], ["--ray", "head:6379"]))
    assert "4 images in" in local.stderr
    errors = [each.stderr[each.stderr.index("Error:") :] for each in (local, remote)]
    assert errors[0] == errors[1] and local.exit_code == remote.exit_code == 1


def test_folders_that_are_not_the_classes_are_refused(
    int8: Path, tmp_path: Path, on_ray: list[tuple[str, int]]
) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    done = run("evaluate", int8, tmp_path / "photos", "--ray", "head:6379")
    assert done.exit_code == 1 and "are not the classes of the model" in done.stderr


def test_shards_are_of_the_default_size() -> None:
    assert [len(shard.names) for shard in shards.cut_names(map(str, range(2001)))] == [1000, 1000, 1]
