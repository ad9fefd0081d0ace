"""Describe a path that was given by mistake, for error messages."""

from __future__ import annotations

import codecs
import zipfile
from pathlib import Path

RUN_FILE = "run.json"
HEAD_BYTES = 4096
_BEGINNINGS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"RIFF": "a WebP image, or sound or video",
    b"\x89HDF": "an HDF5 file, as older versions of Keras write models and weights",
    b"\x1f\x8b": "a gzip archive",
    b"\x93NUMPY": "a NumPy array",
    b"\x80\x02": "a Python pickle, as older versions of PyTorch write models",
    b"%PDF": "a PDF file",
}
_MEMBERS = {
    "model.weights.h5": "a Keras model",
    "data.pkl": "a PyTorch file",
    "saved_model.pb": "a ZIP archive of a TensorFlow SavedModel",
}


def describe(path: Path) -> str:
    """Return what an existing path is, such as "a Keras model"; "" if that is unknown.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_dir():
        return _describe_folder(path)
    if not path.is_file():
        return "not a regular file"
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        return "an empty file"
    if head[4:8] == b"TFL3" or path.suffix == ".onnx":
        return "a TFLite file" if head[4:8] == b"TFL3" else "an ONNX file"
    if zipfile.is_zipfile(path):
        return _describe_zip(path)
    known = next((what for beginning, what in _BEGINNINGS.items() if head.startswith(beginning)), "")
    return known or _describe_text(head, path.suffix)


def _describe_folder(path: Path) -> str:
    if (path / RUN_FILE).is_file():
        return "a run folder"
    return "a TensorFlow SavedModel folder" if (path / "saved_model.pb").is_file() else "a folder"


def _describe_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except zipfile.BadZipFile:
        return "a damaged ZIP archive"
    return next((what for member, what in _MEMBERS.items() if member in names), "a ZIP archive")


def _describe_text(head: bytes, suffix: str) -> str:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "a text file"
    try:
        # The last character may be cut.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return ""
    if any(char < " " and char not in "\t\n\f\r" for char in text):
        return ""
    return "a JSON file" if suffix == ".json" else "a text file"


def find_run(path: Path) -> Path | None:
    """Return the run folder that is or contains a path."""
    return next((folder for folder in (path, *path.parents[:3]) if (folder / RUN_FILE).is_file()), None)


def explain_model(path: Path) -> str:
    """Return what a path is instead of an exported file, and what to do; "" if that is unknown.

    Raises:
        OSError: it cannot be read.
    """
    what, run = describe(path), find_run(path)
    if what.endswith("folder"):
        exported = sorted(file for folder in (path / "export", path) for file in folder.glob("*.*") if _is_model(file))
        if exported:
            return f"{path} is {what}. Did you mean {max(exported, key=_preference)}?"
        remedy = f"Export it first: edgecls export {path}" if run == path else "Pass a file that 'edgecls export' wrote"
        return f"{path} is {what}. {remedy}"
    if what == "a Keras model":
        remedy = f"Export it first: edgecls export {run}" if run else _import_command(path)
        return f"{path} is a Keras model. {remedy}"
    if what.startswith("an HDF5 file"):
        return f"{path} is {what}. {_import_command(path)}"
    # The reader of a model file describes its damage better.
    known = what not in ("", "a TFLite file", "an ONNX file")
    return f"{path} is {what}. Pass a file that 'edgecls export' wrote" if known else ""


def _import_command(path: Path) -> str:
    return f"Import it first: edgecls import {path} DATA --out RUN"


def _is_model(file: Path) -> bool:
    return file.suffix in (".tflite", ".onnx") and ".rejected." not in file.name


def _preference(file: Path) -> tuple[bool, bool]:
    return "int8" in file.name, file.suffix == ".tflite"


def explain_run(path: Path) -> str:
    """Return what a path is instead of a run folder, and which run folder is near; "" if that is unknown.

    Raises:
        OSError: it cannot be read.
    """
    if not path.exists():
        return ""
    what, near = describe(path), find_run(path)
    if near is None and path.is_dir():
        near = next((file.parent for file in sorted(path.glob(f"*/{RUN_FILE}"))), None)
    if near is None and what in ("", "a folder"):
        return ""
    remedy = f"Did you mean {near}?" if near else "Pass a folder that 'edgecls train' wrote"
    if near is None and what.startswith(("a Keras model", "an HDF5 file")):
        remedy = _import_command(path)
    return f"{path} is {what or 'a file'}, not a run folder. {remedy}"
