"""Real workers in processes of their own. Times are checked coarsely, for the machine may be busy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmark_files import write_model
from PIL import Image
from tiny import HEIGHT, WIDTH, make_spec

from edgecls.benchmark import worker as worker_module
from edgecls.benchmark.plan import Configuration, Settings
from edgecls.benchmark.process import WorkerProcess
from edgecls.benchmark.record import BenchmarkError
from edgecls.benchmark.session import run_benchmark
from edgecls.benchmark.worker import make_action
from edgecls.errors import ConfigError, DataError, ModelFileError

SPIN = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint(flush=True)\nwhile True: pass"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("worker") / "model.onnx"))


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess() as process:
        yield process


def request(model: str, **changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "file": model,
        "engine": None,
        "threads": 1,
        "device": "cpu",
        "scope": "invoke",
        "images": [],
    }
    return usual | changes


def test_a_file_is_opened_on_its_own_cpu(worker: WorkerProcess, model: str) -> None:
    opened = worker.ask("open", **request(model))
    assert (opened["engine"], opened["device"], opened["threads"]) == ("onnxruntime", "cpu", 1)
    assert len(opened["cpus"]) == 1 and set(opened["cpus"]) <= os.sched_getaffinity(0)
    assert 0 < opened["first_ms"] and 1 < opened["load_ms"] < 1000 * opened["wall_s"]
    assert 10 < opened["base_rss_mb"] < opened["peak_rss_mb"] < 2000
    assert opened["model"] == {
        "format": "onnx",
        "bytes": Path(model).stat().st_size,
        "sha256": opened["model"]["sha256"],
        "arch": "tiny",
        "precision": "fp32",
        "height": HEIGHT,
        "width": WIDTH,
        "classes": 3,
        "accuracy": 0.5,
    }


def test_warm_up_batches_and_pace(worker: WorkerProcess, model: str) -> None:
    worker.ask("open", **request(model))
    warm = worker.ask("warm_up", seconds=5)
    assert warm["calls"] >= 6 and warm["call_ms"] > 0
    batch = worker.ask("batch", calls=7)
    assert len(batch["ms"]) == 7 and all(ms > 0 for ms in batch["ms"])
    assert sum(batch["ms"]) < 1000 * batch["wall_s"]
    assert 0 < batch["own_s"] and 0 <= batch["waited_s"] and 0 <= batch["steal_s"]
    paced = worker.ask("pace", fps=100, seconds=0.3)
    assert paced["paced"]["frames"] == 30 == len(paced["ms"]) + paced["paced"]["dropped"]
    assert 0.25 < paced["wall_s"]


def test_a_turn_ends_when_the_threads_of_the_engine_wait() -> None:
    threads: list[threading.Thread] = []

    def look_for_work() -> None:
        end = time.perf_counter() + 0.15
        while time.perf_counter() < end:
            pass

    def call() -> None:
        threads.append(threading.Thread(target=look_for_work))
        threads[-1].start()

    turn = worker_module.Worker()
    turn._action = call
    turn.batch(1)
    assert threads and not any(thread.is_alive() for thread in threads)


def test_the_usual_number_of_threads_is_reported(worker: WorkerProcess, model: str) -> None:
    opened = worker.ask("open", **request(model, threads=None))
    assert 1 <= opened["threads"] <= 4
    assert len(opened["cpus"]) == min(opened["threads"], len(os.sched_getaffinity(0)))


def test_more_threads_than_cpus_use_all_cpus(worker: WorkerProcess, model: str) -> None:
    cpus = os.sched_getaffinity(0)
    opened = worker.ask("open", **request(model, threads=2 * len(cpus)))
    assert (opened["threads"], set(opened["cpus"])) == (2 * len(cpus), cpus)


def test_the_machine_is_described(worker: WorkerProcess) -> None:
    assert worker.ask("describe")["allowed_cpus"] == sorted(os.sched_getaffinity(0))
    assert worker.ask("state")["at_s"] > 0


def test_errors_keep_their_class_and_the_worker_lives_on(worker: WorkerProcess, model: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such model file"):
        worker.ask("open", **request("none.onnx"))
    with pytest.raises(ConfigError, match="edgetpu"):
        worker.ask("open", **request(model, device="edgetpu"))
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="bad.png"):
        worker.ask("open", **request(model, scope="end-to-end", images=[str(tmp_path / "bad.png")]))
    assert worker.ask("open", **request(model))["threads"] == 1


def test_a_bug_keeps_its_traceback(model: str) -> None:
    with WorkerProcess() as worker, pytest.raises(BenchmarkError, match=r"(?s)during 'batch'.*'open' must come first"):
        worker.ask("batch", calls=1)
    with WorkerProcess() as worker, pytest.raises(BenchmarkError, match="unknown command 'dance'"):
        worker.ask("dance")


def test_a_command_that_does_not_start_a_worker_is_an_error_with_the_reason() -> None:
    with WorkerProcess(["sh", "-c", "echo no such board >&2; exit 7"]) as worker:
        with pytest.raises(BenchmarkError, match="exit status 7; no such board"):
            worker.ask("state")


def test_what_engines_print_does_not_disturb_the_answers() -> None:
    code = """
