"""What `edgecls audit` finds of faults that this script plants in a copy of a data set, and the leak that it measures.

Planted: 1 % wrong labels, 3 % near duplicates across splits in five transformations, 10 contradictory pairs, 5 black
frames, and groups of 8 frames. Pairs that the audit also finds in the untouched data set count neither way.

    python benchmarks/audit_planted.py DATA [--image-size 96] [--per-class 0]
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgecls.audit.audit import Audit, audit, to_json
from edgecls.config import TrainConfig

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def resized(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Return a smaller copy."""
    factor = random.uniform(0.5, 0.8)
    return image.resize((int(image.width * factor), int(image.height * factor)), Image.Resampling.BILINEAR)


def compressed(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Return a copy of low JPEG quality."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(random.integers(30, 60)))
    return Image.open(buffer).convert("L")


def brightened(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Return a brighter copy."""
    return Image.fromarray(np.clip(np.asarray(image) * random.uniform(1.1, 1.25) + 8, 0, 255).astype(np.uint8))


def cropped(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Return a copy without up to 5 % at each side."""
    left, top, right, bottom = random.uniform(0.01, 0.05, 4)
    width, height = image.size
    box = round(width * left), round(height * top), round(width * (1 - right)), round(height * (1 - bottom))
    return image.crop(box)


def flattened(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Return a copy of less contrast."""
    gray = np.asarray(image, np.float64)
    return Image.fromarray(np.clip((gray - gray.mean()) * random.uniform(0.75, 0.9) + gray.mean(), 0, 255).astype("u1"))


CHANGES: dict[str, Change] = {each.__name__: each for each in (resized, compressed, brightened, cropped, flattened)}


def copy_data(data: Path, target: Path, per_class: int) -> None:
    """Copy train/ and test/, at most `per_class` images of each class in each; 0 copies all."""
    for part in ("train", "test"):
        for folder in sorted((data / part).iterdir()):
            files = sorted(folder.iterdir())[: per_class or None]
            (target / part / folder.name).mkdir(parents=True)
            for path in files:
                shutil.copy(path, target / part / folder.name / path.name)


def plant(root: Path, random: np.random.Generator) -> dict[str, Any]:
    """Plant the faults, and return where they are."""
    train, test = (sorted((root / part).rglob("*.*")) for part in ("train", "test"))
    total = len(train) + len(test)
    classes = sorted(path.name for path in (root / "train").iterdir())
    order = [train[i] for i in random.permutation(len(train))]
    truth: dict[str, Any] = {"wrong": [], "near": [], "contradictory": [], "black": [], "frames": []}

    def name(path: Path) -> str:
        return path.relative_to(root).as_posix()

    def other_class(path: Path) -> str:
        return str(random.choice([each for each in classes if each != path.parent.name]))

    for _ in range(max(1, total // 100)):
        path = order.pop()
        target = path.parent.parent / other_class(path) / f"w{path.name}"
        path.rename(target)
        truth["wrong"].append(name(target))
    for number in range(max(5, total * 3 // 100)):
        kind, path = list(CHANGES)[number % len(CHANGES)], test[int(random.integers(len(test)))]
        target = root / "train" / path.parent.name / f"n{number}.png"
        CHANGES[kind](Image.open(path).convert("L"), random).save(target)
        truth["near"].append((name(path), name(target), kind))
    for number in range(10):
        path = order.pop()
        target = root / "train" / other_class(path) / f"c{number}{path.suffix}"
        shutil.copy(path, target)
        truth["contradictory"].append((name(path), name(target)))
    for number in range(5):
        target = root / "train" / classes[number % len(classes)] / f"b{number}.png"
        Image.fromarray(random.integers(0, 3, (100, 100)).astype(np.uint8)).save(target)
        truth["black"].append(name(target))
    truth["frames"] = plant_frames(root, order, max(3, total // 200), random)
    return truth


def plant_frames(root: Path, order: list[Path], count: int, random: np.random.Generator) -> list[list[str]]:
    """Write `count` groups of 8 frames, a quarter of them into test/, and return their names."""
    groups = []
    for number in range(count):
        path, frames = order.pop(), []
        for frame in range(8):
            part = "test" if frame % 4 == 3 else "train"
            target = root / part / path.parent.name / f"video{number}_frame{frame}.png"
            brightened(cropped(Image.open(path).convert("L"), random), random).save(target)
            frames.append(target.relative_to(root).as_posix())
        groups.append(frames)
    return groups


def known_pairs(found: Audit) -> set[frozenset[str]]:
    """Return the paths of the near duplicates."""
    return {frozenset((found.material.paths[one], found.material.paths[other])) for one, other, _ in found.pairs}


def compare(found: Audit, before: Audit, truth: dict[str, Any]) -> dict[str, Any]:
    """Return recall and precision of each kind."""
    pairs, old = known_pairs(found), known_pairs(before)
    near = [(frozenset((one, other)) in pairs, kind) for one, other, kind in truth["near"]]
    frames = {frozenset((a, b)) for group in truth["frames"] for a in group for b in group if a != b}
    # Whatever has a planted copy at one end may be a copy of its other copies.
    planted = {name for *names, _ in truth["near"] for name in names} | {n for p in truth["contradictory"] for n in p}
    planted |= {name for group in truth["frames"] for name in group}
    false = [pair for pair in pairs - old if not pair & planted and not pair & set(truth["wrong"])]
    ranking = [found.material.paths[index] for index, _, _ in found.wrong]
    top = ranking[: len(found.material.paths) * 3 // 100]
    empty = {found.material.paths[f.index] for f in found.faults if f.kind == "black"}
    labels = {frozenset((found.material.paths[a], found.material.paths[b])) for a, b, _ in found.contradictory()}
    return {
        "near duplicates recall": np.mean([hit for hit, _ in near]),
        "near duplicates by kind": {k: np.mean([hit for hit, each in near if each == k]) for k in CHANGES},
        "near duplicates precision": 1 - len(false) / max(1, len(pairs - old)),
        "pairs in the untouched data": len(old),
        "frames of a group recall": np.mean([pair in pairs for pair in frames]),
        "wrong labels in the top 3 %": np.mean([name in top for name in truth["wrong"]]),
        "wrong labels listed": len(ranking),
        "contradictory recall": np.mean([frozenset(pair) in labels for pair in truth["contradictory"]]),
        "black recall": np.mean([name in empty for name in truth["black"]]),
        "black precision": len(set(truth["black"]) & empty) / max(1, len(empty)),
        "proposed group": found.group,
    }


def plant_leak(root: Path, random: np.random.Generator) -> None:
    """Put a fifth of the test images into train too, compressed again."""
    test = sorted((root / "test").rglob("*.*"))
    for number in random.permutation(len(test))[: len(test) // 5].tolist():
        target = root / "train" / test[number].parent.name / f"leak{number}.jpg"
        Image.open(test[number]).convert("L").save(target, quality=70)


def main() -> None:
    """Plant, audit and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--per-class", type=int, default=0)
    arguments = parser.parse_args()
    config, results = TrainConfig(image_size=arguments.image_size), {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("clean", "planted", "leak"):
            copy_data(arguments.data, Path(folder, name), arguments.per_class)
        truth = plant(Path(folder, "planted"), np.random.default_rng(0))
        plant_leak(Path(folder, "leak"), np.random.default_rng(1))
        found = {}
        for name in ("clean", "planted", "leak"):
            began = time.monotonic()
            found[name] = audit(Path(folder, name), config)
            results[name] = to_json(found[name])["accuracy"] | {"seconds": round(time.monotonic() - began, 1)}
        results["found"] = compare(found["planted"], found["clean"], truth)
    results["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    json.dump(results, sys.stdout, indent=1, default=float)


if __name__ == "__main__":
    main()
