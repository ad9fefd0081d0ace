"""Captures the output of converters, and shows its end if they fail."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

from edgecls.errors import ExportError, MissingDependency

# A converter's log ends with the cause of its failure.
TAIL_CHARACTERS = 2000


@contextlib.contextmanager
def quietly(step: str) -> Iterator[None]:
    """Hide stdout, stderr and warnings of Python and native code inside the block.

    Args:
        step: name of the work in error messages.

    Raises:
        ExportError: the step failed; the text holds its error and the end of its log.
        MissingDependency: a package that it needs is not installed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as log:
        try:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except ImportError as error:
            raise MissingDependency(f"{step} failed: {error}; pip install 'edgecls[train]'") from error
        # Converters raise errors of any class.
        except Exception as error:
            # Also stderr: without a terminal Python buffers an incomplete line.
            sys.stdout.flush()
            sys.stderr.flush()
            log.seek(0)
            tail = log.read().decode(errors="replace")[-TAIL_CHARACTERS:].strip()
            raise ExportError(f"{step} failed: {error}\n{tail}".rstrip()) from error
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for target, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, target)
                os.close(copy)
