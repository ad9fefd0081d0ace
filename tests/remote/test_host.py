"""Connections to a real sshd on loopback: what goes wrong, and what is said then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from board_sshd import BoardSshd, write_script
from command_line import run
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecls.errors import DataError, RemoteError
from edgecls.remote.host import Host, connect

NO_ENGINE = """
import sys
sys.modules.update(dict.fromkeys(("ai_edge_litert", "tflite_runtime", "openvino")))
"""
NEWER_RECORDS = """
import edgecls.benchmark.record
edgecls.benchmark.record.SCHEMA = 99
"""
OLD_PYTHON = "import sys; sys.version_info = (3, 7, 3); sys.version = '3.7.3 (default)'; "


def selftest(file: Path, python: Path | str, host: str = "board") -> Any:
    return run("selftest", file, "--host", host, "--python", python)


def refused(file: Path, python: Path | str, host: str = "board") -> str:
    """What a command that fails says, but for what was said of copying."""
    done = selftest(file, python, host)
    assert (done.exit_code, done.stdout) == (1, "")
    return str(done.stderr)


# ssh cannot connect


def test_a_wrong_host_key_is_reported_with_the_line_that_forgets_it(board: BoardSshd, int8: Path) -> None:
    board.know("other")
    said = refused(int8, board.python)
    assert said.startswith("Error: the host key of board has changed")
    assert f'ssh-keygen -f "{board.known_hosts}" -R "[127.0.0.1]:{board.port}"' in said


def test_an_unknown_host_key_is_not_taken(board: BoardSshd, int8: Path) -> None:
    board.known_hosts.write_text("")
    assert "does not know the host key of board yet; log in once by hand" in refused(int8, board.python)
    assert board.known_hosts.read_text() == ""


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("HostName", "no-such-board.invalid", "no host has the name in 'board'"),
        ("Port", 1, "board does not answer; check that it is on"),
        ("IdentityFile", "{folder}/other", "board asks for a password; copy your key to it once"),
    ],
)
def test_what_ssh_says_is_explained(board: BoardSshd, int8: Path, option: str, value: Any, said: str) -> None:
    board.reset(**{option: str(value).format(folder=board.folder)})
    reported = refused(int8, board.python)
    # One error, with the last line of ssh's stderr.
    assert said in reported and reported.count("\n") == 1 and "(ssh: " in reported


def test_options_cannot_hide_in_a_host(board: BoardSshd, int8: Path, tmp_path: Path) -> None:
    assert "exit status 255" in refused(int8, "python3", f"-oProxyCommand=touch {tmp_path / 'x'}")
    assert not (tmp_path / "x").exists()


def test_without_ssh_the_package_is_named(int8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "apt-get install openssh-client" in refused(int8, "python3")


# The remote Python


def test_a_board_without_python(board: BoardSshd, int8: Path) -> None:
    assert "board has no Python 'no such python'; install it, or name another" in refused(int8, "no such python")
    (board.folder / "plain").write_text("")
    assert f"board has no Python '{board.folder / 'plain'}'" in refused(int8, board.folder / "plain")
    assert "'/bin/false' could not be started on board: exit status 1" in refused(int8, "/bin/false")


def test_a_python_that_is_too_old(board: BoardSshd, int8: Path, tmp_path: Path) -> None:
    python = write_script(
        tmp_path / "python", 'code="$2"; shift 2', f'exec {sys.executable} -c "{OLD_PYTHON}$code" "$@"'
    )
    assert f"'{python}' on board is Python 3.7.3, edgecls needs 3.10 or newer" in refused(int8, python)


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_a_python_without_edgecls_is_reported_what_to_install(
    board: BoardSshd, int8: Path, tmp_path: Path, kind: str
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True, timeout=120)
    python, extra = tmp_path / "bare/bin/python", {"tflite": "litert", "onnx": "onnx"}[kind]
    said = refused(int8.with_name(f"model-int8.{kind}"), python)
    assert f"{python} on board lacks edgecls, click, numpy, PIL. Install it: ssh board " in said
    assert f"{python} -m venv edgecls-env && edgecls-env/bin/pip install" in said and f"edgecls[{extra}]" in said
    assert "pass --python edgecls-env/bin/python" in said


def test_a_missing_engine_is_reported_with_the_command_for_the_board(
    board: BoardSshd, int8: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_ENGINE)
    python = board.add_python("no-engine", path=tmp_path)
    for command in (["selftest"], ["benchmark"]):
        done = run(*command, int8, "--host", "board", "--python", python)
        assert (done.exit_code, done.stdout) == (1, "")
        _, error, advice = done.stderr.splitlines()
        assert error == "Error: no LiteRT interpreter is installed; pip install 'edgecls[litert]'"
        assert advice == f"Install it: ssh board \"{python} -m pip install 'edgecls[litert]'\""


def test_another_version_there_is_a_warning(board: BoardSshd, int8: Path, tmp_path: Path) -> None:
    (tmp_path / "edgecls-9.9.dist-info").mkdir()
    (tmp_path / "edgecls-9.9.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: edgecls\nVersion: 9.9\n")
    done = selftest(int8, board.add_python("newer", path=tmp_path))
    assert done.exit_code == 0
    assert "Warning: edgecls is 9.9 on board and " in done.stderr


def test_a_record_of_a_newer_edgecls_is_an_error(board: BoardSshd, int8: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NEWER_RECORDS)
    python = board.add_python("newer-records", path=tmp_path)
    done = run("benchmark", int8, "--host", "board", "--python", python, "--seconds", "0.1")
    assert (done.exit_code, done.stdout) == (1, "")
    assert (
        "what edgecls on board measured has schema 99, and this edgecls reads up to 2; upgrade edgecls" in done.stderr
    )


def test_an_answer_that_is_no_json_is_an_error(
    board: BoardSshd, int8: Path, pictures: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\n'-m' in sys.orig_argv and print('hello from an engine')\n")
    python = board.add_python("chatty", path=tmp_path)
    for command in (["predict", int8, pictures[0]], ["benchmark", int8, "--seconds", "0.1"]):
        done = run(*command, "--host", "board", "--python", python)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "edgecls on board printed 'hello from an engine" in done.stderr


def test_what_a_login_script_prints_is_passed_over(board: BoardSshd, int8: Path) -> None:
    python = board.add_python("noisy", "echo Welcome; echo {}; printf 'no line break'; echo hello >&2")
    done = selftest(int8, python)
    assert done.exit_code == 0 and done.stdout == run("selftest", int8).stdout


def test_a_full_disk_there(board: BoardSshd, int8: Path) -> None:
    # A limit on files' size is what a full disk is to who writes.
    said = refused(int8, board.add_python("full", "ulimit -f 1"))
    assert "Error: board cannot store the files: [Errno 27] File too large. Free space on it" in said


def test_a_command_that_is_killed_there(board: BoardSshd, int8: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os, sys\n'-m' in sys.orig_argv and os.kill(os.getpid(), 9)\n")
    said = refused(int8, board.add_python("killed", path=tmp_path))
    assert "edgecls on board ended with exit status 137 (killed: its memory may be too small)" in said


# The connection itself


@pytest.fixture
def host(board: BoardSshd) -> Host:
    return Host("board", str(board.python))


def install(_: dict[str, Any]) -> str:
    return "pip install edgecls"


def test_a_connection_cut_while_copying(board: BoardSshd, host: Host) -> None:
    def cut(stage: str, done: int, total: int, note: str = "", /) -> None:
        if done == 1:
            board.cut()

    files = {f"{place}.bin": bytes(2**20) for place in range(20)}
    with (
        pytest.raises(RemoteError, match="was cut while copying files to it"),
        connect(host, install, print) as connection,
    ):
        connection.send(files, cut)
        list(connection.run(["selftest", "0.bin"]))


def test_a_file_that_shrinks_while_it_is_copied(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(bytes(10**6))
    with connect(host, install, print) as connection:
        write = connection._write

        def shrink(data: bytes) -> None:
            path.write_bytes(bytes(10))
            write(data)

        monkeypatch.setattr(connection, "_write", shrink)
        with pytest.raises(DataError, match=r"a\.png became shorter while it was copied"):
            connection.send({"a.png": path})


def test_a_file_that_is_gone_when_it_is_copied(host: Host, tmp_path: Path) -> None:
    with connect(host, install, print) as connection, pytest.raises(DataError, match=r"gone\.png: No such file"):
        connection.send({"a.png": tmp_path / "gone.png"})


def test_gives_signs_of_life_while_the_command_runs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecls.remote.host.HEARTBEAT_S", 0.01)
    sent: list[bytes] = []
    with connect(host, install, print) as connection:
        write = connection._write

        def spy(data: bytes) -> None:
            sent.append(data)
            write(data)

        monkeypatch.setattr(connection, "_write", spy)
        connection.send({})
        (line,) = connection.run(["--version"])
        assert line.startswith("edgecls, version") and connection.finish() == 0
    assert sent.count(b"\n") > 2


def test_a_missing_model_is_reported_before_anything_is_asked(tmp_path: Path) -> None:
    assert "no such model file" in refused(tmp_path / "gone.tflite", "python3", "nowhere.invalid")


# Names and quoting

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)


@settings(max_examples=40)
@given(NAMES)
def test_any_python_survives_the_shell_there(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    home = tmp_path_factory.mktemp("home")
    write_script(home / "~" if name == "~" else home / name, 'printf "%s\\n" "$2" "$3" "$4"')
    for python in (str(home / name), f"~/{name}"):
        line = Host("board", python).shell_line("a 'token'", 7)
        done = subprocess.run(["sh", "-c", line], env={"HOME": str(home)}, capture_output=True, timeout=60)
        start, token, size, _ = done.stdout.decode().split("\n")
        assert start.startswith("import sys; ") and (token, size) == ("a 'token'", "7"), done
