"""Image bytes: pixels or a DataError, whatever comes; and never more memory than the largest allowed picture takes."""

from __future__ import annotations

import resource
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from cases import fuzz, ran
from hypothesis import given
from hypothesis import strategies as st
from image_files import RGB, SEEDS, encode, repair_png_checksums
from mutations import damaged
from PIL import Image

from edgecls.errors import DataError
from edgecls.images.decode import decode_gray, load_gray

NOISE = np.random.default_rng(1).integers(0, 256, (70, 50, 3), np.uint8)
MORE = tuple(
    encode(Image.fromarray(NOISE), name, **options)
    for name, options in (
        ("JPEG", {"progressive": True}),
        ("JPEG", {"quality": 30, "subsampling": 2, "restart_marker_rows": 1}),
        ("TIFF", {"compression": "jpeg"}),
        ("TIFF", {"compression": "packbits"}),
        ("WEBP", {"quality": 50}),
    )
)
MORE += (encode(Image.fromarray(RGB).convert("CMYK"), "JPEG"), encode(Image.fromarray(RGB).convert("P"), "BMP"))
MORE += (b"P2 3 2 15\n0 1 2 3 4 15\n", b"P4 9 2\n\xff\x80\xff\x80", b"P6 2 1 65535\n" + bytes(12))
# 256 MiB as RGBA, twice as a file's own mode and as gray, and Python's own.
MOST_GROWTH_KB = 900 * 1024


@pytest.fixture(autouse=True, scope="module")
def bounded_memory() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_GROWTH_KB


@fuzz(9000, quick=150)
@given(damaged((*SEEDS, *MORE)), st.booleans(), st.sampled_from([(1, 1), (3, 5), (96, 64)]))
def test_image_bytes(data: bytes, repair: bool, size: tuple[int, int]) -> None:
    ran["image bytes"] += 1
    if repair and data.startswith(b"\x89PNG"):
        data = repair_png_checksums(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels = load_gray(data, *size)
        except DataError as error:
            assert "<bytes>" in str(error)
            return
        assert pixels.shape == (*size, 1) and pixels.dtype == np.uint8
        assert decode_gray(data).mode == "L"
