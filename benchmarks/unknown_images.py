"""How many images of other things a file finds unlike its training images, and how many of its own.

    python benchmarks/unknown_images.py FILE --known FOLDER --unknown FOLDER [--unknown FOLDER] [--count 300]

The known images are of the classes of the file, and it has not seen them. Prints for each folder the fraction of images
that are unlike the training images, of those whose two highest scores are close, and of those that are collected.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from record import rows_verdict, write_record

from edgecls.images.find import find_images
from edgecls.messages.numbers import percent
from edgecls.model_file.known_images import read_known
from edgecls.runtime.classifier import Classifier, load
from edgecls.serve.collect import LEAST_MARGIN, find_doubt


def measure(classifier: Classifier, folder: Path, count: int) -> dict[str, Any]:
    """Return the fractions for at most `count` images of a folder."""
    known = read_known(classifier.spec)
    if known is None:
        raise SystemExit("the file does not say what it knows; export it again")
    paths = list(find_images(folder))
    chosen = np.random.default_rng(0).permutation(len(paths))[:count]
    predictions = [classifier.predict(paths[index]) for index in chosen]
    scores = np.stack([prediction.scores for prediction in predictions])
    highest = np.sort(scores, axis=1)
    return {
        "folder": folder.name,
        "images": len(scores),
        "unlike_training_images": float((known.distances(scores) > known.distance).mean()),
        "low_margin": float((highest[:, -1] - highest[:, -2] < LEAST_MARGIN).mean()),
        "collected": float(np.mean([bool(find_doubt(each, known)) for each in predictions])),
    }


def table(record: dict[str, Any]) -> list[list[str]]:
    """Return the table, its header first."""
    lines = [["folder", "images", "unlike the training images", "two highest scores close", "kept"]]
    for row in record["rows"]:
        fractions = (row["unlike_training_images"], row["low_margin"], row["collected"])
        lines.append([row["folder"], str(row["images"]), *map(percent, fractions)])
    return lines


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--known", type=Path, required=True)
    parser.add_argument("--unknown", type=Path, action="append", required=True)
    parser.add_argument("--count", type=int, default=300)
    arguments = parser.parse_args()
    classifier = load(arguments.file)
    rows = [measure(classifier, folder, arguments.count) for folder in (arguments.known, *arguments.unknown)]
    for line in table({"rows": rows}):
        print("  ".join(line))
    # Nothing was timed, so what else ran does not matter.
    print(write_record("unknown-images", {"rows": rows}, rows_verdict([])))


if __name__ == "__main__":
    main()
