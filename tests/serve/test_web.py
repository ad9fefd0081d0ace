"""The folder of `edgecls web`, in a real browser: the same pixels, labels and scores as in Python, also offline."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import io
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from browser import (
    FAKE_CAMERA,
    click,
    drop,
    find_overflow,
    has_color,
    open_browser,
    read_console,
    set_screen,
    text_of,
    wait_for,
    write_screenshot,
)
from command_line import run
from PIL import ExifTags, Image

from edgecls.demo import unpack_demo_data
from edgecls.errors import ConfigError, DataError, MissingDependency, ModelFileError
from edgecls.images.decode import load_gray
from edgecls.model_file.read import read_model_file
from edgecls.model_file.write import attach_spec
from edgecls.preprocessing import Preprocessing
from edgecls.runtime.classifier import load
from edgecls.serve import litert_js
from edgecls.serve.litert_js import find_litert_js
from edgecls.serve.web import write_web

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

Write = Callable[[Path, Path], Path]
IMAGES = 60


@pytest.fixture(scope="session")
def litert(request: pytest.FixtureRequest) -> dict[str, bytes]:
    """LiteRT.js, downloaded once into pytest's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(request.config.cache.mkdir("litert-js")))
        try:
            return find_litert_js(None, download=True)
        except MissingDependency as error:
            pytest.skip(f"needs LiteRT.js: {error}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with open_browser(*FAKE_CAMERA) as browser:
        browser.set_script_timeout(120)
        yield browser


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def host(folder: Path) -> Iterator[str]:
    """Yield the address of a server of static files, as anyone may use one."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def open_page(browser: Chrome, address: str) -> str:
    """Open the page and return what it says of its self-test."""
    browser.get(address)
    wait_for(lambda: browser.execute_script("return Boolean(state.info && state.info.offline)"), "the page")
    return text_of(browser, "selftest")


def ask(browser: Chrome, script: str, *arguments: Any) -> Any:
    """Return what an asynchronous function of the page returns; its error is {"error": text}."""
    wrapped = f"const [done, args] = [arguments[arguments.length - 1], [...arguments].slice(0, -1)];\
      (async (...args) => {{ {script} }})(...args).then(done, (error) => done({{ error: error.message }}))"
    return browser.execute_async_script(wrapped, *arguments)


BYTES = "const bytes = Uint8Array.from(atob(args[0]), (char) => char.charCodeAt(0));"
CLASSIFY = BYTES + "return await state.classify(new Blob([bytes]));"
PIXELS = BYTES + (
    "const { loadGray } = await import(new URL('decode.js', location));"
    "return btoa(String.fromCharCode(...(await loadGray(bytes, args[1]))));"
)


def encode(image: Image.Image, kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def draw(rng: np.random.Generator, height: int, width: int, channels: int) -> np.ndarray:
    """Noise on a smooth picture: every rounding occurs, and JPEG keeps some of it."""
    rough = rng.integers(0, 256, (height, width, channels))
    smooth = Image.fromarray(rng.integers(0, 256, (3, 4, 3)).astype(np.uint8)).resize((width, height))
    return np.asarray((rough + 3 * np.asarray(smooth)[:, :, :1]) // 4, np.uint8)


def image_files(rng: np.random.Generator, height: int, width: int) -> Iterator[tuple[str, bytes]]:
    """Yield image files of one size and of all kinds that the page reads."""
    gray, color = Image.fromarray(draw(rng, height, width, 1)[:, :, 0]), Image.fromarray(draw(rng, height, width, 3))
    alpha = Image.fromarray(draw(rng, height, width, 1)[:, :, 0])
    deep = Image.fromarray(rng.integers(0, 65536, (height, width)).astype(np.uint16))
    yield "gray.png", encode(gray, "PNG")
    yield "rgb.png", encode(color, "PNG")
    yield "palette.png", encode(color.quantize(30), "PNG")
    yield "palette-2-bit.png", encode(color.quantize(4), "PNG", bits=2)
    yield "palette-transparent.png", encode(color.quantize(9), "PNG", transparency=bytes([0, 99, 200]))
    yield "1-bit.png", encode(color.convert("1"), "PNG")
    yield "16-bit.png", encode(deep, "PNG")
    yield "gray-transparent.png", encode(gray, "PNG", transparency=int(np.asarray(gray)[0, 0]))
    for picture, mode in ((gray, "LA"), (color, "RGBA")):
        picture = picture.convert(mode)
        picture.putalpha(alpha)
        yield f"{mode}.png", encode(picture, "PNG")
    for quality, subsampling in itertools.product((40, 95), (0, 1, 2)):
        yield f"{quality}-{subsampling}.jpg", encode(color, "JPEG", quality=quality, subsampling=subsampling)
    yield "gray.jpg", encode(gray, "JPEG", optimize=True)
    yield "progressive.jpg", encode(color, "JPEG", progressive=True)
    yield "gray-progressive.jpg", encode(gray, "JPEG", progressive=True)
    yield "restarts.jpg", encode(color, "JPEG", restart_marker_blocks=2)
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        yield f"turned-{orientation}.png", encode(gray, "PNG", exif=exif)
        yield f"turned-{orientation}.jpg", encode(color, "JPEG", exif=exif)


class Case(NamedTuple):
    name: str
    content: bytes
    info: dict[str, Any]

    def preprocessing(self) -> Preprocessing:
        roi = self.info["roi"]
        return Preprocessing(self.info["bits"], self.info["resize"], tuple(roi) if roi else None)


def pixel_cases() -> Iterator[Case]:
    rng = np.random.default_rng(0)
    plain = {"height": 40, "width": 48, "resize": "stretch", "roi": None, "bits": None}
    crop, part = plain | {"resize": "crop"}, plain | {"resize": "pad", "roi": [3, 2, 61, 50]}
    # Enlarged; nearly of the input's size; shrunk, which JPEG files are as they are decoded.
    for height, width in ((13, 17), (41, 49), (333, 270)):
        for name, content in image_files(rng, height, width):
            for info in (plain, crop) if height < 333 else (plain, part):
                yield Case(f"{height}x{width}-{info['resize']}-{name}", content, info)


def refused_files() -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(1)
    color = Image.fromarray(draw(rng, 60, 70, 3))
    png, jpeg = encode(color, "PNG"), encode(color, "JPEG")
    yield "cut.png", png[: len(png) // 2]
    yield "changed.png", png[:500] + bytes([png[500] ^ 1]) + png[501:]
    yield "cut.jpg", jpeg[: len(jpeg) // 2]
    yield "cut-progressive.jpg", encode(color, "JPEG", progressive=True)[:-500]
    yield "animated.png", encode(color, "PNG", save_all=True, append_images=[color.rotate(90, expand=False)])
    yield "text.png", b"no image"
    yield "small.png", encode(color.resize((9, 9)), "PNG")


@pytest.fixture(scope="module")
def page(tiny_heatmap: Path, litert: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("web") / "page"
    write_web(tiny_heatmap, folder, litert)
    with host(folder) as address:
        yield address


def test_image_files_give_the_pixels_of_python(browser: Chrome, page: str) -> None:
    open_page(browser, page)
    cases, different = list(pixel_cases()), []
    for case in cases:
        answer = ask(browser, PIXELS, base64.b64encode(case.content).decode(), case.info)
        expected = load_gray(case.content, case.info["height"], case.info["width"], case.preprocessing())
        if isinstance(answer, dict) or base64.b64decode(answer) != expected.tobytes():
            different.append((case.name, answer["error"] if isinstance(answer, dict) else ""))
    assert len(cases) > 150 and not different


def test_what_python_refuses_is_refused_with_a_reason(browser: Chrome, page: str) -> None:
    open_page(browser, page)
    info = {"height": 40, "width": 48, "resize": "stretch", "roi": [10, 10, 20, 20], "bits": None}
    for name, content in refused_files():
        with pytest.raises(DataError):
            load_gray(content, 40, 48, Preprocessing(roi=(10, 10, 20, 20)))
        answer = ask(browser, PIXELS, base64.b64encode(content).decode(), info)
        assert isinstance(answer, dict) and answer["error"].startswith("This "), (name, answer)


def demo_images(folder: Path) -> list[Path]:
    return sorted(unpack_demo_data(folder).rglob("*.png"))[:: 1600 // IMAGES][:IMAGES]


def test_labels_and_scores_are_those_of_litert(
    browser: Chrome, int8: Path, litert: dict[str, bytes], tmp_path: Path
) -> None:
    write_web(int8, tmp_path / "page", litert)
    images = demo_images(tmp_path / "images")
    with host(tmp_path / "page") as address, load(int8, engine="litert") as classifier:
        assert open_page(browser, address).startswith("Self-test passed. This browser gives the expected pixels")
        for path in images:
            entry = ask(browser, CLASSIFY, base64.b64encode(path.read_bytes()).decode())
            expected = classifier.predict(path)
            assert entry["label"] == expected.label
            np.testing.assert_allclose(list(entry["scores"].values()), expected.scores, rtol=0, atol=1e-5)
    assert len(images) == IMAGES


def test_thresholds_decide_as_in_python(
    browser: Chrome, tiny_tflite: Path, litert: dict[str, bytes], tmp_path: Path
) -> None:
    model = read_model_file(tiny_tflite)
    good = model.spec.labels[1]
    spec = replace(model.spec, threshold=0.61803, good_class=good, good_threshold=0.3)
    file = tmp_path / "model.tflite"
    file.write_bytes(attach_spec(model.graph, spec, "tflite"))
    write_web(file, tmp_path / "page", litert)
    rng, seen = np.random.default_rng(4), set()
    with host(tmp_path / "page") as address, load(file) as classifier:
        assert "no golden samples" in open_page(browser, address)
        for _ in range(30):
            levels = rng.integers(0, 256, (3, 2)).astype(np.uint8)
            content = encode(Image.fromarray(np.kron(levels, np.ones((4, 5), np.uint8))), "PNG")
            script = CLASSIFY.replace("return await", "const entry = await") + "showEntry(entry); return entry;"
            entry = ask(browser, script, base64.b64encode(content).decode())
            expected = classifier.predict(content)
            assert entry["index"] == expected.index
            assert text_of(browser, "label").startswith("Not sure") == (expected.label is None)
            seen.add((expected.index, expected.label is None))
    assert len(seen) > 2


def test_the_page_works_by_hand_and_offline(
    browser: Chrome, tiny_heatmap: Path, int8: Path, litert: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "site" / "page"
    write_web(tiny_heatmap, folder, litert)
    image = tmp_path / "image.png"
    image.write_bytes(encode(Image.fromarray(draw(np.random.default_rng(2), 240, 200, 1)[:, :, 0]), "PNG"))
    read_console(browser)
    with host(folder.parent) as address:
        # Below the server's root, as on most free hosts.
        open_page(browser, f"{address}page/")
        assert browser.execute_cdp_cmd("Page.getInstallabilityErrors", {})["installabilityErrors"] == []
        drop(browser, image)
        wait_for(lambda: "%" in text_of(browser, "label"), "a label")
        wait_for(lambda: has_color(browser), "the heat map")
        with load(tiny_heatmap) as classifier:
            expected = classifier.predict(image).heatmap
        assert expected is not None
        np.testing.assert_allclose(browser.execute_script("return state.entry.heatmap"), expected, rtol=0, atol=1e-4)
        for width, dark, name in ((1280, False, "light"), (1280, True, "dark"), (400, False, "phone")):
            set_screen(browser, width, dark=dark)
            assert find_overflow(browser) == 0
            write_screenshot(browser, tmp_path / f"web-{name}.png")
        set_screen(browser, 1280)
        click(browser, "source-camera")
        wait_for(lambda: browser.execute_script("return state.times.length") > 3, "frames of the camera")
        click(browser, "source-camera")
        # Another file in the same folder: the browser loads all of it again.
        write_web(int8, folder, litert)
        browser.refresh()
        created = read_model_file(int8).spec.created
        wait_for(lambda: created in text_of_info(browser), "the new file")
    browser.refresh()
    wait_for(lambda: "Self-test passed" in text_of(browser, "selftest"), "the page without its server")
    assert created in text_of_info(browser)
    drop(browser, image)
    wait_for(lambda: "%" in text_of(browser, "label"), "a label")
    # LiteRT.js warns where there is no GPU, which it does not need here.
    assert [entry["message"] for entry in read_console(browser) if entry["level"] == "SEVERE"] == []


def text_of_info(browser: Chrome) -> str:
    return str(browser.execute_script("return document.getElementById('info').textContent"))


def test_a_folder_opened_as_a_file_says_what_to_do(browser: Chrome, page: str, tmp_path: Path) -> None:
    import urllib.request

    for name in ("index.html", "view.js", "style.css"):
        with urllib.request.urlopen(page + name) as answer:
            (tmp_path / name).write_bytes(answer.read())
    browser.get((tmp_path / "index.html").as_uri())
    wait_for(lambda: "python -m http.server" in text_of(browser, "message"), "what to do")
    read_console(browser)


def test_only_known_files_of_litert_js_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingDependency, match=r"npm install @litertjs/core@2\.5\.3 @litertjs/wasm-utils@2\.5\.3"):
        find_litert_js(tmp_path, download=False)
    for file in litert_js.FILES.values():
        path = tmp_path / "@litertjs" / file.package / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"other")
    with pytest.raises(ConfigError, match="expected e7daccc3"):
        find_litert_js(tmp_path, download=False)
    monkeypatch.setattr(litert_js, "FILES", {"index.js": litert_js.FILES["index.js"]})
    monkeypatch.setattr(litert_js, "_fetch", lambda address: b"no archive")
    with pytest.raises(ConfigError, match="no package of npm"):
        find_litert_js(None, download=True)


def test_the_registry_is_that_of_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("npm_config_registry", raising=False)
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    assert litert_js.registry() == litert_js.REGISTRY
    (tmp_path / ".npmrc").write_text("# mine\nregistry = http://mirror.example/npm/\n")
    assert litert_js.registry() == "http://mirror.example/npm"
    monkeypatch.setenv("npm_config_registry", "https://other.example/")
    assert litert_js.registry() == "https://other.example"


def test_files_and_folders_that_do_not_fit_are_refused(tiny_onnx: Path, tiny_tflite: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="edgecls export run --int8"):
        write_web(tiny_onnx, tmp_path / "page", {})
    for name in ("mine.txt", "files.js"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(ConfigError, match="holds other files"):
            write_web(tiny_tflite, tmp_path, {})
    assert write_web(tiny_tflite, tmp_path / "page", {}) == write_web(tiny_tflite, tmp_path / "page", {})
    done = run("web", tiny_tflite, "--out", tmp_path / "new")
    assert done.exit_code == 1 and "--download" in done.output and not (tmp_path / "new").exists()
