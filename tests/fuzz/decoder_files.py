"""PNG, BMP, PNM and WebP files of every form, with the gray that their samples stand for."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
from decoder_tiff import Array, Case, Random, choose, luma, picture, size
from image_files import png
from PIL import Image

# Of Adam7: first row and column, and the steps.
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def _rows(samples: Array, depth: int) -> bytes:
    """Return rows of samples, (H, W, C), packed from the left, each behind PNG's filter 0."""
    if not samples.size:
        return b""
    bits = (samples.astype(np.int64)[..., None] >> np.arange(depth)[::-1] & 1).astype("u1")
    return b"".join(b"\0" + row.tobytes() for row in np.packbits(bits.reshape(len(samples), -1), axis=1))


def _tokens(samples: Array) -> bytes:
    return b" ".join(b"%d" % value for value in samples.ravel().tolist())


def pngs(random: Random) -> Case:
    """Return PNG of every color type and depth, interlaced or not, with transparency and bits that are used."""
    color = choose(random, 0, 0, 2, 3, 4, 6)
    depth = choose(random, *DEPTHS[color])
    height, width = size(random)
    # sBIT, with the bits on the right as cameras write them, or on the left as the specification has it.
    used = choose(random, 10, 12, 14) if (color, depth) == (0, 16) and random.random() < 0.6 else depth
    samples = np.rint(picture(random, height, width, CHANNELS[color]) * (2**used - 1)).astype(np.int64)
    chunks: list[tuple[bytes, bytes]] = [(b"gAMA", struct.pack(">I", 45455))] if random.random() < 0.3 else []
    white = 2**used - 1
    if used < depth:
        chunks.append((b"sBIT", bytes([used])))
        if random.random() < 0.5:
            samples, white = samples << depth - used | samples >> 2 * used - depth, 2**depth - 1
        elif not np.any(samples % 2 ** (16 - used) > 1):
            samples[0, 0] = white
    gray, extra = _png_gray(random, samples, color, depth, white)
    interlaced = random.random() < 0.4
    parts = PASSES if interlaced else ((0, 0, 1, 1),)
    body = b"".join(_rows(samples[top::down, left::right], depth) for top, left, down, right in parts)
    data = png(width, height, *chunks, *extra, (b"IDAT", zlib.compress(body)), depth=depth, color=color)
    if interlaced:
        header = data[12:28] + b"\1"
        data = data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    names = [kind.decode() for kind, _ in (*chunks, *extra)]
    return Case(f"PNG color {color} depth {depth} used {used} {names} interlaced {interlaced}", data, gray, 2)


def _png_gray(
    random: Random, samples: Array, color: int, depth: int, white: int
) -> tuple[Array, list[tuple[bytes, bytes]]]:
    """Return the gray and the chunks that it needs."""
    values = samples / white
    keyed = random.random() < 0.3
    if color == 3:
        table = random.integers(0, 256, (2**depth, 3), dtype="u1")
        alpha = random.integers(0, 256, 2**depth, dtype="u1") if keyed else np.full(2**depth, 255, "u1")
        gray = (luma(table.astype(float)) * alpha / 255)[samples[..., 0]]
        return gray, [(b"PLTE", table.tobytes())] + ([(b"tRNS", alpha.tobytes())] if keyed else [])
    if color in (4, 6):
        gray = values[..., 0] * 255 if color == 4 else luma(values[..., :3] * 255)
        return gray * values[..., -1], []
    gray = values[..., 0] * 255 if color == 0 else luma(values * 255)
    if not keyed:
        return gray, []
    key = samples[tuple(random.integers(samples.shape[:2]))]
    return np.where((samples == key).all(2), 0, gray), [(b"tRNS", key.astype(">u2").tobytes())]


