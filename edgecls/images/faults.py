"""Errors of Pillow's decoders on damaged files."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from edgecls.errors import DataError

# Found by flipping bytes: the decoders parse headers in Python and do not wrap errors. MemoryError and OverflowError
# (an ArithmeticError) come from absurd sizes, AttributeError and AssertionError from missing parts. Warning, because a
# program may turn Pillow's warnings about damaged metadata into errors.
DECODE_ERRORS: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError)
DECODE_ERRORS += (ArithmeticError, AssertionError, AttributeError, MemoryError, struct.error, zlib.error)
DECODE_ERRORS += (Image.DecompressionBombError, Warning)
# These warnings do not name the file, and threads share the filters. They are about metadata: damaged pixels are an
# error, and forms that Pillow decodes wrongly are refused.
warnings.filterwarnings("ignore", module=r"PIL\.(Tiff|Png|Jpeg|WebP|Bmp)ImagePlugin")


@contextmanager
def decode_errors_named(name: str) -> Iterator[None]:
    """Turn Pillow's errors on a damaged file into a DataError that names it."""
    try:
        yield
    except DataError:
        raise
    except DECODE_ERRORS as error:
        cause = f"{type(error).__name__}: {error}"
        raise DataError(f"cannot decode image {name} ({cause}); replace or remove it") from error
