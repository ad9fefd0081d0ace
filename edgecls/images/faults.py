"""What Pillow's decoders raise on damaged files."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from edgecls.errors import DataError

# Found by flipping bytes: the decoders parse in Python and do not wrap what the parsing raises. MemoryError and
# OverflowError (an ArithmeticError) come from absurd sizes in headers, Attribute- and AssertionError from parts that
# are missing. Warning, because a program that turns warnings into errors gets Pillow's remarks on damaged metadata as
# exceptions.
DECODE_ERRORS: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError)
DECODE_ERRORS += (ArithmeticError, AssertionError, AttributeError, MemoryError, struct.error, zlib.error)
DECODE_ERRORS += (Image.DecompressionBombError, Warning)
# These remarks do not name the file, and no thread can hide them for itself alone. They are about metadata: pixels that
# are not whole are an error, and forms that Pillow misreads are refused.
warnings.filterwarnings("ignore", module=r"PIL\.(Tiff|Png|Jpeg|WebP|Bmp)ImagePlugin")


@contextmanager
def decode_errors_named(name: str) -> Iterator[None]:
    """Turn what Pillow raises on a damaged file into a DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except DECODE_ERRORS as error:
        cause = f"{type(error).__name__}: {error}"
        raise DataError(f"cannot decode image {name} ({cause}); replace or remove it") from error
