"""BMP files that Pillow decodes wrongly."""

from __future__ import annotations

from PIL.BmpImagePlugin import BmpImageFile

from edgecls.errors import DataError


def check_palette(image: BmpImageFile, name: str) -> None:
    """Raise DataError for a picture, not yet loaded, with a palette of grays that Pillow ignores."""
    if image.mode not in ("1", "L") or not image.fp or not image.tile:
        return
    position = image.fp.tell()
    image.fp.seek(14)
    header = image.fp.read(16)
    image.fp.seek(position)
    start = 10 if header[:4] == b"\x0c\0\0\0" else 14
    bits = int.from_bytes(header[start : start + 2], "little")
    if bits != {"1": 1, "L": 8}[image.mode]:
        raise DataError(
            f"image {name} is a BMP of {bits} bits with a palette of grays, which is not supported; save it as PNG"
        )


def has_no_alpha(image: BmpImageFile) -> bool:
    """Return whether the alpha channel of a loaded picture is all 0, as many programs write it."""
    return image.mode == "RGBA" and image.getchannel("A").getextrema()[1] == 0
