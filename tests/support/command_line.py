"""Runs edgecls commands, in this process or in one of their own."""

from __future__ import annotations

import os
import subprocess
import sys

from click.testing import CliRunner, Result

from edgecls.cli import main


def run(*arguments: object) -> Result:
    """What a command does inside this process; a traceback fails the test."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What a command does in a process of its own, native output included, where stdout takes UTF-8 alone."""
    command = [sys.executable, "-m", "edgecls", *(str(argument) for argument in arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "PYTHONWARN"))}
    environment["PYTHONIOENCODING"] = "utf-8:strict"
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def check_stages(stderr: str, starts: tuple[str, ...]) -> None:
    """Fails on any line that is not the name of a stage, such as TensorFlow's chatter."""
    assert [line for line in stderr.splitlines() if line.strip() and not line.startswith(starts)] == []
    assert "\r" not in stderr and "\x1b" not in stderr
