"""TIFF files of every form, with the gray that their samples stand for, computed from the array and not decoded."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]
Random = np.random.Generator


class Case(NamedTuple):
    """A file and what it must be read as, if it is read."""

    what: str
    data: bytes
    gray: Array | None  # float (H, W), 0..255; None if the file must be refused
    within: float = 1.0  # gray values


def luma(rgb: Array) -> Array:
    """Return ITU-R 601 of floats (H, W, 3)."""
    weighted: Array = rgb @ np.array([19595, 38470, 7471]) / 65536
    return weighted


def picture(random: Random, *shape: int) -> Array:
    """Return floats within 0..1: slopes with noise, from 0 to 1, at a random scale of brightness."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    slope = (rows * random.uniform(-1, 1) + columns * random.uniform(-1, 1)) / max(shape[:2])
    values = slope.reshape(*shape[:2], *[1] * (len(shape) - 2)) + random.uniform(-0.3, 0.3, shape)
    values -= values.min()
    return np.asarray(values / max(values.max(), 1e-9) * random.choice([1.0, 1.0, 0.5, 0.1]))


def choose(random: Random, *options: Any) -> Any:
    """Return one of the options."""
    return options[random.integers(len(options))]


def size(random: Random) -> tuple[int, int]:
    """Return a small height and width, odd ones among them."""
    return int(random.integers(1, 45)), int(random.integers(1, 45))


def _layout(random: Random, pixels: Array) -> dict[str, Any]:
    tiles: dict[str, Any] = {"tile": choose(random, (16, 16), (32, 16), (64, 64))}
    strips: dict[str, Any] = {"rowsperstrip": int(random.integers(1, pixels.shape[0] + 1))}
    return choose(random, {}, tiles, strips)  # type: ignore[no-any-return]


def _compression(random: Random, bits: int, kind: str) -> dict[str, Any]:
    name = choose(random, None, None, "lzw", "zlib", "packbits", "zstd", "lzma")
    options: dict[str, Any] = {"compression": name}
    # tifffile writes no differences of these.
    plain = bits == 64 and kind != "f" or bits == 16 and kind == "f"
    if name in ("lzw", "zlib", "zstd", "lzma") and not plain:
        options["predictor"] = bool(random.random() < 0.5)
    return options


def _write(random: Random, what: str, pixels: Array, gray: Array | None, within: float = 1, **options: Any) -> Case:
    settings = {**_layout(random, pixels), **options, "byteorder": choose(random, "<", ">"), "metadata": None}
    settings["bigtiff"] = random.random() < 0.2
    if settings.get("planarconfig") == "separate":
        pixels = np.moveaxis(pixels, -1, 0)
        settings.pop("rowsperstrip", None)
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **settings)
    shown = {name: value for name, value in settings.items() if name not in ("metadata", "colormap")}
    return Case(f"TIFF {what} {pixels.dtype} {shown}", file.getvalue(), gray, within)


def gray_integers(random: Random) -> Case:
    """Return unsigned gray of 1 to 64 bits, white or black at zero."""
    bits = choose(random, 8, 8, 16, 16, 16, 32, 64)
    # Of more than 16 bits only those are read that 16 would hold.
    top = 2.0 ** min(bits, 62) - 1 if bits <= 16 or random.random() < 0.3 else 65535.0
    values = picture(random, *size(random))
    samples = np.minimum(np.rint(values * top), top).astype(f"u{bits // 8}")
    white_is_zero = random.random() < 0.3
    gray = samples.astype(float) / (top if bits <= 16 else 65535) * 255
    gray = 255 - gray if white_is_zero else gray
    options = _compression(random, bits, "u")
    photometric = "miniswhite" if white_is_zero else "minisblack"
    expected = gray if bits <= 16 or samples.max() <= 65535 else None
    return _write(random, f"gray {bits} bits", samples, expected, photometric=photometric, **options)


