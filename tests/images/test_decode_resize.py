"""How images shrink: held against a float antialiased resize written here, and against Pillow's full decode."""

from __future__ import annotations

import base64
import hashlib
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import TURNS, encode, luma
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from tiny import make_spec

from edgecls.errors import DataError, ModelFileError
from edgecls.images import jpeg
from edgecls.images.decode import SPARE, decode_gray, load_gray

Floats = NDArray[np.float64]
# Gray values, on pictures with as much fine detail as photographs have. Without spare pixels (SPARE = 1) 20 and 2.7.
MAX_OFF, MEAN_OFF = 9, 1.3
JPEG_KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"progressive": True},
    {"subsampling": 0},
    {"subsampling": 1},
    {"subsampling": 2},
    {"restart_marker_blocks": 3},
)
# A JPEG of 83 x 61 with 4:2:0 colors; a file, because encoders differ between releases of Pillow.
SMALL_JPEG = base64.b85decode(
    "|JeWF01!$>Nk#wx0RR9200961|JwjV02>k%7Zed27Zw*D92+1gLMtdGB`8rkJupIGRb^yfRb5+Zc$tA}agcLcU4^xVke;Kft*d8%yve$z$C;?Br2"
    "pFhLjfEf9w;LyPAe-;q;6eqq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@@4A01*fPJpfY!0U`hb5di}c0sq7"
    "R82|tR0|5X4000000000000097009C8|HJ?-5C8%K0RsaA0tN#C00000009C65dab)F$6(T6Cz<UaTFtgk)gpP;qmbQ!~hln0RaI300000000000"
    "00000RjO3!~hu)0RaI40RaF20000000000009v(5+VQE01N{G00I#M5dc2`uCXNQB-DpWkECMJdSMw_GFUJKlh2%YQj?}KLEmsV7@MYzbO9IG?sG"
    "v?NF6~0dl!Iryk=R^R0Ue`Tvwa`>n+MM68C3r0RI5FwG6}=EQ_@~SBwTU8Pt(wwynkqB$UsffKb}%1Ng>jXyb5WOB8CW_rbtDF~6~oj8r^PtU+0t"
    "#nGaF=2uz(I-)+>qw|EIfJ83M{YPuc{5r=FLUj_`h0RUlnV=Z7ylhzZ!kNmSM9M*`V_Rc=NM$t|fgOD{i^<cm_bG6Bv9SLDSR~|42#svW4R#qbG0"
    "zg90utXRzDzZKpa{x93K%e}y{k7uS=v1VPXwMXCs4;o3Ic={K^x!ci8OLNo}iGmo4*_7VmNoG>6KsB*J*vbj>9QPSag6HsB_6UL_g!Iu_1xp#{&l"
    "zh#az#&8uK>EU}PUo6_4BJdE5uBSWLrkPt-zMdqTIC71llHC{1@N_Bx$E}aDF><8(X;5}QcBrIWBxUtyaU{{ng3L$;VX1DqMv5vA96-)2$xAlpt$"
    "^|l#R8S|)@qiTzMN-H~YrVKQXL9SVCfM%D!9RRXc^WhVh>=eF<`HDl#fY}tcD&ds+Ic}f%E^`JUhS+N`7y-fr`3;EK<c`HA8y!${aHmIDxD{5J@K"
    "iS{tysKvwcUO<2Zh+!_?M-$Y{_U<gU7l)l_#WU>R%48Bu95`oc?HiN1eqM93YCWE;J!{{VbrP%Fov(NcFHoT*u67I!X`sj8~CIL}Q9hN)N$nBKsg"
    "%7F2?W>Kq^`wnoB5K5~v5H>7NIND&QX;xB%UcJZ2zzKDoDH$Tj+iLTZsWHCW?XW&`F)O6%%X^(9R~alR=**>!l56@tb1-y_k)2zf-RnA#qJU1dBy"
    "4`!0QR%#6<YvoAB>%BDw3k89^Jfwc`<1cX&kXlME9Y-Oh?qcDeh`LfhRfLKv&XG5a98h2a@9sM>~K|8P1<jlqRA>i#M65Q5_}q3$s9gEFRe7%MlB"
    "zwGmf*{qa|fr%tj5BT(Q9@8=p=gT{r8(A#gC#UjG%BqRjADtmE|%lSt|vj9$!z$4CQ(Fv{~NdwP(ufzI%FH!@aX`x$XN~qj2EYYhl3n3f}IA~mhO"
    "s7{0Z;Tg6otWCN<BTO1AQCB8ipiv3P%|t_2BBb@ARO1M#xM|{3_;*{`OaACJvI&&&)?2;Swi&AQ)UC48+Az>fj|mqY$=9J6m!fF1$rJg$&R!C*#"
)


