"""How many cases each target gets, and how many it had. `make fuzz` loads this as a pytest plugin.

Without it the same tests run a few cases each, as a part of `make test`.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

FULL = os.environ.get("EDGECLS_FUZZ") == "full"
LEAST_CASES = 20_000
# A case that takes longer hangs.
MOST_SECONDS = 20
ran: Counter[str] = Counter()


def fuzz(full: int, quick: int = 60) -> Callable[[Any], Any]:
    """Return the settings of a test that is to run so many cases."""
    return settings(
        max_examples=full if FULL else quick,
        # The quick part is the same every time: it is for regressions. The full one looks for what is new.
        derandomize=not FULL,
        database=None,
        deadline=MOST_SECONDS * 1000,
        suppress_health_check=list(HealthCheck),
    )


def keep(data: bytes, name: str) -> None:
    """Write what was found to the folder $EDGECLS_FUZZ_KEEP, if there is one, for a regression test."""
    if folder := os.environ.get("EDGECLS_FUZZ_KEEP"):
        digest = hashlib.sha256(data).hexdigest()[:8]
        Path(folder, f"{name}-{digest}").write_bytes(data)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a full run that had too few cases."""
    if FULL and sum(ran.values()) < LEAST_CASES and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many cases each target had."""
    for name, count in sorted(ran.items()):
        terminalreporter.write_line(f"fuzz: {count:7,} {name}")
    terminalreporter.write_line(f"fuzz: {sum(n for name, n in ran.items() if ':' not in name):7,} cases in all")
