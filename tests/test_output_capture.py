from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from edgecls.errors import ExportError, MissingDependency
from edgecls.output_capture import TAIL_CHARACTERS, quietly

# In a process of its own, because pytest replaces the streams.
HIDING = """
import os, subprocess, sys, warnings
from edgecls.output_capture import quietly
print("before")
with quietly("noise"):
    print("hidden")
    print("hidden", file=sys.stderr)
    os.write(1, b"hidden")
    os.write(2, b"hidden")
    subprocess.run(["sh", "-c", "echo hidden; echo hidden >&2"])
    warnings.warn("hidden")
    sys.stdout.write("hidden, without an end of line")
    sys.stderr.write("hidden, without an end of line")
print("after")
print("after", file=sys.stderr)
os.write(1, b"native\\n") if sys.stdout.flush() is None else None
"""
FAILING = """
import os, sys
from edgecls.output_capture import quietly
try:
    with quietly("conversion"):
        os.write(2, b"native reason;")
        print("python reason;", end="")
        sys.stderr.write("last line")
        raise RuntimeError("no such operator")
except Exception as error:
    print(type(error).__name__, error, "cause", repr(error.__cause__))
print("restored", file=sys.stderr)
"""


def run(code: str) -> tuple[str, str]:
    # Nothing that makes Python write every character at once.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    return done.stdout, done.stderr


def test_all_output_is_hidden_and_the_streams_come_back() -> None:
    assert run(HIDING) == ("before\nafter\nnative\n", "after\n")


def test_a_failure_carries_the_log_and_its_cause() -> None:
    out, err = run(FAILING)
    assert out.startswith("ExportError conversion failed: no such operator\n")
    for words in ("native reason;", "python reason;", "last line"):
        assert words in out
    assert "cause RuntimeError('no such operator')" in out
    assert err == "restored\n"


def test_the_tail_of_a_long_log_is_kept() -> None:
    with pytest.raises(ExportError) as caught, quietly("conversion"):
        os.write(2, b"inventory " * 5000 + "the ä reason".encode())
        raise ValueError("short")
    text = str(caught.value)
    assert text.startswith("conversion failed: short\n")
    assert text.endswith("the ä reason")
    assert len(text) < TAIL_CHARACTERS + 100


def test_a_failure_without_a_log_is_one_line() -> None:
    with pytest.raises(ExportError) as caught, quietly("conversion"):
        raise ValueError("short")
    assert str(caught.value) == "conversion failed: short"


def test_no_descriptor_is_left_open_and_an_interrupt_passes() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with quietly("nothing"):
        pass
    with pytest.raises(ExportError), quietly("failure"):
        raise ValueError("x")
    with pytest.raises(KeyboardInterrupt), quietly("interrupt"):
        raise KeyboardInterrupt
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_warnings_are_heard_again_afterwards() -> None:
    with quietly("nothing"):
        warnings.warn("unheard", stacklevel=1)
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_a_missing_package_is_named_with_the_pip_line() -> None:
    with pytest.raises(MissingDependency, match=r"a step failed: No module named 'nowhere'; pip install .*train"):
        with quietly("a step"):
            import nowhere  # type: ignore[import-not-found]  # noqa: F401