def triangle_weights(length: float, rows: int, wanted: int) -> Floats:
    """Return float (wanted, rows): bilinear interpolation of the first `length` of `rows`, widened when it shrinks."""
    scale = length / wanted
    width = max(scale, 1.0)
    centers = (np.arange(wanted) + 0.5) * scale
    weights = np.maximum(1 - np.abs(np.arange(rows) + 0.5 - centers[:, np.newaxis]) / width, 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def resize_float(gray: NDArray[Any], height: int, width: int) -> Floats:
    """Return the antialiased bilinear resize without any rounding."""
    rows, columns = gray.shape
    return np.asarray(
        triangle_weights(rows, rows, height) @ gray.astype(float) @ triangle_weights(columns, columns, width).T
    )


def mean_blocks(gray: Floats, factor: int) -> Floats:
    """Return the mean of every `factor` rows; the last ones may be fewer."""
    starts = np.arange(0, len(gray), factor)
    counts = np.minimum(len(gray) - starts, factor)
    return np.asarray(np.add.reduceat(gray, starts, axis=0) / counts[:, np.newaxis])


def shrink_rows(gray: Floats, wanted: int) -> Floats:
    """Return the rule on one axis, in floats: whole factors down to SPARE times the size, then bilinear."""
    factor = max(len(gray) // (SPARE * wanted), 1)
    reduced = mean_blocks(gray, factor)
    return triangle_weights(len(gray) / factor, len(reduced), wanted) @ reduced


def photograph(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return uint8 (H, W, 3) with the spectrum of natural photographs: amplitude falls as 1 / frequency."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    channels = []
    for _ in range(3):
        phases = np.exp(2j * np.pi * random.random(frequency.shape))
        values = np.fft.irfft2(phases / frequency, (height, width))
        channels.append(128 + 50 * values / values.std())
    # Channels of a photograph are much alike.
    mixed = np.stack([0.8 * channels[0] + 0.2 * channel for channel in channels], axis=2)
    picture: NDArray[np.uint8] = np.clip(mixed, 0, 255).astype(np.uint8)
    return picture


def load_float(source: Any, height: int, width: int) -> Floats:
    return load_gray(source, height, width)[:, :, 0].astype(float)


def decoded_size(data: bytes, height: int, width: int, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int, int]:
    """Return mode, width and height in which libjpeg decoded."""
    seen: list[tuple[str, int, int]] = []
    load = jpeg.load

    def recorded_load(image: JpegImageFile, name: str) -> Image.Image:
        seen.append((image.mode, *image.size))
        return load(image, name)

    with monkeypatch.context() as patch:
        patch.setattr(jpeg, "load", recorded_load)
        load_gray(data, height, width)
    return seen[0]


# The rule itself


@given(rows=st.integers(1, 90), columns=st.integers(1, 90), height=st.integers(1, 30), width=st.integers(1, 30))
def test_shrinking_is_block_means_then_bilinear(rows: int, columns: int, height: int, width: int) -> None:
    gray = np.random.default_rng(rows * 91 + columns).integers(0, 256, (rows, columns), dtype=np.uint8)
    expected = shrink_rows(shrink_rows(gray.astype(float), height).T, width).T
    # Pillow rounds to whole gray values after the means, after the columns and after the rows.
    assert np.abs(load_float(gray, height, width) - expected).max() <= 1.6


@pytest.mark.parametrize("size", [(1080, 1920), (1081, 1913), (480, 640), (300, 3000), (225, 224)])
def test_array_is_near_a_float_resize(size: tuple[int, int]) -> None:
    frame = photograph(*size)
    difference = np.abs(load_float(frame, 224, 224) - resize_float(luma(frame), 224, 224))
    assert difference.max() <= MAX_OFF and difference.mean() <= MEAN_OFF


@pytest.mark.parametrize("period", [2, 3, 4])
def test_fine_stripes_do_not_alias(period: int) -> None:
    stripes = np.where(np.arange(1920) % period < period // 2, 255, 0).astype(np.uint8)
    for gray in (np.tile(stripes, (1080, 1)), np.tile(stripes[:1080, np.newaxis], (1, 1920))):
        assert np.abs(load_float(gray, 120, 120) - 255 * (period // 2) / period).max() <= 10


def test_bytes_are_the_same_under_every_release_of_pillow() -> None:
    """Files in use depend on these bytes: if they change, image.RESAMPLE needs another name."""
    row, column = np.indices((131, 173))
    texture = ((row * row * 7 + column * column * 13 + row * column * 3) % 256).astype(np.uint8)
    digest = hashlib.sha256()
    for source in (SMALL_JPEG, texture):
        for height, width in ((60, 80), (31, 40), (14, 20), (7, 9), (30, 11), (11, 30), (131, 173)):
            digest.update(load_gray(source, height, width).tobytes())
    assert digest.hexdigest() == "9b4c2fd338e190865c86d754fa7f2819c453c2545911ff1296742171b4a1c40e"


def test_file_made_for_another_rule_is_refused() -> None:
    refusal = "resample must be 'spare2-bilinear'; received 'bilinear-antialias'; re-export"
    with pytest.raises(ModelFileError, match=refusal):
        make_spec(resample="bilinear-antialias")


# JPEG files


@pytest.mark.parametrize("side", [224, 112, 60, 30])
@pytest.mark.parametrize("options", JPEG_KINDS, ids=str)
def test_jpeg_is_near_a_float_resize_of_the_full_decode(options: dict[str, Any], side: int) -> None:
    data = encode(Image.fromarray(photograph(541, 963)), "JPEG", quality=90, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = resize_float(luma(np.array(image.convert("RGB"))), side, side)
    difference = np.abs(load_float(data, side, side) - expected)
    assert difference.max() <= MAX_OFF and difference.mean() <= MEAN_OFF


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_gray_and_cmyk_jpeg_likewise(mode: str) -> None:
    data = encode(Image.fromarray(photograph(541, 963)).convert(mode), "JPEG", quality=90)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == mode
        expected = resize_float(np.array(image.convert("L")), 60, 60)
    difference = np.abs(load_float(data, 60, 60) - expected)
    assert difference.max() <= MAX_OFF and difference.mean() <= MEAN_OFF


@pytest.mark.parametrize(
    ("side", "expected"),
    [(224, ("L", 963, 541)), (112, ("L", 482, 271)), (60, ("L", 241, 136)), (4, ("L", 121, 68))],
)
def test_jpeg_is_decoded_in_luma_and_no_larger_than_needed(
    side: int, expected: tuple[str, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(Image.fromarray(photograph(541, 963)), "JPEG")
    assert decoded_size(data, side, side, monkeypatch) == expected


def test_checkerboard_in_a_jpeg_does_not_alias() -> None:
    board = (np.indices((1080, 1920)).sum(axis=0) % 2 * 255).astype(np.uint8)
    data = encode(Image.fromarray(board), "JPEG", quality=100)
    for side in (224, 112, 60):
        assert np.abs(load_float(data, side, side) - 127.5).max() <= 3


def test_last_block_does_not_stretch_the_picture() -> None:
    # 1001 columns at 1/8 are 125.125: taken for 126, the ramp's end would be off by almost 2.
    ramp = np.broadcast_to(np.linspace(0, 255, 1001), (801, 1001)).round().astype(np.uint8)
    data = encode(Image.fromarray(ramp), "JPEG", quality=100, subsampling=0)
    assert np.abs(load_float(data, 20, 50) - resize_float(ramp, 20, 50)).max() <= 1.1
    assert (
        np.abs(
            load_float(encode(Image.fromarray(ramp.T), "JPEG", quality=100), 50, 20).T - resize_float(ramp, 20, 50)
        ).max()
        <= 1.1
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_jpeg_is_the_upright_one_turned(orientation: int) -> None:
    # So long that a scale chosen for the wrong sides would be another one.
    image = Image.fromarray(photograph(200, 1200))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(image, "JPEG", exif=exif)
    expected = TURNS[orientation](load_gray(encode(image, "JPEG"), 20, 130)[:, :, 0])
    np.testing.assert_array_equal(load_gray(data, *expected.shape)[:, :, 0], expected)


def test_tiny_jpeg_is_enlarged() -> None:
    data = encode(Image.new("RGB", (1, 1), (90, 90, 90)), "JPEG")
    assert (load_gray(data, 224, 224) == 90).all()


def test_path_and_bytes_agree_and_the_full_picture_stays_to_be_had(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(Image.fromarray(photograph(541, 963)), "JPEG"))
    np.testing.assert_array_equal(load_gray(path, 60, 60), load_gray(path.read_bytes(), 60, 60))
    assert decode_gray(path).size == (963, 541)


def test_image_of_the_caller_keeps_its_size_and_colors() -> None:
    image = Image.open(io.BytesIO(encode(Image.fromarray(photograph(541, 963)), "JPEG")))
    load_gray(image, 60, 60)
    assert image.size == (963, 541) and image.mode == "RGB"


@pytest.mark.parametrize(("side", "progressive"), [(30_000, False), (10_000, True)])
def test_jpeg_bomb_is_measured_before_it_is_decoded(side: int, progressive: bool) -> None:
    data = bytearray(encode(Image.new("L", (8, 8)), "JPEG", progressive=progressive))
    start = data.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", side, side)
    with pytest.raises(DataError, match=f"has {side} x {side} pixels; at most"):
        load_gray(bytes(data), 4, 4)
