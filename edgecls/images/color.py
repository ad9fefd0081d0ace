"""Converts pictures of 8 bits a channel to gray; transparent parts become black."""

from __future__ import annotations

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile

from edgecls.errors import DataError
from edgecls.images.bmp import has_no_alpha
from edgecls.images.faults import decode_errors_named

LUMA_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")


def gray_8bit(image: Image.Image, name: str, key_factor: int) -> Image.Image:
    """Return a loaded picture in mode L.

    Args:
        image: of 8 bits a channel.
        name: for errors.
        key_factor: of `png.key_factor`.

    Raises:
        DataError: its mode is not supported, or its palette or transparent color is damaged.
    """
    if image.mode not in LUMA_MODES:
        accepted = ", ".join(LUMA_MODES + DEEP_MODES)
        raise DataError(f"image {name} has mode {image.mode!r}; accepted are {accepted}: convert it to one of them")
    with decode_errors_named(name):  # a damaged PNG may lack its palette or have an invalid transparent color
        if key_factor > 1 and "transparency" in image.info:
            image = image.copy()
            image.info["transparency"] = min(image.info["transparency"] * key_factor, 255)
        transparent = _is_transparent(image) and not (isinstance(image, BmpImageFile) and has_no_alpha(image))
        if transparent and image.mode not in ("LA", "RGBA"):
            image = image.convert("RGBA")
        gray = image if image.mode == "L" else image.convert("L")
    if not transparent:
        return gray
    on_black = Image.new("L", image.size)
    on_black.paste(gray, mask=image.getchannel("A"))
    return on_black


def _is_transparent(image: Image.Image) -> bool:
    # Pillow 9.4 of Debian 12 (32-bit Raspberry Pis) has no Image.has_transparency_data.
    palette = image.palette.mode if image.mode == "P" and image.palette else ""
    return image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info or palette.endswith("A")
