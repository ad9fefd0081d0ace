"""The part of the API that labels collected images. A client names an image by its identity, never by a path."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgecls.errors import DataError
from edgecls.images.decode import decode_gray
from edgecls.serve.collect import Collection
from edgecls.serve.live import to_jpeg

MOST_LISTED = 200
MAX_LABEL_BYTES = 10_000


def collected_routes(collection: Collection | None, bits: int | None) -> list[Route]:
    """Return the routes for a collection; they answer 404 if there is none. `bits` is that of `Preprocessing`."""
    item = "/api/collected/{identity}"

    async def show(collection: Collection, request: Request) -> Response:
        path = collection.path_of(request.path_params["identity"])
        picture = await run_in_threadpool(lambda: to_jpeg(decode_gray(path, bits)))
        return Response(picture, media_type="image/jpeg")

    return [
        Route("/api/collected", _with(collection, _list), methods=["GET"]),
        Route(f"{item}/image", _with(collection, show), methods=["GET"]),
        Route(item, _with(collection, _label), methods=["POST"]),
        Route(item, _with(collection, _delete), methods=["DELETE"]),
    ]


def _with(
    collection: Collection | None, answer: Callable[[Collection, Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if collection is None:
            raise HTTPException(404, "nothing is collected; start the server with --collect DIR")
        try:
            return await answer(collection, request)
        except KeyError:
            raise HTTPException(404, "there is no such image") from None
        except DataError as error:
            raise HTTPException(422, str(error)) from error
        except FileNotFoundError:
            raise HTTPException(404, "this image was moved or deleted by somebody else") from None

    return endpoint


async def _list(collection: Collection, _: Request) -> Response:
    items = await run_in_threadpool(collection.list_unlabeled, MOST_LISTED)
    return JSONResponse(collection.describe() | {"labels": list(collection.labels), "items": items})


async def _label(collection: Collection, request: Request) -> Response:
    label = _parse_label(await _read(request))
    await run_in_threadpool(collection.set_label, request.path_params["identity"], label)
    return JSONResponse({"label": label})


async def _delete(collection: Collection, request: Request) -> Response:
    await run_in_threadpool(collection.delete, request.path_params["identity"])
    return JSONResponse({})


async def _read(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_LABEL_BYTES:
            raise HTTPException(413, "a label has fewer bytes")
    return body


def _parse_label(body: bytes) -> str | None:
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or "label" not in document:
        raise HTTPException(422, 'send {"label": name}, or {"label": null} for none of the classes')
    label = document["label"]
    if label is not None and not isinstance(label, str):
        raise HTTPException(422, "the label must be a text or null")
    return label
