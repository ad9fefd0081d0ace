"""The images that are scored: of a run's test split or of a folder, and full camera frames made of them."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import ExifTags, Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".webp")
FRAME_SIZE = (1920, 1080)


def choose_images(run: Path, folder: Path | None, count: int) -> list[Path]:
    """Return at most `count` images, spread evenly over the folder or, without one, over the run's test split.

    Raises:
        SystemExit: there are none.
    """
    if folder:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    else:
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
        split = record["split"].get("test") or record["split"]["val"]
        paths = sorted(Path(record["data"]) / name for names in split.values() for name in names)
    if not paths or not paths[0].is_file():
        raise SystemExit(f"no images in {folder or paths[:1] or run}; pass --images DIR")
    count = min(count, len(paths))
    return [paths[number * len(paths) // count] for number in range(count)]


def make_frames(images: list[Path], folder: Path) -> list[Path]:
    """Return camera-sized JPEG files tiled with the images, so that the decoder's reduced scales are used too."""
    frame = Image.new("RGB", FRAME_SIZE)
    left = top = bottom = 0
    for number in range(1000):
        with Image.open(images[number % len(images)]) as opened:
            image = opened.convert("RGB")
        image.thumbnail((480, 480))
        if left >= frame.width:
            left, top = 0, bottom
        if top >= frame.height:
            break
        frame.paste(image, (left, top))
        left, bottom = left + image.width, max(bottom, top + image.height)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    paths = [folder / f"frame-{name}.jpg" for name in ("plain", "progressive", "turned", "odd", "gray")]
    frame.save(paths[0], quality=90)
    frame.save(paths[1], quality=85, progressive=True)
    frame.save(paths[2], quality=95, subsampling=0, exif=turned)
    frame.crop((0, 0, 1913, 1077)).save(paths[3], quality=90)
    frame.convert("L").save(paths[4], quality=80)
    return paths
