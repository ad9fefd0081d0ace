"""Heat maps of a run's images, from an exported file of the run that has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from edgecls.errors import EdgeclsError
from edgecls.images.decode import decode_part
from edgecls.images.heatmap import color_in
from edgecls.model_file.read import read_spec
from edgecls.runtime.classifier import Classifier, load

Draw = Callable[[Path, str], Image.Image]  # image, label


def find_heatmaps(folder: Path, files: Sequence[dict[str, Any]]) -> tuple[Draw | None, str]:
    """Return what draws an image with its heat map for a label, and a sentence about it.

    Both are empty if no file has heat maps, the first also if the file cannot be run here.

    Args:
        folder: of the files.
        files: entries of export.json; of those with heat maps, the first int8 file is used, else the first.
    """
    names = sorted((Path(file["path"]).name for file in files), key=lambda name: "int8" not in name)
    try:
        name = next((name for name in names if read_spec(folder / name).heatmap), "")
        if not name:
            return None, ""
        # A run folder may come from anybody.
        classifier = load(folder / name, untrusted=True)
    except EdgeclsError as error:
        return None, f"Heat maps are missing: {error}"
    text = f"Below each picture, what speaks for the predicted label, from {name}: a little in yellow, most in red."
    return lambda path, label: _draw(classifier, path, label), text


def _draw(classifier: Classifier, path: Path, label: str) -> Image.Image:
    spec = classifier.spec
    _, heatmap = classifier.engine.run_with_heatmap(classifier.read(path)[None])
    part = decode_part(path, spec.height, spec.width, spec.preprocessing)
    return color_in(part, heatmap[:, :, spec.labels.index(label)])