def bmps(random: Random) -> Case:
    """Return BMP of 1 to 32 bits, with each header, from either end, with masks and alpha."""
    height, width = size(random)
    bits = choose(random, 1, 4, 8, 16, 24, 32, 32)
    down, header = random.random() < 0.3, choose(random, 40, 40, 108, 124)
    masks, colors, table = (0, 0, 0, 0), 0, b""
    if bits <= 8:
        count = int(random.integers(2, 2**bits + 1)) if bits > 1 else 2
        palette = random.integers(0, 256, (count, 3), dtype="u1")
        if random.random() < 0.3:
            palette[:] = np.arange(count)[:, None]  # a gray ramp, but a dark one
        samples = random.integers(0, count, (height, width))
        gray = luma(palette.astype(float)[:, ::-1])[samples]
        rows = np.packbits((samples[..., None] >> np.arange(bits)[::-1] & 1).astype("u1").reshape(height, -1), axis=1)
        table, colors = np.hstack([palette, np.zeros((count, 1), "u1")]).tobytes(), count
    elif bits == 16:
        green = choose(random, 5, 6)
        masks = (0xF800, 0x7E0, 0x1F, 0) if green == 6 else (0x7C00, 0x3E0, 0x1F, 0)
        parts = [random.integers(0, 2**depth, (height, width)) for depth in (5, green, 5)]
        gray = luma(np.dstack([part / (2**depth - 1) * 255 for part, depth in zip(parts, (5, green, 5), strict=True)]))
        words = parts[0] << green + 5 | parts[1] << 5 | parts[2]
        rows = words.astype("<u2").view("u1").reshape(height, -1)
    else:
        rgb = np.rint(picture(random, height, width, 3) * 255).astype("u1")
        gray, channels = luma(rgb.astype(float)), [rgb[..., ::-1]]
        if bits == 32:
            alpha = choose(
                random, np.zeros((height, width), "u1"), random.integers(0, 256, (height, width), dtype="u1")
            )
            channels.append(alpha[..., None])
            if random.random() < 0.6:
                masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
                header = max(header, 108)
                gray = gray * alpha / 255 if alpha.any() else gray
        rows = np.dstack(channels).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    body = rows.tobytes() if down else rows[::-1].tobytes()
    fields = header > 40 and masks[0] or masks[1] == 0x7E0
    start = struct.pack("<IiiHHIIiiII", header, width, -height if down else height, 1, bits, 3 if fields else 0,
                        len(body), 0, 0, colors, 0)  # fmt: skip
    start += struct.pack("<4I", *masks)[: 16 if header > 40 else 12 if fields else 0]
    start += b"BGRs" + bytes(header - 40 - 16 - 4) if header > 40 else b""
    offset = 14 + len(start) + len(table)
    data = b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + start + table + body
    what = f"BMP {bits} bits header {header} colors {colors} masks {masks} top down {down}"
    return Case(what, data, gray, 4 if bits == 16 else 2 if bits == 32 else 1)


def run_lengths(random: Random) -> Case:
    """Return BMP of 4 or 8 bits, run-length encoded."""
    height, width = size(random)
    bits = choose(random, 4, 8)
    palette = random.integers(0, 256, (2**bits, 3), dtype="u1")
    samples = np.repeat(random.integers(0, 2**bits, (height, width)), 3, axis=1)
    body = b""
    for row in samples[::-1]:
        for start in range(0, len(row), 3):
            body += bytes([3, int(row[start]) * (17 if bits == 4 else 1)])
        body += b"\0\0"
    body += b"\0\1"
    table = np.hstack([palette, np.zeros((len(palette), 1), "u1")]).tobytes()
    offset = 54 + len(table)
    start_bytes = struct.pack("<IiiHHIIiiII", 40, samples.shape[1], height, 1, bits, 1 if bits == 8 else 2,
                              len(body), 0, 0, 0, 0)  # fmt: skip
    data = b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + start_bytes + table + body
    return Case(f"BMP RLE{bits}", data, luma(palette.astype(float)[:, ::-1])[samples])


def pnms(random: Random) -> Case:
    """Return PBM, PGM or PPM, plain or raw, of any maxval, with comments."""
    kind = int(random.integers(1, 7))
    height, width = size(random)
    white = 1 if kind in (1, 4) else choose(random, 255, 65535, 4095, 1023, 15, int(random.integers(2, 65536)))
    shape = (height, width, 3) if kind in (3, 6) else (height, width)
    samples = np.rint(picture(random, *shape) * white).astype(np.int64)
    comment = choose(random, b"", b"# by hand\n", b"#\n# 1 2 3\n")
    head = b"P%d\n%s%d %d\n" % (kind, comment, width, height) + (b"" if kind in (1, 4) else b"%d\n" % white)
    if kind <= 3:
        body = _tokens(samples)
    elif kind == 4:
        body = np.packbits(samples.astype("u1"), axis=1).tobytes()
    else:
        body = samples.astype(">u2" if white > 255 else "u1").tobytes()
    values = (1 - samples if kind in (1, 4) else samples) / white * 255
    return Case(f"PNM P{kind} maxval {white}", head + body, luma(values) if kind in (3, 6) else values)


def webps(random: Random) -> Case:
    """Return WebP, lossless or not, with and without alpha; the reference is libwebp through imagecodecs."""
    channels, lossless = choose(random, 3, 4), random.random() < 0.5
    height, width = (int(side) for side in random.integers(8, 60, 2))
    samples = np.rint(picture(random, height, width, channels) * 255).astype("u1")
    file = io.BytesIO()
    options: dict[str, Any] = (
        {"lossless": True, "exact": True} if lossless else {"quality": int(random.integers(40, 95))}
    )
    Image.fromarray(samples).save(file, "WEBP", **options)
    decoded = samples if lossless else imagecodecs.webp_decode(file.getvalue())
    values = decoded.astype(float)
    gray = luma(values[..., :3])
    gray = gray * values[..., 3] / 255 if values.shape[2] == 4 else gray
    return Case(f"WebP lossless {lossless} channels {channels}", file.getvalue(), gray)


OTHERS = (pngs, pngs, pngs, bmps, bmps, run_lengths, pnms, pnms, webps)
