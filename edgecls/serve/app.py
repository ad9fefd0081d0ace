"""The HTTP API. No path from a client reaches the file system: files of the page and collected images have fixed names.

Errors are JSON: {"error": sentence}. A client never gets a traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from edgecls.errors import DataError, EdgeclsError
from edgecls.images.pillow import PNG_SIGNATURE
from edgecls.serve.admission import MAX_BODY_BYTES, Admission, Busy
from edgecls.serve.collected import collected_routes
from edgecls.serve.guard import Guard
from edgecls.serve.live import Live
from edgecls.serve.openapi import describe_api
from edgecls.serve.session import Session

# A client that sends its image more slowly is cut off, because others wait for its place.
BODY_TIMEOUT_S = 20
MOST_READERS = 16
RETRY_AFTER_S = 1
PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/view.js": ("view.js", "text/javascript; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/collected.js": ("collected.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Access:
    """Who may send requests: see `Guard`."""

    names: Collection[str] = ()
    loopback: bool = True
    token: str | None = None


def create_app(session: Session, live: Live | None, access: Access) -> Starlette:
    """Return the application; it neither starts nor stops the session and the live view."""
    admission = Admission()
    readers = Admission(MOST_READERS, MOST_READERS)
    routes = [Route(path, _file(*file)) for path, file in PAGE.items()]
    routes += [
        Route("/api/predict", _predict(session, admission), methods=["POST"]),
        Route("/api/info", _json(lambda: session.describe() | {"live": live is not None})),
        Route("/api/health", _health(session, live)),
        Route("/api/openapi.json", _json(describe_api)),
        Route("/metrics", _metrics(session, admission)),
        Route("/api/live", _live_events(live, readers)),
        Route("/api/frame", _frame(live)),
        *collected_routes(session.collection, session.classifier.spec.bits),
    ]
    handlers: dict[Any, Any] = {HTTPException: _http_error, Exception: _internal_error}
    counting = Middleware(_Counter, count=session.metrics.count_request)
    guard = Middleware(Guard, access.names, access.loopback, access.token)
    return Starlette(routes=routes, exception_handlers=handlers, middleware=[counting, guard])


class _Counter:
    """ASGI middleware that counts answers by their status."""

    def __init__(self, app: Any, count: Callable[[int], None]) -> None:
        self._app, self._count = app, count

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def counting(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._count(message["status"])
            await send(message)

        await self._app(scope, receive, counting)


def _predict(session: Session, admission: Admission) -> Endpoint:
    async def predict(request: Request) -> Response:
        size = _stated_bytes(request)
        if size > MAX_BODY_BYTES:
            raise HTTPException(413, f"an image may have {MAX_BODY_BYTES} bytes; this one has {size}")
        try:
            with admission.admit(size):
                image = await _read_body(request)
                answer = await asyncio.wrap_future(session.submit(image, name="-"))
        except Busy:
            raise HTTPException(503, "too many requests; try again", {"retry-after": str(RETRY_AFTER_S)}) from None
        except DataError as error:
            raise HTTPException(422, str(error)) from error
        heatmap = request.query_params.get("heatmap", "0") not in ("", "0", "false")
        return JSONResponse([session.to_json("-", answer, heatmap=heatmap)])

    return predict


def _stated_bytes(request: Request) -> int:
    """Return the size that a request states for its body; the largest possible one if it states none."""
    kind = request.headers.get("content-type", "").lower()
    # What curl sends by default is accepted; other sites cannot use it, because of `Guard`.
    if kind.startswith("multipart/"):
        raise HTTPException(
            415,
            f"send the bytes of the image alone, not {kind[:60]}: curl --data-binary @part.png "
            "--header 'Content-Type: image/png'",
        )
    stated = request.headers.get("content-length", "")
    return int(stated) if stated.isascii() and stated.isdigit() else MAX_BODY_BYTES


async def _read_body(request: Request) -> bytes:
    async def read() -> bytes:
        parts, size = [], 0
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            if size > MAX_BODY_BYTES:
                raise HTTPException(413, f"an image may have {MAX_BODY_BYTES} bytes; this one has more")
        return b"".join(parts)

    try:
        body = await asyncio.wait_for(read(), BODY_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise HTTPException(408, f"the image did not arrive within {BODY_TIMEOUT_S} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the client left before its image was complete") from None
    if not body:
        raise HTTPException(422, "the body is empty; send the bytes of an image")
    if _has_second_image(body):
        raise HTTPException(422, "the body holds more than one image; send each in a request of its own")
    return body


def _has_second_image(body: bytes) -> bool:
    # curl puts "&" between the files that it sends. Directly after a JPEG, phones write previews.
    end = b"IEND\xaeB`\x82" if body.startswith(PNG_SIGNATURE) else b"\xff\xd9&"
    return body.partition(end)[2][:9].lstrip(b"&").startswith((PNG_SIGNATURE, b"\xff\xd8\xff"))


def _health(session: Session, live: Live | None) -> Endpoint:
    async def health(_: Request) -> Response:
        faults = [session.selftest["text"]] if session.selftest["passed"] is False else []
        faults += [live.fault] if live is not None and live.fault else []
        status = {"status": "fault" if faults else "ok", "faults": faults}
        return JSONResponse(status, 503 if faults else 200)

    return health


def _metrics(session: Session, admission: Admission) -> Endpoint:
    async def metrics(_: Request) -> Response:
        text = session.metrics.to_text(admission.in_work)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return metrics


def _live_events(live: Live | None, readers: Admission) -> Endpoint:
    async def stream(source: Live) -> AsyncIterator[str]:
        async with contextlib.aclosing(source.events()) as events:
            async for event in events:
                yield ": nothing new\n\n" if event is None else f"data: {json.dumps(event)}\n\n"

    async def admitted(source: Live, room: contextlib.ExitStack) -> AsyncIterator[str]:
        with room:
            async for text in stream(source):
                yield text

    async def live_events(_: Request) -> Response:
        source, room = _check_live(live), contextlib.ExitStack()
        try:
            room.enter_context(readers.admit(1))
        except Busy:
            raise HTTPException(503, "too many readers of the live view", {"retry-after": "10"}) from None
        return StreamingResponse(admitted(source, room), media_type="text/event-stream")

    return live_events


def _frame(live: Live | None) -> Endpoint:
    async def frame(_: Request) -> Response:
        if not (picture := _check_live(live).picture):
            raise HTTPException(404, "there is no frame yet")
        return Response(picture, media_type="image/jpeg")

    return frame


def _check_live(live: Live | None) -> Live:
    if live is None:
        raise HTTPException(404, "there is no live view; start the server with --camera or --watch")
    return live


def _json(make: Callable[[], dict[str, Any]]) -> Endpoint:
    async def answer(_: Request) -> Response:
        return JSONResponse(make())

    return answer


def _file(name: str, media_type: str) -> Endpoint:
    content = resources.files("edgecls.serve").joinpath("page", name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer


async def _http_error(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _internal_error(_: Request, error: Exception) -> Response:
    # Starlette raises it again afterwards, so that uvicorn logs it on stderr.
    text = str(error) if isinstance(error, EdgeclsError) else "internal error; the server's log has more"
    return JSONResponse({"error": text}, 500)
