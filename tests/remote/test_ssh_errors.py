from __future__ import annotations

import shlex

import pytest

from edgecls.remote.ssh_errors import SSH_FAILED, cut_text, install_text, start_text

LINE = "pip install 'tflite-runtime==2.14.0' 'numpy<2' edgecls"


@pytest.mark.parametrize(("python", "quote"), [("python3", '"'), ("'/opt/my $env/bin/python'", "'")])
def test_the_command_to_install_is_one_argument_of_ssh(python: str, quote: str) -> None:
    reported = install_text("pi@board", python, LINE, has_pip=True)
    assert reported.startswith(f"Install it: ssh pi@board {quote}")
    assert shlex.split(reported)[-1] == f"{python} -m pip install 'tflite-runtime==2.14.0' 'numpy<2' edgecls"


def test_every_pip_of_the_line_is_that_pythons() -> None:
    line = "pip uninstall -y onnxruntime && pip install 'edgecls[gpu]'"
    reported = shlex.split(install_text("board", "p", line, has_pip=True))[-1]
    assert reported == "p -m pip uninstall -y onnxruntime && p -m pip install 'edgecls[gpu]'"


def test_a_python_that_pip_must_not_change_gets_an_environment() -> None:
    reported = install_text("board", "python3", "pip install 'edgecls[onnx]'", has_pip=False)
    command = "python3 -m venv edgecls-env && edgecls-env/bin/pip install 'edgecls[onnx]'"
    assert reported == f'Install it: ssh board "{command}", then pass --python edgecls-env/bin/python'


def test_where_nothing_fits_that_is_said() -> None:
    assert install_text("board", "python3", "no wheel for riscv64", has_pip=True) == "no wheel for riscv64"


def test_words_of_the_board_are_not_taken_for_those_of_ssh() -> None:
    heard = ["bash: line 1: /root/python: Permission denied"]
    assert "board has no Python '/root/python'" in start_text("board", "/root/python", 126, heard)
    assert "ssh-copy-id board" in start_text("board", "python3", SSH_FAILED, heard)


def test_silence_is_reported_as_such() -> None:
    assert "(ssh printed nothing)" in cut_text("board", "running predict", [])
    assert start_text("board", "python3", 9, []).endswith("exit status 9; it printed nothing")