def gray_packed(random: Random) -> Case:
    """Return gray whose samples do not fill bytes, in strips, bits from the left or from the right of each byte."""
    bits, order, fill = choose(random, 1, 2, 4, 8, 10, 12, 14), choose(random, "<", ">"), choose(random, 1, 1, 2)
    samples = np.rint(picture(random, *size(random)) * (2**bits - 1)).astype("u2")
    height, width = samples.shape
    rows = np.packbits((samples[..., None] >> np.arange(bits)[::-1] & 1).astype("u1").reshape(height, -1), axis=1)
    if fill == 2:
        rows = np.packbits(np.unpackbits(rows, axis=1, bitorder="little"), axis=1)
    # Of compressed data, the order would be that of its own bits.
    compression, photometric = 1 if fill == 2 else choose(random, 1, 8, 5), choose(random, 0, 1)
    step = int(random.integers(1, height + 1))
    encoders: dict[int, Any] = {1: bytes, 8: zlib.compress, 5: imagecodecs.lzw_encode}
    encode = encoders[compression]
    strips = [bytes(encode(rows[top : top + step].tobytes())) for top in range(0, height, step)]
    tags = {256: width, 257: height, 258: bits, 259: compression, 262: photometric, 266: fill, 277: 1, 278: step}
    gray = samples / (2**bits - 1) * 255
    gray = gray if photometric else 255 - gray
    what = f"TIFF packed {bits} bits {order} FillOrder {fill} compression {compression} photometric {photometric}"
    return Case(what, strip_tiff(tags, strips, order), gray)


def strip_tiff(tags: dict[int, int], strips: list[bytes], order: str) -> bytes:
    """Return a TIFF file of one page."""
    count = len(strips)
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    starts = np.cumsum([start + (8 * count if count > 1 else 0), *map(len, strips)])[:-1].tolist()
    entries = {tag: (1, value) for tag, value in tags.items()}
    entries |= {273: (count, start if count > 1 else starts[0])}
    entries |= {279: (count, start + 4 * count if count > 1 else len(strips[0]))}
    body = b"".join(struct.pack(f"{order}HHII", tag, 4, *entries[tag]) for tag in sorted(entries)) + bytes(4)
    lists = struct.pack(f"{order}{2 * count}I", *starts, *map(len, strips)) if count > 1 else b""
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    return header + body + lists + b"".join(strips)


def faxes(random: Random) -> Case:
    """Return black and white as Pillow's libtiff packs it."""
    samples = picture(random, *size(random)) > 0.3
    file = io.BytesIO()
    method = choose(random, "tiff_ccitt", "group3", "group4", "packbits", "tiff_lzw")
    Image.fromarray(samples).save(file, "TIFF", compression=method)
    return Case(f"TIFF fax {method}", file.getvalue(), samples * 255.0)


def gray_stated(random: Random) -> Case:
    """Return 16-bit gray of which MaxSampleValue says how many bits are used."""
    bits = choose(random, 9, 10, 11, 12, 13, 14, 15)
    samples = np.rint(picture(random, *size(random)) * (2**bits - 1)).astype("u2")
    gray = samples / (2**bits - 1) * 255
    tag = (281, "H", 1, 2**bits - 1, True)
    options = _compression(random, 16, "u")
    return _write(random, f"{bits} of 16 bits", samples, gray, photometric="minisblack", extratags=[tag], **options)


def gray_signed(random: Random) -> Case:
    """Return signed gray: 8 bits and negative values must be refused."""
    kind = choose(random, "i1", "i2", "i2", "i4", "i8")
    top = min(np.iinfo(kind).max, 65535)
    low = choose(random, 0, 0, -1)
    samples = np.rint(picture(random, *size(random)) * top * (1 - low) + low * top).astype(kind)
    readable = kind != "i1" and samples.min() >= 0
    gray = samples / 65535 * 255 if readable else None
    options = _compression(random, 8 * samples.dtype.itemsize, "i")
    return _write(random, "signed gray", samples, gray, photometric="minisblack", **options)


def gray_floats(random: Random) -> Case:
    """Return floats of 0..1, of 0..255, or of a range that must be refused."""
    kind, top = choose(random, "f2", "f4", "f4", "f8"), choose(random, 1, 1, 255, 255, 1.05, 1000, -1)
    values = picture(random, *size(random))
    values[0, 0] = 1
    samples = (values * top).astype(kind)
    gray = samples.astype(float) / top * 255 if top in (1, 255) else None
    options = _compression(random, 8 * samples.dtype.itemsize, "f")
    return _write(random, f"float up to {top}", samples, gray, photometric="minisblack", **options)


