"""Finds LiteRT.js, which runs TFLite files in a browser: in the cache, in a folder of npm, or downloads it on request.

Only files with the checksums below are used, wherever they come from.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import urllib.request
from pathlib import Path
from typing import NamedTuple

from edgecls.errors import ConfigError, MissingDependency
from edgecls.files import write_atomically
from edgecls.images.memmap import cache_folder

VERSION = "2.5.3"
REGISTRY = "https://registry.npmjs.org"
# Of one package, unpacked it has 58 MB.
MAX_DOWNLOAD_BYTES = 64 * 2**20
TIMEOUT_S = 60


class NpmFile(NamedTuple):
    """A file of one of the two packages."""

    package: str
    path: str  # in the package
    sha256: str


# Name in the folder of the page -> its source. One build needs relaxed SIMD, the other one not.
FILES = {
    "index.js": NpmFile("core", "dist/index.js", "e7daccc3a31eef890848a737ccb863ded5f046a6b40c3fdc0556495adeb5d9b3"),
    "wasm-utils.js": NpmFile(
        "wasm-utils", "dist/bundle.js", "c9c6c95a4e8692dd8a01f5d2d19dbe741b59c95c29d51bed19a22496760a9c62"
    ),
    "litert_wasm_internal.js": NpmFile(
        "core", "wasm/litert_wasm_internal.js", "68efb69f770e3f76aff36a377de629ca496c131b86ac0f0f4b592a1543a898eb"
    ),
    "litert_wasm_internal.wasm": NpmFile(
        "core", "wasm/litert_wasm_internal.wasm", "7280cf4471774867e385e6c3cd53e2b45e2975b80fea338fff4ef359b0865614"
    ),
    "litert_wasm_compat_internal.js": NpmFile(
        "core",
        "wasm/litert_wasm_compat_internal.js",
        "4d8f894b7883654fd6e8439730aa41e79ceaab7d19184fc4f1f0b0f1a2a2c8a5",
    ),
    "litert_wasm_compat_internal.wasm": NpmFile(
        "core",
        "wasm/litert_wasm_compat_internal.wasm",
        "5255c8ad06eabdbd2522cdebf6b22fc10faf74625c23a49b9e072570cd1fa41c",
    ),
}
PACKAGES = " ".join(f"@litertjs/{name}@{VERSION}" for name in ("core", "wasm-utils"))


def find_litert_js(folder: Path | None, *, download: bool) -> dict[str, bytes]:
    """Return the content of each of `FILES`.

    Args:
        folder: `node_modules` as npm makes it; None is the cache.
        download: fill the cache from npm's registry if it is empty.

    Raises:
        MissingDependency: LiteRT.js is not there, or cannot be downloaded.
        ConfigError: a file has another checksum.
    """
    root = cache_folder() / f"litert-js-{VERSION}" if folder is None else folder / "@litertjs"
    if folder is None and download and not _has_all(root):
        _download(root)
    if not _has_all(root):
        raise MissingDependency(
            f"LiteRT.js {VERSION} is not in {root}; download it once with edgecls web FILE --out DIR --download "
            f"(from npm's registry, 12 MB), or: npm install {PACKAGES}, then --litert-js node_modules"
        )
    return {name: _check(file, (root / file.package / file.path).read_bytes(), root) for name, file in FILES.items()}


def _has_all(root: Path) -> bool:
    return all((root / file.package / file.path).is_file() for file in FILES.values())


def _check(file: NpmFile, content: bytes, source: object) -> bytes:
    if (found := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise ConfigError(
            f"{source}: {file.package}/{file.path} has sha256 {found}, expected {file.sha256}: it is damaged or not of "
            f"version {VERSION}. Remove it and get it again: npm install {PACKAGES}"
        )
    return content


def _download(root: Path) -> None:
    for package in sorted({file.package for file in FILES.values()}):
        address = f"{registry()}/@litertjs/{package}/-/{package}-{VERSION}.tgz"
        members = _unpack(_fetch(address), address)
        for file in FILES.values():
            if file.package == package:
                content = _check(file, members.get(f"package/{file.path}", b""), address)
                path = root / package / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content)


def registry() -> str:
    """Return the address of npm's registry: of the environment, of .npmrc here or at home, or npm's own."""
    named = os.environ.get("npm_config_registry") or os.environ.get("NPM_CONFIG_REGISTRY")
    for path in (Path(".npmrc"), Path(os.path.expanduser("~")) / ".npmrc"):  # noqa: PTH111
        if not named and path.is_file():
            found = re.findall(r"^\s*registry\s*=\s*(\S+)", path.read_text("utf-8", "replace"), re.MULTILINE)
            named = found[-1] if found else None
    return (named or REGISTRY).rstrip("/")


def _fetch(address: str) -> bytes:
    remedy = f"get it with: npm install {PACKAGES}, then --litert-js node_modules"
    if not address.startswith(("https://", "http://")):
        raise ConfigError(f"npm's registry must be an address of http or https; received {address}; {remedy}")
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
            content: bytes = answer.read(MAX_DOWNLOAD_BYTES + 1)
    except (OSError, ValueError) as error:
        raise MissingDependency(f"{address} cannot be downloaded ({error}); {remedy}") from error
    if len(content) > MAX_DOWNLOAD_BYTES:
        raise ConfigError(f"{address} has more than {MAX_DOWNLOAD_BYTES} bytes; {remedy}")
    return content


def _unpack(content: bytes, address: str) -> dict[str, bytes]:
    """Return the files of the package that are needed, in memory."""
    wanted = {f"package/{file.path}" for file in FILES.values()}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            members = [each for each in archive if each.name in wanted and each.isfile()]
            return {each.name: file.read() for each in members if (file := archive.extractfile(each))}
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ConfigError(f"{address} is no package of npm ({error}); check the registry's address") from error
