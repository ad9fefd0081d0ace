"""Run every benchmark, the long ones last, and rewrite the tables of README.md and docs/. `make bench` calls this.

    python benchmarks/run_all.py [--data DATA] [--run RUN] [--photos DIR] [--large DATA] [--only NAME...] [--list]

DATA is a folder as `edgecls train` takes it; without it the images that come with edgecls are taken. The network is
trained and exported in OUT first, unless RUN names a run of these images or OUT holds one. `--photos` is a folder of
natural photographs, for decode; `--large` one with tens of thousands of images, for train_large. What cannot run is
skipped with its reason; what fails does not stop the rest, and is named at the end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from exported import find_file

from edgecls.benchmark.plan import list_images
from edgecls.demo import unpack_demo_data
from edgecls.errors import EdgeclsError

HERE = Path(__file__).parent
# The whole network, so that times do not depend on how many blocks training chooses for these images.
NETWORK = ("--blocks", "all", "--image-size", "224")


@dataclass(frozen=True)
class Step:
    """One script.

    Attributes:
        script: its name in benchmarks/, without .py.
        minutes: that it took on two quiet cores, about.
        arguments: of the script.
        skip: why it cannot run, or "".
    """

    script: str
    minutes: float
    arguments: tuple[object, ...] = ()
    skip: str = ""


def make_steps(run: Path, data: Path, name: str, photos: Path | None, large: Path | None) -> list[Step]:
    """Return all steps in their order.

    Args:
        run: the run folder, its files exported.
        data: its images.
        name: of the images, for the names of results.
        photos: natural photographs, or None.
        large: tens of thousands of images, or None.

    Raises:
        ModelFileError: a file is not exported. DataError: there are no images.
    """
    tflite, onnx = (find_file(run / "export", "int8", kind) for kind in ("tflite", "onnx"))
    no_loadgen = (
        "" if find_spec("mlperf_loadgen") else "mlcommons-loadgen is not installed: pip install 'edgecls[mlperf]'"
    )
    no_photos = "" if photos else "needs natural photographs: PHOTOS=folder, or --photos"
    no_data = "needs images of your own: DATA=folder, or --data" if name == "demo" else ""
    no_large = "" if large else "needs tens of thousands of images: LARGE=folder, or --large"
    return [
        Step("loop_cost", 0.5),
        Step("predict_overhead", 1, (tflite, onnx)),
        Step("cold_start", 1, (tflite, onnx, list_images(data)[0])),
        Step("throughput", 1, (run, data)),
        Step("readme_output", 1),
        Step("decode", 1, (tflite, photos), no_photos),
        Step("engines", 2, (run,)),
        Step("choose_vs_exhaustive", 5, (run, data, "--name", name)),
        Step("sizes", 3),
        Step("readme_output", 3, (data, "--name", name), no_data),
        Step("onednn", 7, (data, "--name", name), no_data),
        Step("graph_forms", 6, (run, "--name", name)),
        Step("imported_int8", 15, (data, "--name", name), no_data),
        Step("gpu", 5, (run,)),
        Step("prepared_network", 6, (run, "--name", name)),
        Step("false_alarms", 6, (onnx,)),
        Step("versus_loadgen", 7, (tflite, onnx), no_loadgen),
        Step("int8_over_folds", 40, (data, "--name", name)),
        Step("accuracy", 25, (data, "--name", name, "--efforts", "quick", "normal"), no_data),
        Step("smallest", 12, (data, "--name", name), no_data),
        Step("train_vs_lecture", 6, (data, "--name", name)),
        Step("lecture_presets", 7, (data, "--name", name)),
        Step("ray_scaling", 10, (tflite, data), "" if find_spec("ray") else "needs Ray: pip install 'edgecls[ray]'"),
        Step("versus_stock", 10, (run, "--name", name)),
        Step("train_large", 40, (large, "--name", large.name if large else ""), no_large),
    ]


def run_steps(steps: list[Step]) -> list[str]:
    """Return the scripts that failed, having run all that can."""
    left = sum(step.minutes for step in steps if not step.skip)
    failed = []
    for step in steps:
        if step.skip:
            print(f"\n{step.script}: skipped: {step.skip}", flush=True)
            continue
        print(f"\n{step.script}: about {step.minutes:g} minutes, {left:g} left for all", flush=True)
        began = time.monotonic()
        command = [sys.executable, str(HERE / f"{step.script}.py"), *map(str, step.arguments)]
        code = subprocess.run(command, check=False).returncode
        failed += [f"{step.script} (exit code {code})"] if code else []
        left -= step.minutes
        print(f"{step.script}: {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
    return failed


def prepare(out: Path, data: Path | None) -> tuple[Path, Path]:
    """Return a run folder with its files exported and its images, made in `out` unless they are there."""
    images, run = data or unpack_demo_data(out / "images"), out / "run"
    edgecls = [sys.executable, "-m", "edgecls"]
    if not (run / "run.json").is_file():
        print("training and exporting: about 2 minutes", flush=True)
        subprocess.run([*edgecls, "train", str(images), "--out", str(run), *NETWORK], check=True)
    if not (run / "export" / "export.json").is_file():
        # Exits with 1 for a file that lost accuracy, which is as fast as any other.
        subprocess.run([*edgecls, "export", str(run), "--fp32", "--int8"], check=False)
    return run, images


def main() -> None:
    """Prepare, run all, rewrite the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--run", type=Path, help="a run of DATA, with fp32 and int8 exported")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--large", type=Path)
    parser.add_argument("--out", type=Path, default=Path("bench-run"), help="(default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these scripts alone")
    parser.add_argument("--list", action="store_true", help="say what would run and how long it takes")
    arguments = parser.parse_args()
    if arguments.run and not arguments.data:
        parser.error("--run needs --data: the images that the run was made of")
    try:
        run, data = (arguments.run, arguments.data) if arguments.run else prepare(arguments.out, arguments.data)
        name = arguments.data.resolve().name if arguments.data else "demo"
        steps = make_steps(run, data, name, arguments.photos, arguments.large)
    except EdgeclsError as error:
        sys.exit(f"Error: {error}")
    if unknown := set(arguments.only or ()) - {step.script for step in steps}:
        parser.error(f"no such script: {', '.join(sorted(unknown))}; these are: {', '.join(s.script for s in steps)}")
    steps = [step for step in steps if not arguments.only or step.script in arguments.only]
    if arguments.list:
        for step in steps:
            print(f"{step.script:18} {step.minutes:4g} min  {f'skipped: {step.skip}' if step.skip else ''}")
        return
    failed = run_steps(steps)
    subprocess.run([sys.executable, str(HERE / "tables.py")], check=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
