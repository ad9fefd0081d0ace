"""Whole sweeps with real networks that train in seconds; each part has tests of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from choices import FakeMachine
from command_line import run as edgecls
from PIL import Image
from tiny import CLASSES, draw

from edgecls.boards.profiles import load_profile
from edgecls.config import AugmentConfig, TrainConfig
from edgecls.errors import ConfigError, DataError, WeightsError
from edgecls.estimate.operators import count_network
from edgecls.files import read_checked, write_checked
from edgecls.networks import model
from edgecls.parallel.pool import work_in
from edgecls.parallel.ray import RayPool
from edgecls.progress import silent
from edgecls.sweep import halving, latency, run, trials
from edgecls.sweep.grid import NamedNetwork, Space, list_candidates
from edgecls.sweep.report import notes
from edgecls.sweep.run import ScoredRun, train_run
from edgecls.sweep.sweep import sweep
from edgecls.sweep.trials import Request
from edgecls.training import fit
from edgecls.training import train as training
from edgecls.training.context import NO_PICTURES

PI = load_profile("raspberry-pi-4b")
BASE = TrainConfig(epochs=2, augment=None, batch_size=8)
TINY = list_candidates(Space(archs=("cnn", "mlp"), image_sizes=(32,)), BASE)


@pytest.fixture(scope="module")
def swept(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a sweep that is complete."""
    out = tmp_path_factory.mktemp("sweep") / "out"
    sweep(tiny_data, out, TINY, Request(25, PI, max_drop=1))
    return out


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of `swept` have their pictures, which take as long to draw as tiny networks to learn."""
    monkeypatch.setattr(run, "PICTURES", NO_PICTURES)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the runs that are really trained, not found complete."""
    names: list[str] = []
    real = model.build_model

    def build(config: TrainConfig, *arguments: Any) -> Any:
        names.append(config.arch)
        return real(config, *arguments)

    monkeypatch.setattr(training, "build_model", build)
    yield names


def test_every_network_is_a_run_scored_from_its_file(swept: Path, tiny_data: Path, trained: list[str]) -> None:
    found = sweep(tiny_data, swept, TINY, Request(25, PI, max_drop=1))
    # All of it was there.
    assert trained == []
    for row in found.rows:
        assert row.scored is not None and row.scored.comparison is not None and row.latency is not None
        (entry,) = json.loads((row.scored.run / "export" / "export.json").read_text())["files"]
        assert row.scored.run == swept / row.candidate.name
        assert (entry["precision"], entry["format"]) == ("int8", "tflite")
        assert entry["accuracy"] == row.scored.comparison.accuracy
        assert entry["accuracy"] == pytest.approx(1 - len(row.scored.wrong) / len(row.scored.held_out))
        assert entry["bytes"] == row.scored.size_bytes
        assert row.latency.source == "estimate" and row.latency.p50_ms < 25
    assert found.recommended in found.frontier
    assert all((row.scored.run / "plots" / "confusion.png").is_file() for row in found.rows if row.scored)


def test_a_run_that_is_missing_is_made_and_the_others_stay(
    swept: Path, tiny_data: Path, tmp_path: Path, trained: list[str]
) -> None:
    out = Path(shutil.copytree(swept, tmp_path / "out"))
    shutil.rmtree(out / "mlp-32")
    before = (out / "cnn-32" / "model.keras").read_bytes()
    sweep(tiny_data, out, TINY, Request(25, PI, max_drop=1))
    assert trained == ["mlp"]
    assert (out / "cnn-32" / "model.keras").read_bytes() == before


def test_runs_of_other_settings_are_not_taken_for_ours(swept: Path, tiny_data: Path) -> None:
    other = list_candidates(Space(archs=("cnn",), image_sizes=(32,)), TrainConfig(epochs=3, augment=None, batch_size=8))
    with pytest.raises(ConfigError, match=r"other settings: epochs \(2 then, 3 now\)"):
        sweep(tiny_data, swept, other, Request(25, PI, max_drop=1))


