"""PNG files whose pixels are damaged are refused; damage beside the pixels is not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from image_files import encode
from PIL import Image, PngImagePlugin

from edgecls.errors import DataError
from edgecls.images.decode import load_gray
from edgecls.images.png_checksums import check_png

PIXELS = np.random.default_rng(1).normal(128, 9, (300, 300)).clip(0, 255).astype(np.uint8)


def test_lost_block_is_refused_wherever_it_is() -> None:
    data = encode(Image.fromarray(PIXELS), "PNG")
    for at in range(60, len(data) - 4096, 3001):
        for lost in (bytes(4096), b"\xff" * 4096, data[at - 50 : at - 50 + 4096]):
            with pytest.raises(DataError, match="damaged: the checksum of its IDAT at byte 33 is wrong"):
                load_gray(data[:at] + lost + data[at + 4096 :], 300, 300)
        with pytest.raises(DataError, match="<bytes>"):
            load_gray(data[:at] + bytes(len(data) - at), 300, 300)


def test_text_may_be_damaged_and_the_end_may_be_missing() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a comment", zip=False)
    data = encode(Image.fromarray(PIXELS), "PNG", pnginfo=text)
    check_png(io.BytesIO(data.replace(b"a comment", b"A comment")), "x")
    assert np.array_equal(load_gray(data[:-12], 300, 300)[:, :, 0], PIXELS)