import os
from edgecls.benchmark import worker
def state(_):
    print("INFO: created a delegate")
    os.write(1, b"native chatter")
    return {"fine": True}
worker.Worker.state = state
worker.main()
"""
    with WorkerProcess([sys.executable, "-c", code]) as worker:
        assert worker.ask("state") == {"fine": True}


def test_it_ends_with_its_input(model: str) -> None:
    text = "".join(f"{json.dumps({'do': 'open'} | request(model))}\n" for _ in range(2))
    done = subprocess.run(
        [sys.executable, "-m", "edgecls.benchmark.worker"], input=text, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0
    assert [json.loads(line)["threads"] for line in done.stdout.splitlines()] == [1, 1]


def test_a_worker_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecls.benchmark.process.SHUTDOWN_S", 0.1)
    with WorkerProcess(["sleep", "600"]) as worker:
        process = worker._process
    assert process.returncode == -9


def test_it_imports_one_interpreter_and_nothing_for_the_command_line(model: str) -> None:
    code = f"""
import sys
from edgecls.benchmark.worker import Worker
Worker().open({model!r}, None, 1, "cpu", "invoke", [])
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    modules = set(done.stdout.split())
    assert "onnxruntime" in modules
    assert not {"click", "rich", "matplotlib", "tensorflow", "onnx", "ai_edge_litert", "openvino"} & modules


class Engine:
    """Keeps the images that it is given."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def run(self, image: np.ndarray) -> None:
        self.seen.append(image)


def stand_in(engine: Engine | None = None, **members: Any) -> Any:
    return SimpleNamespace(spec=make_spec(), engine=engine, **members)


def test_invoke_runs_the_network_on_ready_images_one_after_the_other(tmp_path: Path) -> None:
    engine = Engine()
    for gray in (10, 200):
        Image.new("L", (30, 40), gray).save(tmp_path / f"{gray}.png")
    action = make_action(stand_in(engine), "invoke", [str(path) for path in tmp_path.glob("*.png")])
    for _ in range(4):
        action()
    assert {image.shape for image in engine.seen} == {(1, HEIGHT, WIDTH, 1)}
    assert sorted(int(image.mean()) for image in engine.seen) == [10, 10, 200, 200]
    assert engine.seen[0] is engine.seen[2]


def test_without_images_every_process_times_the_same_picture() -> None:
    engine = Engine()
    for _ in range(2):
        make_action(stand_in(engine), "invoke", [])()
    assert np.array_equal(engine.seen[0], engine.seen[1])
    assert engine.seen[0].dtype == np.uint8 and np.ptp(engine.seen[0]) > 100


def test_end_to_end_begins_at_the_file() -> None:
    seen: list[str] = []
    action = make_action(stand_in(predict=seen.append), "end-to-end", ["a.png", "b.png"])
    for _ in range(3):
        action()
    assert seen == ["a.png", "b.png", "a.png"]


def test_waiting_is_counted_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for thread, waited in ((1, 250_000_000), (2, 1_000_000_000)):
        folder = tmp_path / f"proc/self/task/{thread}"
        folder.mkdir(parents=True)
        (folder / "schedstat").write_text(f"99 {waited} 7\n")
    monkeypatch.setattr(worker_module, "ROOT", tmp_path)
    assert worker_module._waited_s() == 1.25
    assert worker_module._memory_mb("VmHWM") is None


def test_contention_on_the_same_core_is_found(model: str) -> None:
    with WorkerProcess() as worker:
        (cpu,) = worker.ask("open", **request(model))["cpus"]
    others = [subprocess.Popen([sys.executable, "-S", "-c", SPIN, str(cpu)], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for other in others:
            assert other.stdout is not None
            other.stdout.readline()
        record = run_benchmark((Configuration(model, threads=1),), Settings(seconds=0.6))
    finally:
        for other in others:
            other.kill()
            other.communicate()
    (result,) = record.results
    assert "contention" in result.causes and not result.valid
    assert result.observed["busy_s"] - result.observed["own_s"] > 0.25 * result.observed["wall_s"]


def test_a_real_run_end_to_end(model: str, tmp_path: Path) -> None:
    for number in range(3):
        Image.new("L", (20, 30), 80 * number).save(tmp_path / f"{number}.png")
    images = tuple(map(str, sorted(tmp_path.glob("*.png"))))
    configurations = tuple(Configuration(model, threads=threads, images=images) for threads in (1, 2))
    record = run_benchmark(configurations, Settings(scope="end-to-end", seconds=0.1))
    assert [result.threads for result in record.results] == [1, 2]
    assert all(result.n >= 100 and result.p50_low_ms <= result.p50_ms for result in record.results)
    assert record.ratios[0]["ratio"] == pytest.approx(record.results[0].p50_ms / record.results[1].p50_ms)