def test_augmented_networks_are_taken_again_whichever_flip_auto_chose(tiny_data: Path, tmp_path: Path) -> None:
    config = TrainConfig(arch="cnn", image_size=16, filters=(4,), epochs=1, batch_size=8)
    run = tmp_path / "run"
    train_run(tiny_data, run, config, silent)
    record = read_checked(run / "run.json")
    assert record["config"]["augment"]["flip"] == "horizontal"
    seconds = record["seconds"]

    def again(flip: str, errors: dict[str, float], asked: TrainConfig = config) -> None:
        record["config"]["augment"]["flip"], record["flip_errors"] = flip, errors
        write_checked(run / "run.json", record)
        train_run(tiny_data, run, asked, silent)
        assert read_checked(run / "run.json")["seconds"] == seconds

    again("horizontal", {})
    again("none", {"horizontal": 0.2, "none": 0.1})
    with pytest.raises(ConfigError, match="other settings: augment"):
        again("none", {})
    with pytest.raises(ConfigError, match="other settings: augment"):
        again("horizontal", {}, replace(config, augment=AugmentConfig(flip="none")))


def test_a_setting_that_an_older_version_did_not_have_is_the_usual_one(
    swept: Path, tiny_data: Path, tmp_path: Path, trained: list[str]
) -> None:
    out = Path(shutil.copytree(swept, tmp_path / "out"))
    for path in out.glob("*/run.json"):
        record = read_checked(path)
        del record["config"]["blocks"], record["config"]["labels"]
        write_checked(path, record)
    sweep(tiny_data, out, TINY, Request(25, PI, max_drop=1))
    assert trained == []


def test_changed_images_are_refused(swept: Path, tiny_data: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(tiny_data, tmp_path / "images"))
    out = Path(shutil.copytree(swept, tmp_path / "out"))
    for record in out.glob("*/run.json"):
        write_checked(record, read_checked(record) | {"data": str(data)})
    for image in data.glob("*/*.png"):
        shutil.copy(tiny_data / "dark" / "03.png", image)
    with pytest.raises(DataError, match=r"held-out images of .* changed"):
        sweep(data, out, TINY, Request(25, PI, max_drop=1))


def test_networks_of_fewer_images_are_not_compared_with_new_ones(
    swept: Path, tiny_data: Path, tmp_path: Path, trained: list[str]
) -> None:
    data, out = Path(shutil.copytree(tiny_data, tmp_path / "images")), Path(shutil.copytree(swept, tmp_path / "out"))
    for record in out.glob("*/run.json"):
        write_checked(record, read_checked(record) | {"data": str(data)})
    learned = read_checked(out / "cnn-32" / "run.json")["split"]["train"]["dark"][0]
    (data / learned).unlink()
    with pytest.raises(ConfigError, match=r"32 was made with other settings: images \(\d+ gone"):
        sweep(data, out, TINY, Request(25, PI, max_drop=1))
    assert trained == []


def test_what_cannot_meet_the_budget_is_never_trained(tiny_data: Path, tmp_path: Path, trained: list[str]) -> None:
    grid = list_candidates(Space(archs=("cnn", "mobilenet_v2"), image_sizes=(32, 1024)), BASE)
    text = r"^All 4 networks are too slow: the fastest needs .* ms, the budget is 1e-06 ms\. Raise --budget"
    with pytest.raises(ConfigError, match=text):
        sweep(tiny_data, tmp_path / "out", grid, Request(0.000001, PI))
    assert trained == [] and not (tmp_path / "out").exists()


