from __future__ import annotations

import numpy as np
import pytest

from edgecls.errors import DataError
from edgecls.images.decode import decode_gray

ROWS = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


@pytest.mark.parametrize(
    "data",
    [
        b"P5 4 3 255\n" + ROWS.tobytes(),
        b"P6 4 3 255\n" + np.repeat(ROWS, 3).tobytes(),
        b"P5 4 3 65535\n" + (ROWS.astype(">u2") * 257).tobytes(),
        b"P5 4 3 220\n" + ROWS.tobytes(),
        b"P4 4 3\n" + bytes(3),
    ],
)
def test_one_picture_is_read_and_a_second_one_refused(data: bytes) -> None:
    assert decode_gray(data).size == (4, 3)
    assert decode_gray(data + b"\n").size == (4, 3)
    with pytest.raises(DataError, match="more than one frame"):
        decode_gray(data + data)


@pytest.mark.parametrize(("white", "kind"), [(100, "u1"), (1000, ">u2")])
@pytest.mark.parametrize("color", ["P5", "P6"])
def test_values_above_white_are_refused(white: int, kind: str, color: str) -> None:
    values = np.full(4 * 3 * (3 if color == "P6" else 1), white, kind)
    data = f"{color} 4 3 {white}\n".encode()
    assert decode_gray(data + values.tobytes()).getextrema() == (255, 255)
    values[-1] += 1
    with pytest.raises(DataError, match=f"values up to {white + 1}, but its header says that {white} is white"):
        decode_gray(data + values.tobytes())


@pytest.mark.parametrize("color", ["P5", "P6"])
def test_a_header_that_ends_in_cr_lf_is_refused(color: str) -> None:
    """The netpbm documentation allows one character there; a first pixel of 10 after a CR is one."""
    data = np.full(4 * 3 * (3 if color == "P6" else 1), 10, "u1").tobytes()
    head = f"{color} 4 3 255\r".encode()
    assert decode_gray(head + data).getextrema() == (10, 10)
    with pytest.raises(DataError, match="header that ends in CR LF"):
        decode_gray(head + b"\n" + data)
