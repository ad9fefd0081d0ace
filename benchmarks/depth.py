"""Accuracy of a linear classifier on frozen features, by the number of blocks that the backbone keeps.

    python benchmarks/depth.py DATA --name magnetic-tile [--sizes 96 224] [--side 48]

Each training and validation image is labeled by a classifier that learned from all others, as in the first step of
`edgecls sweep`; test images have no part in it. With --side, the images are first made so small: their longer side has
so many pixels. Nothing is timed. Writes benchmarks/results/depth-NAME.json.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from record import RESULTS, rows_verdict, write_record

from edgecls.config import TrainConfig
from edgecls.config.choices import ALL_BLOCKS, BLOCKS
from edgecls.images.find import find_images
from edgecls.sweep.scan import scan

FEWEST_SHOWN = 12


def shrink(data: Path, out: Path, side: int) -> Path:
    """Return `out` with a copy of each image in the same folder, whose longer side has `side` pixels."""
    for path in find_images(data):
        with Image.open(path) as opened:
            gray = opened.convert("L")
        scale = side / max(gray.size)
        size = max(1, round(gray.width * scale)), max(1, round(gray.height * scale))
        target = (out / path.relative_to(data)).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        gray.resize(size, Image.Resampling.LANCZOS).save(target)
    return out


def measure(data: Path, sizes: list[int], folder: Path) -> list[dict[str, Any]]:
    """Return a row for each image size."""
    rows = []
    for networks in scan(data, folder, TrainConfig(), sizes):
        accuracies = {str(each.config.blocks or ALL_BLOCKS): each.accuracy for each in networks}
        rows.append(
            {"image_size": networks[0].config.image_size, "images": len(networks[0].correct), "accuracies": accuracies}
        )
        print(rows[-1], flush=True)
    return rows


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the table, its header first."""
    names = [ALL_BLOCKS, *map(str, range(FEWEST_SHOWN, BLOCKS + 1))]
    lines = [["image size", "images", "all blocks", *(f"{name} blocks" for name in names[1:])]]
    for row in record["rows"]:
        best = max(row["accuracies"][name] for name in names)
        cells = [f"{100 * row['accuracies'][name]:.1f} %" for name in names]
        marked = [
            f"**{cell}**" if row["accuracies"][name] == best else cell for name, cell in zip(names, cells, strict=True)
        ]
        lines.append([str(row["image_size"]), f"{row['images']:,}", *marked])
    return lines


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", required=True, help="of the images, for the result's file name")
    parser.add_argument("--sizes", nargs="+", type=int, default=[96, 224])
    parser.add_argument("--side", type=int, help="pixels of the longer side that images are made to have first")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data
        if arguments.side:
            data = shrink(data, Path(folder, "images"), arguments.side)
        rows = measure(data, arguments.sizes, Path(folder, "scan"))
    for line in table({"rows": rows}):
        print("  ".join(line))
    # Nothing is timed, so that other programs do not matter.
    print(write_record(f"depth-{arguments.name}", {"rows": rows}, rows_verdict([]), arguments.results))


if __name__ == "__main__":
    main()