def test_networks_without_weights_are_left_out_alone(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two widths that nobody publishes.
    grid = list_candidates(Space(archs=("mobilenet_v2", "mlp"), image_sizes=(32,), alphas=(0.4, 0.45)), BASE)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    found = sweep(tiny_data, tmp_path / "out", grid, Request(25, PI, max_drop=1))
    reasons = {row.candidate.name: row.left_out_because for row in found.rows}
    assert "no ImageNet weights are published for alpha 0.4" in reasons["mobilenet_v2-32-0.4-gap"]
    assert reasons["mlp-32"] == "" and found.recommended is not None


def test_no_network_is_begun_that_would_end_too_late(
    swept: Path, tiny_data: Path, tmp_path: Path, trained: list[str]
) -> None:
    out = Path(shutil.copytree(swept, tmp_path / "out"))
    shutil.rmtree(out / "cnn-32")
    found = sweep(tiny_data, out, TINY, Request(25, PI, max_drop=1, time_budget_s=0.001))
    reasons = {row.candidate.name: row.left_out_because for row in found.rows}
    assert "no time was left for it" in reasons["cnn-32"] and reasons["mlp-32"] == ""
    assert trained == []


@pytest.mark.slow
def test_a_large_grid_is_halved(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halving, "FULL_GRID", 1)
    # Both are one size, so that they compete: whichever is worse after its short training is never trained in full.
    monkeypatch.setattr(NamedNetwork, "network", ("small", 32, 1.0))
    found = sweep(tiny_data, tmp_path / "out", TINY, Request(25, PI, max_drop=1))
    short = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "out" / "short").glob("*/run.json")}
    assert [record["config"]["epochs"] for record in short.values()] == [1, 1]
    classes = len(short[TINY[0].name]["classes"])
    stopped = [row.candidate.name for row in found.rows if "stopped after a short" in row.left_out_because]
    scored = {row.candidate.name for row in found.rows if row.scored}
    accuracy = {name: record["metrics"]["val_accuracy"] for name, record in short.items()}
    # The one with fewer multiply-adds comes first.
    ordered = sorted(TINY, key=lambda each: count_network(each.config, classes).multiply_adds)
    first, last = (each.name for each in ordered)
    assert stopped == ([last] if accuracy[last] < accuracy[first] else [])
    assert scored == {*short} - {*stopped}
    assert not any((tmp_path / "out" / name).exists() for name in stopped)


