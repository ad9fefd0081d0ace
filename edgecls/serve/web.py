"""Writes a folder that classifies in the browser: a page, one exported TFLite file and LiteRT.js. No server computes.

The page is that of `edgecls serve`. What the browser must know of the file is read here, so no script reads TFLite.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from edgecls.errors import ConfigError, ModelFileError
from edgecls.files import write_atomically
from edgecls.images.pillow import PNG_SIGNATURE
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.read import check_runnable, read_bytes, read_model_file
from edgecls.model_file.selftest import TOLERANCES, damaged_sample
from edgecls.runtime.litert import check_compiled
from edgecls.serve.litert_js import VERSION
from edgecls.serve.session import describe_spec

SHARED = ("index.html", "view.js", "style.css", "icon.svg")
OWN = ("web.js", "decode.js", "png.js", "jpeg.js", "jpeg_blocks.js", "idct.js", "gray.js", "resize.js", "sw.js")
# The version of the folder's files, for sw.js; a folder with this file may be written again.
MARK = "files.js"
_MARK_START = b"self.FOLDER = "
_IMPORTS = json.dumps({"imports": {"@litertjs/wasm-utils": "./litert/wasm-utils.js"}})
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'sha256-{}'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; media-src 'self' blob:; manifest-src 'self'; worker-src 'self'; base-uri 'none'; "
    "form-action 'none'"
)


class WebFolder(NamedTuple):
    """What was written."""

    files: int
    size_bytes: int
    first_visit_bytes: int  # that a browser loads: one of the two builds of LiteRT.js


def write_web(file: Path, out: Path, litert_js: dict[str, bytes]) -> WebFolder:
    """Return what was written into the folder `out`; it is made if needed.

    Args:
        file: an exported TFLite file.
        out: a new or empty folder, or one that this function wrote before.
        litert_js: of `find_litert_js`.

    Raises:
        ConfigError: `out` holds other files, or `file` is compiled for an NPU.
        ModelFileError: not an exported TFLite file.
        OSError: the folder cannot be written.
    """
    data = read_bytes(file)
    model = read_model_file(data)
    if model.format != "tflite":
        raise ModelFileError(f"{file} is an ONNX file; LiteRT.js runs TFLite files: edgecls export run --int8")
    check_compiled(model.graph, "cpu")
    check_runnable(model)
    if out.is_dir() and any(out.iterdir()) and not _is_ours(out / MARK):
        raise ConfigError(f"{out} holds other files; give a new folder")
    files = _page() | {f"litert/{name}": content for name, content in litert_js.items()}
    files |= {"model.tflite": data, "model.json": _to_json(_describe(model.spec, data))}
    digest = hashlib.sha256(b"".join(hashlib.sha256(name.encode() + files[name]).digest() for name in sorted(files)))
    listed = {"version": digest.hexdigest()[:16], "files": sorted(files.keys() - {"index.html", "sw.js"})}
    # Last: it makes browsers load the other files again.
    files[MARK] = _MARK_START + _to_json(listed) + b";\n"
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out / name, content)
    sizes = {name: len(content) for name, content in files.items()}
    spare = sum(size for name, size in sizes.items() if "_compat_" in name)
    return WebFolder(len(files), sum(sizes.values()), sum(sizes.values()) - spare)


def _is_ours(mark: Path) -> bool:
    # A page of somebody else may have a file of this name too.
    return mark.is_file() and mark.read_bytes().startswith(_MARK_START)


def _page() -> dict[str, bytes]:
    package = resources.files("edgecls.serve")
    files = {name: package.joinpath("page", name).read_bytes() for name in SHARED}
    files |= {name: package.joinpath("web_page", name).read_bytes() for name in OWN}
    files["litert/LICENSE.txt"] = package.joinpath("web_page", "LICENSE-litert.txt").read_bytes()
    files["index.html"] = _index(files["index.html"].decode()).encode()
    files["manifest.webmanifest"] = _to_json(_MANIFEST)
    return files


_MANIFEST = {
    "name": "edgecls",
    "short_name": "edgecls",
    "start_url": "./",
    "scope": "./",
    "display": "standalone",
    "icons": [{"src": "icon.svg", "sizes": "any", "type": "image/svg+xml"}],
}


def _index(page: str) -> str:
    """Return the page of `edgecls serve` without what needs its server, and with the scripts of the browser."""
    policy = _POLICY.format(base64.b64encode(hashlib.sha256(_IMPORTS.encode()).digest()).decode())
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<link rel="manifest" href="manifest.webmanifest">\n'
        f'<script type="importmap">{_IMPORTS}</script>\n'
    )
    page = re.sub(r"<!-- serve -->\n.*?<!-- /serve -->\n", "", page, flags=re.DOTALL)
    # After view.js, whose names it uses.
    page = page.replace("</head>", '<script type="module" src="web.js"></script>\n</head>', 1)
    return page.replace("<title>", head + "<title>", 1)


def _describe(spec: ModelSpec, data: bytes) -> dict[str, Any]:
    return describe_spec(spec) | {
        "bits": spec.bits,
        "channels": spec.channels,
        "input_dtype": spec.input_dtype,
        "good_class": spec.good_class,
        "good_threshold": spec.good_threshold,
        "file_sha256": hashlib.sha256(data).hexdigest(),
        "tolerance": TOLERANCES[spec.precision],
        "golden": [_to_sample(sample) for sample in spec.golden],
        "engine": "LiteRT.js",
        "engine_version": VERSION,
        "device": "this browser's CPU",
        "threads": 1,
    }


def _to_sample(sample: dict[str, Any]) -> dict[str, Any]:
    """Return a golden sample for scripts, which know Base64; without its file if browsers cannot decode it alike."""
    try:
        file, pixels = base64.b85decode(sample["file"]), base64.b85decode(sample["pixels"])
        kept = {name: sample[name] for name in ("name", "gray_sha256", "scores")}
    except (KeyError, TypeError, ValueError) as error:
        raise damaged_sample(error) from error
    readable = file.startswith((PNG_SIGNATURE, b"\xff\xd8\xff"))
    return kept | {
        "file": base64.b64encode(file).decode() if readable else None,
        "pixels": base64.b64encode(pixels).decode(),
    }


def _to_json(value: object) -> bytes:
    return json.dumps(value, allow_nan=False).encode()