def colors(random: Random) -> Case:
    """Return RGB or CMYK of 8 to 32 bits, with or without alpha, samples together or planes apart."""
    ink, bits, alpha = random.random() < 0.25, choose(random, 8, 8, 16, 16, 32), choose(random, None, None, 0, 1, 2)
    channels = 4 if ink else 3
    alpha = None if ink else alpha
    values = picture(random, *size(random), channels + (alpha is not None))
    if alpha == 1:
        values[..., :3] *= values[..., 3:]
    samples = np.rint(values * (2**bits - 1)).astype(f"u{bits // 8}")
    values = samples / (2.0**bits - 1)
    rgb = (1 - values[..., :3]) * (1 - values[..., 3:4]) if ink else values[..., :3]
    gray = luma(rgb * 255)
    gray = gray * values[..., 3] if alpha == 2 else gray
    options = _compression(random, bits, "u")
    options["planarconfig"] = choose(random, "contig", "separate")
    if alpha is not None:
        options["extrasamples"] = [alpha]
    return _write(
        random,
        f"{'CMYK' if ink else 'RGB'} {bits} bits, extra {alpha}",
        samples,
        gray,
        # Upper 8 of 16 bits, and three roundings of CMYK and alpha.
        2 if ink or alpha is not None else 1,
        photometric="separated" if ink else "rgb",
        **options,
    )


def gray_alpha(random: Random) -> Case:
    """Return gray with a second sample: alpha of either kind, or something else."""
    bits, alpha = choose(random, 8, 8, 16), choose(random, 0, 1, 2)
    values = picture(random, *size(random), 2)
    if alpha == 1:
        values[..., 0] *= values[..., 1]
    samples = np.rint(values * (2**bits - 1)).astype(f"u{bits // 8}")
    values = samples / (2.0**bits - 1)
    gray = values[..., 0] * 255 * (values[..., 1] if alpha == 2 else 1)
    options = _compression(random, bits, "u") | {"planarconfig": choose(random, "contig", "separate")}
    what = f"gray {bits} bits, extra {alpha}"
    return _write(random, what, samples, gray, photometric="minisblack", extrasamples=[alpha], **options)


def palettes(random: Random) -> Case:
    """Return a palette of 256 colors, of 16 bits each or, as some programs write them, of 8."""
    samples = random.integers(0, 256, size(random), dtype="u1")
    table = random.integers(0, 256, (3, 256), dtype="u2") * choose(random, 1, 257, 257, 256)
    gray = luma((table[:, samples] / 257).transpose(1, 2, 0))
    if 0 < table.max() < 256:
        gray = luma(table[:, samples].astype(float).transpose(1, 2, 0))
    options = _compression(random, 8, "u")
    options["predictor"] = False
    return _write(random, "palette", samples, gray, photometric="palette", colormap=table, **options)


def jpegs(random: Random) -> Case:
    """Return JPEG in TIFF, whose reference is tifffile's decoder: another one, so a few gray values may differ."""
    color = random.random() < 0.5
    shape = (int(random.integers(16, 60)), int(random.integers(16, 60)))
    values = np.repeat(np.repeat(picture(random, *shape, *([3] if color else [])), 4, 0), 4, 1)
    samples = np.rint(values * 255).astype("u1")
    options: dict[str, Any] = {"compression": "jpeg", "compressionargs": {"level": int(random.integers(60, 100))}}
    options["photometric"] = choose(random, "rgb", "ycbcr") if color else "minisblack"
    if options["photometric"] == "ycbcr":
        options["subsampling"] = choose(random, (1, 1), (2, 1), (2, 2))
    case = _write(random, "JPEG", samples, None, **options)
    decoded = tifffile.imread(io.BytesIO(case.data)).astype(float)
    return case._replace(gray=luma(decoded) if color else decoded, within=6 if color else 2)


def pages(random: Random) -> Case:
    """Return two pages: a reduced or a mask page is none; two whole ones must be refused."""
    kinds = choose(random, (0, 1), (0, 4), (1, 0), (0, 0))
    pictures = [np.rint(picture(random, *size(random)) * 255).astype("u1") for _ in kinds]
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=choose(random, "<", ">"), bigtiff=random.random() < 0.3) as writer:
        for kind, samples in zip(kinds, pictures, strict=True):
            options = {} if kind == 4 else _compression(random, 8, "u")
            options["photometric"] = "mask" if kind == 4 else "minisblack"
            writer.write(samples > 99 if kind == 4 else samples, subfiletype=kind, metadata=None, **options)
    gray = None if kinds == (0, 0) else pictures[kinds.index(0)].astype(float)
    return Case(f"TIFF pages {kinds}", file.getvalue(), gray)


TIFF: tuple[Callable[[Random], Case], ...] = (
    gray_integers,
    gray_integers,
    gray_stated,
    gray_signed,
    gray_floats,
    gray_floats,
    colors,
    colors,
)
TIFF += (gray_packed, gray_packed, faxes, gray_alpha, palettes, jpegs, pages)