def test_without_a_board_files_are_timed_here(
    swept: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = FakeMachine({"model-int8.tflite": 3.0, "model-int8.onnx": 3.0})
    monkeypatch.setattr(latency, "run_benchmark", machine.run)
    out = Path(shutil.copytree(swept, tmp_path / "out"))
    found = sweep(tiny_data, out, TINY, Request(25, max_drop=1))
    assert [len(names) for names in machine.rounds] == [2]
    for row in found.rows:
        assert row.latency is not None
        assert row.latency.source == "measured" and row.latency.p50_ms == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("request_", [{"budget_ms": 0}, {"budget_ms": 5, "time_budget_s": -1}])
def test_requests_out_of_range_are_refused(request_: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"budget must be above 0"):
        Request(**request_)  # type: ignore[arg-type]


def test_no_weights_at_all_is_no_wrong_usage(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    grid = list_candidates(Space(image_sizes=(32,), alphas=(0.4,)), BASE)
    text = r"(?s)^no network can be trained:\n  mobilenet_v2-32-0.4-gap: .*no ImageNet weights .* alpha 0.4"
    with pytest.raises(WeightsError, match=text):
        sweep(tiny_data, tmp_path / "out", grid, Request(25, PI))


def test_warnings_of_training_are_shown_once(tiny_data: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(tiny_data, tmp_path / "images"))
    for number in range(6):
        shutil.copy(data / "dark" / "03.png", data / "dark" / f"copy{number}.png")
    (network,) = list_candidates(Space(archs=("mlp",), image_sizes=(32,)), BASE)
    found = sweep(data, tmp_path / "out", [network], Request(25, PI, max_drop=1))
    (warning,) = found.warnings
    assert warning.startswith(
        "mlp-32: 1 image is in two or more splits, so accuracy is overstated."
    ) and warning in notes(found)
    assert sweep(data, tmp_path / "out", [network], Request(25, PI, max_drop=1)).warnings == ()


# On a cluster


def without_paths(scored: ScoredRun | None) -> dict[str, Any]:
    assert scored is not None
    return {**vars(scored), "run": scored.run.name, "file": scored.file.name, "seconds": None}


@pytest.mark.slow
def test_a_cluster_gives_the_same_networks(
    swept: Path, tiny_data: Path, tmp_path: Path, trained: list[str], ray_pool_2: RayPool
) -> None:
    here = sweep(tiny_data, swept, TINY, Request(25, PI, max_drop=1))
    with work_in(ray_pool_2):
        there = sweep(tiny_data, tmp_path / "out", TINY, Request(25, PI, max_drop=1))
    # All of it elsewhere.
    assert trained == []
    assert [row.candidate for row in there.rows] == [row.candidate for row in here.rows]
    for one, other in zip(here.rows, there.rows, strict=True):
        assert other.scored is not None and other.scored.run == tmp_path / "out" / other.candidate.name
        assert without_paths(other.scored) == without_paths(one.scored)
        held_out = [row.scored.run / "held-out-scores.npy" for row in (one, other) if row.scored]
        assert held_out[0].read_bytes() == held_out[1].read_bytes()
    assert there.recommended == here.recommended


# The command


def test_the_command_reports_writes_and_continues(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    options = ("--board", "raspberry-pi-4b", "--budget", "25ms", "--arch", "cnn,mlp", "--image-size", "32")
    arguments = ("sweep", tiny_data, *options, "--out", out, "--epochs", 2, "--no-augment", "--max-drop", 1)
    real = run.train_run

    def die(data: Path, folder: Path, *rest: Any) -> Any:
        if folder.name == "cnn-32":
            raise KeyboardInterrupt
        return real(data, folder, *rest)

    monkeypatch.setattr(trials, "train_run", die)
    assert edgecls(*arguments).exit_code == 1
    assert (out / "mlp-32" / "run.json").is_file() and not (out / "sweep.json").exists()
    monkeypatch.undo()
    first = edgecls(*arguments)
    assert first.exit_code == 0
    document = json.loads((out / "sweep.json").read_text())
    assert f"Recommended: {out / document['recommended']['name']}" in first.stdout
    assert (out / "frontier.png").read_bytes().startswith(b"\x89PNG")
    again = edgecls(*arguments, "--json")
    assert json.loads(again.stdout)["frontier"] == document["frontier"]


def test_tables_of_labels_and_several_folders_are_read_as_by_train(tiny_data: Path, tmp_path: Path) -> None:
    flat, more, table = tmp_path / "flat", tmp_path / "more", tmp_path / "labels.csv"
    flat.mkdir()
    rows = ["image,label"]
    for path in sorted(tiny_data.glob("*/*.png")):
        shutil.copy(path, flat / f"{path.parent.name}-{path.name}")
        rows.append(f"{path.parent.name}-{path.name},{path.parent.name}")
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    random = np.random.default_rng(8)
    for name in (*CLASSES, "new"):
        (more / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(draw(CLASSES[number % 3] if name == "new" else name, random)).save(
                more / name / f"{number}.png"
            )
    options = ("--labels", table, "--board", "raspberry-pi-4b", "--budget", "25ms", "--arch", "mlp")
    limits = ("--image-size", 32, "--epochs", 2, "--no-augment", "--max-drop", 1, "--out", tmp_path / "out", "--json")
    done = edgecls("sweep", flat, more, *options, *limits)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["more_data"] == [str(more)]
    record = read_checked(tmp_path / "out/mlp-32/run.json")
    assert record["classes"] == sorted([*CLASSES, "new"]) and record["folders"] == [str(flat), str(more)]
    before = (tmp_path / "out/mlp-32/run.json").read_bytes()
    assert edgecls("sweep", flat, more, *options, *limits).exit_code == 0
    assert (tmp_path / "out/mlp-32/run.json").read_bytes() == before
    other = edgecls("sweep", flat, *options, *limits)
    assert other.exit_code == 2 and "made with other settings" in other.output


def test_a_run_that_was_interrupted_continues_or_is_refused(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    options = ("--device", "raspberry-pi-4b", "--budget", "25ms", "--arch", "cnn", "--image-size", "32")
    arguments = ("sweep", tiny_data, *options, "--out", out, "--no-augment", "--max-drop", 1)
    epochs: list[int] = []
    real = fit.validate

    def die(network: Any, val: Any, batch_size: int) -> Any:
        epochs.append(len(epochs))
        if len(epochs) == 3:
            raise KeyboardInterrupt
        return real(network, val, batch_size)

    monkeypatch.setattr(fit, "validate", die)
    stopped = edgecls(*arguments, "--epochs", 4)
    assert stopped.exit_code == 1 and "Repeat the same command to continue." in stopped.stderr
    other = edgecls(*arguments, "--epochs", 3)
    assert other.exit_code == 2
    reported = " ".join(other.stderr.split())
    assert (
        "other settings: epochs (4 then, 3 now); give the same ones, or remove that folder to start again" in reported
    )
    assert edgecls(*arguments, "--epochs", 4).exit_code == 0
    # The start and four epochs, of which the second broke off.
    assert len(epochs) == 1 + 4 + 1


def test_the_command_exits_with_1_if_nothing_can_be_recommended(tiny_data: Path, tmp_path: Path) -> None:
    options = ("--board", PI.name, "--arch", "mlp", "--image-size", 32, "--epochs", 1, "--no-augment", "--max-drop", 1)
    arguments = ("sweep", tiny_data, *options, "--out", tmp_path / "out")
    document = tmp_path / "out" / "sweep.json"
    done = edgecls(*arguments, "--budget", "25ms")
    assert done.exit_code == 0
    # The interval reaches below this budget, the estimate does not.
    budget_ms = json.loads(document.read_text())["recommended"]["p50_ms"] * 0.9
    done = edgecls(*arguments, "--budget", f"{budget_ms:.6f}ms")
    found = json.loads(document.read_text())
    assert (done.exit_code, found["recommended"], found["frontier"]) == (1, None, ["mlp-32"])
    assert "no network can be recommended" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-size", "small"], "write it as 500kB, 2MB or 1GB"),
        (["--budget", "fast"], "write it as 25ms or 0.1s"),
        (["--budget", "25ms", "--image-size", "96;128"], "'96;128' is not a valid int"),
        (["--budget", "25ms", "--head", "gap,top"], "'top' is not one of"),
        (["--budget", "25ms", "--board", "pi"], "Unknown board 'pi'"),
        (["--budget", "25ms", "--device", "pi"], "Unknown board 'pi'"),
        (["--budget", "0ms"], "budget must be above 0"),
    ],
)
def test_wrong_usage_exits_with_2(options: list[str], message: str, tiny_data: Path) -> None:
    done = edgecls("sweep", tiny_data, *options)
    assert done.exit_code == 2 and message in done.output


def test_settings_that_no_network_of_the_grid_has_are_named(tmp_path: Path) -> None:
    options = ("--budget", "25ms", "--alpha", "0.5", "--unfreeze", "3")
    done = edgecls("sweep", tmp_path, *options, "--arch", "mlp,cnn")
    assert "--alpha has no effect: it is a setting of mobilenet_v2, and the network is mlp or cnn" in done.stderr
    assert "--unfreeze has no effect" in done.stderr
    assert "no effect" not in edgecls("sweep", tmp_path, *options, "--arch", "mlp,mobilenet_v2").stderr
