from __future__ import annotations

import concurrent.futures
import io
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from PIL import Image
from server import Server, png, start_server
from tiny import HEIGHT, LABELS, WIDTH

from edgecls.cli.serve import _frames
from edgecls.model_file.read import read_model_file
from edgecls.model_file.write import attach_spec
from edgecls.runtime.classifier import load, to_entry

pytest.importorskip("starlette", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")


@pytest.fixture(scope="module")
def server(tiny_tflite: Path) -> Iterator[Server]:
    with start_server(tiny_tflite) as server:
        yield server


def test_it_answers_as_predict_does(server: Server, tiny_tflite: Path) -> None:
    (entry,) = server.ask_json("/api/predict", "POST", png())
    latency_ms = entry.pop("latency_ms")
    with load(tiny_tflite) as classifier:
        assert entry == to_entry("-", classifier.predict(png()), classifier.spec)
    assert 0 < latency_ms["decode"] < latency_ms["whole"] and 0 < latency_ms["network"] < latency_ms["whole"]


def test_an_image_that_is_read_as_nearly_black_has_a_warning(server: Server) -> None:
    for largest, expected in ((3000, 1), (60000, 0)):
        buffer = io.BytesIO()
        Image.fromarray(np.full((30, 40), largest, np.uint16)).save(buffer, "PNG")
        (entry,) = server.ask_json("/api/predict", "POST", buffer.getvalue())
        assert len(entry.get("warnings", [])) == expected
        assert all("rescale its images to 8 bits" in text for text in entry.get("warnings", []))
    assert "warnings" in server.ask_json("/api/openapi.json")["components"]["schemas"]["Prediction"]["properties"]


def test_info_health_metrics_and_openapi(server: Server) -> None:
    info = server.ask_json("/api/info")
    assert info["labels"] == list(LABELS) and info["engine"] == "litert" and not info["live"]
    assert info["selftest"]["passed"] is None and "no golden samples" in info["selftest"]["text"]
    assert server.ask_json("/api/health") == {"status": "ok", "faults": []}
    server.ask("/api/predict", "POST", png())
    _, headers, content = server.ask("/metrics")
    lines = content.decode().splitlines()
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert any(line.startswith('edgecls_requests_total{status="200"} ') for line in lines)
    counted = sum(int(line.split()[-1]) for line in lines if line.startswith("edgecls_predictions_total{"))
    assert f'edgecls_latency_seconds_bucket{{stage="network",le="+Inf"}} {counted}' in lines
    paths = server.ask_json("/api/openapi.json")["paths"]
    for path, operations in paths.items():
        for method in operations:
            status, _, _ = server.ask(path.replace("{id}", "none"), method.upper(), b"{}")
            assert status != 405, path


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"host": "evil.example:80"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": "192.168.0.7"}, 403),
        ({"host": "localhost"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "localhost:80", "origin": "http://localhost:81"}, 403),
        ({"host": "localhost:80", "origin": "http://localhost:80"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_requests_of_other_sites_are_refused(server: Server, headers: dict[str, str], status: int) -> None:
    assert server.ask("/api/predict", "POST", png(), headers)[0] == status
    assert server.ask("/api/info", headers=headers)[0] == status


def test_every_answer_has_the_safe_headers(server: Server) -> None:
    for path in ("/", "/app.js", "/api/info", "/none", "/../../etc/passwd", "/api/frame", "/api/collected"):
        status, headers, content = server.ask(path)
        assert "frame-ancestors 'none'" in headers["content-security-policy"] and "inline" not in str(headers)
        assert headers["x-content-type-options"] == "nosniff" and "server" not in headers
        assert b"Traceback" not in content and (status == 200 or json.loads(content)["error"])


def test_bodies_that_are_no_image(server: Server) -> None:
    assert server.ask("/api/predict", "POST", b"")[0] == 422
    status, _, content = server.ask("/api/predict", "POST", b"no image")
    assert status == 422 and "<bytes>" in json.loads(content)["error"]
    assert server.ask("/api/predict", "POST", png()[:-40])[0] == 422
    assert server.ask("/api/predict", "POST", b"x", {"content-type": "Multipart/form-data; boundary=x"})[0] == 415
    assert server.ask("/api/predict")[0] == 405
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
        assert b" 413 " in client.recv(100)


@pytest.mark.parametrize("between", [b"", b"&"])
def test_a_second_image_in_a_request_is_refused(server: Server, between: bytes) -> None:
    status, _, content = server.ask("/api/predict", "POST", png(1) + between + png(2))
    assert status == 422 and "more than one image" in json.loads(content)["error"]
    # Other bytes after an image, as some cameras write them, do no harm.
    assert server.ask("/api/predict", "POST", png(1) + bytes(100))[0] == 200
    jpeg = io.BytesIO()
    Image.open(io.BytesIO(png())).save(jpeg, "JPEG")
    status, _, content = server.ask("/api/predict", "POST", jpeg.getvalue() + between + jpeg.getvalue())
    # Directly after a JPEG, phones write a preview.
    assert (status, b"more than one image" in content) == ((422, True) if between else (200, False))


def test_another_address_needs_the_token(tiny_tflite: Path) -> None:
    with start_server(tiny_tflite, bind="0.0.0.0:0") as server:
        assert len(server.token) > 20
        assert server.ask("/api/info", headers={"host": "192.168.0.7"})[0] == 200
        assert server.ask("/", headers={"authorization": ""})[0] == 200
        for path in ("/api/info", "/api/predict", "/metrics", "/api/live", "/api/health", "/none"):
            for wrong in ("", f"Bearer {server.token}x", server.token, "Bearer é", "Basic x"):
                assert server.ask(path, headers={"authorization": wrong.encode("latin-1").decode("latin-1")})[0] == 401
        assert server.ask("/api/info", headers={"host": "evil.example"})[0] == 403


def test_too_many_clients_get_503_and_the_others_an_answer(server: Server) -> None:
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda seed: server.ask("/api/predict", "POST", png(seed)), range(300)))
    statuses = [status for status, _, _ in answers]
    assert set(statuses) <= {200, 503} and statuses.count(200) > 50
    for status, headers, _ in answers:
        assert status == 200 or headers["retry-after"] == "1"
    assert server.ask("/api/predict", "POST", png())[0] == 200


def test_slow_and_broken_clients_leave_no_trace(server: Server) -> None:
    head = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc"
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
    for client in clients:
        client.sendall(head)
    assert server.ask("/api/predict", "POST", png())[0] == 200
    for client in clients:
        client.close()
    for _ in range(100):
        if b"edgecls_requests_in_work 0" in server.ask("/metrics")[2]:
            return
        time.sleep(0.1)
    raise AssertionError("requests of clients that left are still in work")


def fuzzed_request(random_: random.Random) -> bytes:
    """A valid request with random changes."""
    body = png(1)[: random_.randrange(400)]
    path = random_.choice(["/api/predict", "/", "/api/collected/x", "/api/frame?x=%ff", "/metrics", "/%00", "//"])
    method = random_.choice(["POST", "GET", "DELETE", "PUT", "OPTIONS", "\x00"])
    length = random_.choice([len(body), len(body), 0, 10**9, -1, "x"])
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", "Connection: close"]
    lines += random_.sample(["Origin: null", "Authorization: Bearer \x01", "Transfer-Encoding: chunked", "X: " * 99], 1)
    request = bytearray("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    for _ in range(random_.randrange(4)):
        request[random_.randrange(len(request))] = random_.randrange(256)
    return bytes(request)


def send(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        try:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            return client.recv(10_000)
        except OSError:
            return b""


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_fuzzed_requests(server: Server, count: int) -> None:
    random_ = random.Random(count)
    answered = 0
    for _ in range(count):
        answer = send(server.port, fuzzed_request(random_))
        answered += bool(answer)
        assert b"Traceback" not in answer and b" 500 " not in answer[:20], answer
    assert answered > count / 2 and server.process.poll() is None
    assert server.ask("/api/predict", "POST", png())[0] == 200


def test_images_to_label_are_as_bright_as_the_network_takes_them(tiny_tflite: Path, tmp_path: Path) -> None:
    model, file, white = read_model_file(tiny_tflite), tmp_path / "12-bits.tflite", io.BytesIO()
    file.write_bytes(attach_spec(model.graph, replace(model.spec, bits=12), model.format))
    Image.fromarray(np.full((HEIGHT, WIDTH), 4095, np.uint16)).save(white, "PNG")
    with start_server(file, "--collect", tmp_path / "kept", "--threshold", "1") as server:
        server.ask_json("/api/predict", "POST", white.getvalue())
        (item,) = server.ask_json("/api/collected")["items"]
        _, _, content = server.ask(f"/api/collected/{item['id']}/image")
    assert np.asarray(Image.open(io.BytesIO(content))).min() > 250


def test_live_results_of_a_folder(tiny_tflite: Path, tmp_path: Path) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    with start_server(tiny_tflite, "--watch", folder) as server:
        assert server.ask("/api/frame")[0] == 404
        with socket.create_connection(("127.0.0.1", server.port), 30) as client:
            client.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = b""
            for name, content in (("a.png", png()), ("b.png", b"\x89PNG no image"), ("c.png", png(2))):
                (folder / name).write_bytes(content)
                while name.encode() not in received:
                    assert (part := client.recv(10_000)), received
                    received += part
            events = [json.loads(line[6:]) for line in received.decode().splitlines() if line.startswith("data: ")]
        assert [event["image"].rpartition("/")[2] for event in events] == ["a.png", "b.png", "c.png"]
        assert "error" in events[1] and events[2]["label"] in LABELS and events[2]["number"] == 3
        status, headers, content = server.ask("/api/frame")
        assert (status, headers["content-type"]) == (200, "image/jpeg")
        assert Image.open(io.BytesIO(content)).size == (WIDTH * 2, HEIGHT * 3)


def test_files_that_are_no_images_are_reported_as_they_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = _frames(None, tmp_path)
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    (tmp_path / "b.png").write_bytes(png())
    assert frames is not None and next(frames).name == "b.png"
    assert capsys.readouterr().err == "Warning: Left out: .gif (not an image that can be read).\n"


def test_sigterm_ends_the_live_view_and_finishes_requests(tiny_tflite: Path, tmp_path: Path) -> None:
    with start_server(tiny_tflite, "--watch", tmp_path) as server:
        reader = socket.create_connection(("127.0.0.1", server.port), 30)
        reader.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in reader.recv(1000)
        # A request whose image is still on its way when the signal comes.
        image = png()
        client = socket.create_connection(("127.0.0.1", server.port), 30)
        client.sendall(
            f"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(image)}\r\n\r\n".encode()
        )
        client.sendall(image[:10])
        time.sleep(0.5)
        server.process.terminate()
        time.sleep(0.5)
        client.sendall(image[10:])
        assert b"200 OK" in client.recv(10_000)
        assert server.process.wait(20) == 0
        reader.close()
        client.close()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--bind", "8000"], 2, "an address has the form ADDR:PORT, such as 127.0.0.1:8000; received '8000'"),
        (["--bind", "1.2.3.4:8000"], 2, "cannot listen at 1.2.3.4:8000"),
        (["--bind", "127.0.0.1:99999"], 2, "ADDR:PORT"),
        (["--camera", "0", "--watch", "."], 2, "--camera excludes --watch"),
        (["--token", "short", "--bind", "127.0.0.1:0"], 2, "--token needs 8 to 200 characters"),
        (["--watch", "none", "--bind", "127.0.0.1:0"], 1, "cannot list folder none"),
        (["--collect-limit", "much"], 2, "'much' is not a size; write it as 500kB, 2MB or 1GB"),
    ],
)
def test_wrong_usage(tiny_tflite: Path, arguments: list[str], status: int, message: str) -> None:
    done = run("serve", tiny_tflite, *arguments)
    assert (done.exit_code, done.stdout) == (status, "") and message in done.stderr


def test_without_starlette_the_extra_is_named(tiny_tflite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = run("serve", tiny_tflite)
    assert done.exit_code == 1 and "pip install 'edgecls[serve]'" in done.stderr


def test_the_modules_that_collecting_needs_import_no_web_server() -> None:
    code = "import sys, edgecls.serve.collect, edgecls.cli.serve; assert 'starlette' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
