"""Keeps converters' chatter from the user, and keeps its text for the error message if they fail."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

from edgecls.errors import ExportError, MissingDependency

# The end of a converter's log is where it says what went wrong; the rest is inventory.
TAIL_CHARACTERS = 2000


@contextlib.contextmanager
def quietly(step: str) -> Iterator[None]:
    """Hides what runs inside: Python's and native code's stdout and stderr, and warnings.

    Args:
        step: what is being done, for the error's text.

    Raises:
        ExportError: the step failed; its own error is the cause, the end of its log is in the text.
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
        # Converters raise whatever they like; every failure becomes one error that keeps its cause.
        except Exception as error:
            # stderr, too: when it is no terminal, Python keeps a line that is not ended.
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
