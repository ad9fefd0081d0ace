"""SIGTERM ends a command as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import threading

import click
import pytest
from click.testing import CliRunner, Result

from edgecls import cli


@pytest.fixture
def cleaned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Puts a command in the place of `doctor` that gets SIGTERM; what it cleans up is noted."""
    noted: list[str] = []

    @click.command()
    def doctor() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            noted.append("cleaned")

    monkeypatch.setattr(cli.Group, "get_command", lambda *_: doctor)
    return noted


def run() -> Result:
    return CliRunner().invoke(cli.main, ["doctor"])


def test_it_is_reported_after_cleaning_up(cleaned: list[str]) -> None:
    done = run()
    assert (done.exit_code, done.stderr, cleaned) == (143, "Terminated!\n", ["cleaned"])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_whoever_handles_it_keeps_it(cleaned: list[str]) -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: got.append(number))
    try:
        assert run().exit_code == 0 and got == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_leave_it_alone() -> None:
    seen: list[object] = []

    def work() -> None:
        with cli.sigterm_as_ctrl_c():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
