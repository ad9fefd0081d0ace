"""What int8 costs in accuracy, on every image of a folder: cross-validation, where one split has too few test images.

    python benchmarks/int8_over_folds.py DATA --name magnetic-tile [--efforts quick normal] [--seeds 0 1] [--out folds]

DATA has class folders, or train/ and test/ with them, which are put together. In each fold `edgecls train` and `edgecls
export --int8` run with their defaults on the other images, and the written files answer for those of the fold in their
own runtimes: each image is judged once for each effort and seed, by a network and files that never saw it. "quick"
leaves the backbone frozen, "normal" fine-tunes it where that helps. The runs stay in OUT, and a repeated call continues
with them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, rows_verdict, write_record
from side_by_side import run_side_by_side

from edgecls.evaluate import mcnemar_p
from edgecls.images.folders import list_images
from edgecls.images.parts import find_parts
from edgecls.messages.numbers import percent

FOLDS = 5
EFFORTS = ("quick", "normal")


def images_of(data: Path) -> dict[str, list[Path]]:
    """Return the images of each class, those of all parts together."""
    found: dict[str, list[Path]] = defaultdict(list)
    for folder in find_parts(data).values():
        for name, paths in list_images(data, folder).items():
            found[name] += [data / path for path in paths]
    return dict(found)


def link_fold(images: dict[str, list[Path]], fold: int, folds: int, out: Path, seed: int = 0) -> None:
    """Link every image into `out`/train or, one of `folds` of each class, into `out`/test, unless it is there."""
    for name, paths in images.items():
        order = np.random.default_rng(seed).permutation(len(paths))
        for place, number in enumerate(order):
            folder = out / ("test" if place % folds == fold else "train") / name
            folder.mkdir(parents=True, exist_ok=True)
            # The same name may stand in two parts.
            link = folder / f"{number}-{paths[number].name}"
            if not link.is_symlink():
                link.symlink_to(paths[number].resolve())


def run_fold(data: Path, out: Path, effort: str, seed: int, cache: Path | None = None) -> dict[str, Any]:
    """Return export.json of the run `out` of `data`, which is made unless it is there.

    Args:
        data: folder with train/ and test/.
        out: run folder.
        effort: of the training.
        seed: of the training.
        cache: folder for features; by default the user's.
    """
    record_path = out / "export" / "export.json"
    if record_path.exists():
        return dict(json.loads(record_path.read_text(encoding="utf-8")))
    edgecls = [sys.executable, "-m", "edgecls"]
    env = None if cache is None else {**os.environ, "XDG_CACHE_HOME": str(cache)}
    if not out.exists():
        options = ["--out", str(out), "--effort", effort, "--seed", str(seed)]
        subprocess.run([*edgecls, "train", str(data), *options], check=True, stdout=subprocess.DEVNULL, env=env)
    # Exits with 1 for a file that lost accuracy, which counts like any other.
    subprocess.run([*edgecls, "export", str(out), "--int8"], check=False, stdout=subprocess.DEVNULL, env=env)
    return dict(json.loads(record_path.read_text(encoding="utf-8")))


def pool(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for the files of each format, over all folds."""
    images = sum(record["images"] for record in records)
    float_right = sum(round(record["float_accuracy"] * record["images"]) for record in records)
    rows = []
    for place, first in enumerate(records[0]["files"]):
        files = [record["files"][place] for record in records]
        lost, won = (sum(file[key] for file in files) for key in ("right_to_wrong", "wrong_to_right"))
        agreed = sum(file["agreement"] * record["images"] for file, record in zip(files, records, strict=True))
        share = (lost - won) / images
        # Of a sum of independent flips: Agresti, Categorical Data Analysis, 3rd edition, section 11.1.1.
        error = ((lost + won) / images - share**2) ** 0.5 / images**0.5
        rows.append(
            {"format": first["format"], "images": images, "float_accuracy": float_right / images}
            | {"accuracy": (float_right - lost + won) / images, "right_to_wrong": lost, "wrong_to_right": won}
            | {"drop": share, "drop_low": share - 1.96 * error, "drop_high": share + 1.96 * error}
            | {"mcnemar_p": mcnemar_p(lost, won), "agreement": agreed / images}
            | {"drops": [file["drop"] for file in files]}
        )
    return rows


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the table, its header first."""
    lines = [["effort", "int8 file", "images", "float", "int8", "lost, 95 % interval", "worst fold", "agreement"]]
    for row in record["rows"]:
        lost = f"{row['drop'] * 100:.2f} [{row['drop_low'] * 100:.2f}, {row['drop_high'] * 100:.2f}] points"
        accuracies = f"{row['float_accuracy']:.4f}", f"{row['accuracy']:.4f}"
        worst = f"{max(row['drops']) * 100:.2f} points"
        which = row.get("effort", "quick"), row["format"], str(row["images"])
        lines.append([*which, *accuracies, lost, worst, percent(row["agreement"])])
    return lines


def main() -> None:
    """Train, export, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", required=True, help="of the images, for the result's file name")
    parser.add_argument("--out", type=Path, default=Path("folds"), help="folder (default: %(default)s)")
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--efforts", nargs="+", choices=EFFORTS, default=list(EFFORTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, each on its share of the processors")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    images = images_of(arguments.data)

    def work(call: tuple[str, int, int]) -> dict[str, Any]:
        effort, seed, fold = call
        folder = arguments.out / f"seed-{seed}-fold-{fold + 1}-of-{arguments.folds}"
        link_fold(images, fold, arguments.folds, folder / "data", seed)
        record = run_fold(folder / "data", folder / effort, effort, seed)
        drops = ", ".join(f"{file['format']} {file['drop'] * 100:+.2f}" for file in record["files"])
        found = f"float {record['float_accuracy']:.4f}, lost {drops}"
        print(f"{effort}, seed {seed}, fold {fold + 1}: {found}", flush=True)
        return record

    calls = list(itertools.product(arguments.efforts, arguments.seeds, range(arguments.folds)))
    records = run_side_by_side(work, calls, arguments.jobs)
    rows = []
    for effort in arguments.efforts:
        own = [record for record, call in zip(records, calls, strict=True) if call[0] == effort]
        rows += [{"effort": effort} | row for row in pool(own)]
    for line in table({"rows": rows}):
        print("  ".join(line))
    # Nothing was timed, so what else ran does not matter.
    print(write_record(f"int8-over-folds-{arguments.name}", {"rows": rows}, rows_verdict([]), arguments.results))


if __name__ == "__main__":
    main()
