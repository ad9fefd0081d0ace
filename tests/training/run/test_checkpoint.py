from __future__ import annotations

import errno
import io
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgecls.errors import TrainingError
from edgecls.training.run import checkpoint as checkpoint_module
from edgecls.training.run.checkpoint import Arrays, Checkpoint, Saved

ARRAYS: Arrays = {
    "now/0": np.arange(6, dtype=np.float32).reshape(2, 3),
    "optimizer/0": np.array(7, np.int64),
    "now/1": np.array([1, 2], np.uint32),
    # Names that numpy and we use ourselves.
    "file": np.zeros(3),
    "state": np.zeros((0, 2)),
    "allow_pickle": np.ones(1),
}
STATE: dict[str, Any] = {"epoch": 3, "best_loss": float("inf"), "history": [{"phase": "Kopf ä"}], "ended": ""}
REWRITE = """
import itertools, sys
from pathlib import Path
import numpy as np
from edgecls.training.run.checkpoint import Checkpoint
checkpoint = Checkpoint(Path(sys.argv[1]))
print("begun", flush=True)
for number in itertools.count():
    checkpoint.write({"a": np.full(100_000, number)}, {"number": number})
"""


def assert_same(saved: Saved | None, arrays: Arrays, state: dict[str, Any]) -> None:
    assert saved is not None and saved.state == state and set(saved.arrays) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(saved.arrays[name], array)
        assert saved.arrays[name].dtype == array.dtype


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path / "checkpoint.npz").read() is None


def test_what_was_written_last_comes_back(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz")
    checkpoint.write({"now/0": np.zeros(1)}, {})
    checkpoint.write(ARRAYS, STATE)
    assert_same(checkpoint.read(), ARRAYS, STATE)
    assert list(tmp_path.iterdir()) == [checkpoint.path]


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
        hnp.arrays(st.sampled_from([np.float32, np.float16, np.int64, np.uint8]), hnp.array_shapes(min_side=0)),
        max_size=3,
    )
)
def test_any_arrays_come_back_to_the_last_bit(tmp_path_factory: pytest.TempPathFactory, arrays: Arrays) -> None:
    checkpoint = Checkpoint(tmp_path_factory.getbasetemp() / "any.npz")
    checkpoint.write(arrays, {})
    assert_same(checkpoint.read(), arrays, {})


def test_a_full_disk_keeps_the_last_one_and_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz")
    checkpoint.write(ARRAYS, STATE)

    def refuse(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "write_atomically", refuse)
    with pytest.raises(TrainingError, match=rf"{checkpoint.path} cannot be written: No space left.*--resume"):
        checkpoint.write({}, {})
    assert_same(checkpoint.read(), ARRAYS, STATE)


def test_a_process_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz")
    process = subprocess.Popen([sys.executable, "-c", REWRITE, checkpoint.path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.15)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    saved = checkpoint.read()
    assert saved is not None and (saved.arrays["a"] == saved.state["number"]).all()


# Damaged


def test_one_of_another_run_or_phase_is_refused(tmp_path: Path) -> None:
    own, path = (
        Checkpoint(tmp_path / "checkpoint-classifier.npz", "run classifier"),
        tmp_path / "checkpoint-classifier.npz",
    )
    for owner in ("run augmented", "other classifier", ""):
        Checkpoint(path, owner).write(ARRAYS, STATE)
        with pytest.raises(TrainingError, match=rf"{path} is damaged \(it is of another run or phase.*delete it"):
            own.read()
    own.write(ARRAYS, STATE)
    assert_same(own.read(), ARRAYS, STATE)


def assert_refused_or_whole(checkpoint: Checkpoint, data: bytes) -> bool:
    """Return whether the file was refused; if not, it must give what was written."""
    checkpoint.path.write_bytes(data)
    try:
        saved = checkpoint.read()
    except TrainingError as error:
        assert f"{checkpoint.path} is damaged" in str(error) and "delete it to repeat this phase" in str(error)
        return True
    assert_same(saved, ARRAYS, STATE)
    return False


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    checkpoint = Checkpoint(tmp_path_factory.mktemp("whole") / "checkpoint.npz")
    checkpoint.write(ARRAYS, STATE)
    return checkpoint.path.read_bytes()


@pytest.mark.parametrize("data", [b"", b"garbage", b"PK\x03\x04 no zip", b"PK\x05\x06" + bytes(18), b"\x93NUMPY\x01\0"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, data: bytes) -> None:
    assert assert_refused_or_whole(Checkpoint(tmp_path / "checkpoint.npz"), data)


@pytest.mark.parametrize("name", ["state.npy", "array/a.npy"])
def test_what_is_no_array_within_is_refused(tmp_path: Path, name: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member in ("state.npy", "array/a.npy"):
            npy = io.BytesIO()
            np.save(npy, np.frombuffer(b"{}", np.uint8))
            archive.writestr(member, b"no array" if member == name else npy.getvalue())
    assert assert_refused_or_whole(Checkpoint(tmp_path / "checkpoint.npz"), buffer.getvalue())


def test_every_shortened_file_is_refused(tmp_path: Path, whole: bytes) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz")
    for length in range(0, len(whole), 7):
        assert assert_refused_or_whole(checkpoint, whole[:length])


def test_a_damaged_head_of_an_array_is_refused(tmp_path: Path, whole: bytes) -> None:
    # numpy reads it as Python text: anything may come of that.
    start = whole.index(b"{'descr'")
    for place in range(start, start + 60):
        for value in b"(\0'":
            data = whole[:place] + bytes([value]) + whole[place + 1 :]
            if data != whole:
                assert assert_refused_or_whole(Checkpoint(tmp_path / "checkpoint.npz"), data)


@settings(max_examples=300)
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_changed_file_is_refused_or_still_right(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, changes: list[tuple[float, int]]
) -> None:
    checkpoint = Checkpoint(tmp_path_factory.getbasetemp() / "changed.npz")
    data = bytearray(whole)
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    assert_refused_or_whole(checkpoint, bytes(data))
