"""The description of the API, as OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from edgecls.serve.admission import MAX_BODY_BYTES

_NUMBERS = {"type": "object", "additionalProperties": {"type": "number"}}
_PREDICTION = {
    "type": "object",
    "required": ["image", "label", "index", "score", "scores", "latency_ms"],
    "properties": {
        "image": {"type": "string"},
        "label": {"type": ["string", "null"], "description": "null if the score is below the threshold"},
        "index": {"type": "integer"},
        "score": {"type": "number"},
        "scores": _NUMBERS | {"description": "score of each label, 0 to 1"},
        "latency_ms": _NUMBERS | {"description": "decode, network and whole, which includes waiting"},
        "warnings": {
            "type": "array",
            "items": {"type": "string"},
            "description": "why the pixels are probably not what was meant; left out if there is nothing to say",
        },
        "heatmap": {
            "type": "array",
            "items": {"type": "array", "items": {"type": "number"}},
            "description": "rows of the class activation map of the label, for the whole image",
        },
    },
}


def describe_api() -> dict[str, Any]:
    """Return the OpenAPI document."""
    from edgecls import __version__

    return {
        "openapi": "3.1.0",
        "info": {"title": "edgecls serve", "version": __version__},
        "paths": _paths(),
        "components": {
            "schemas": {
                "Prediction": _PREDICTION,
                "Error": {"type": "object", "properties": {"error": {"type": "string"}}},
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _paths() -> dict[str, Any]:
    listed = {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}}
    predict = {
        "summary": "Classify one image",
        "parameters": [
            {"name": "heatmap", "in": "query", "schema": {"type": "boolean"}, "description": "also return the heat map"}
        ],
        "requestBody": {
            "required": True,
            "description": f"the bytes of an image file, at most {MAX_BODY_BYTES}",
            "content": {kind: {} for kind in ("image/jpeg", "image/png", "application/octet-stream")},
        },
        "responses": {
            "200": _content("a list of one prediction, as `predict --json` prints it", listed),
            **{code: _error(text) for code, text in _ERRORS.items()},
        },
    }
    return {
        "/api/predict": {"post": predict},
        "/api/info": {"get": _get("What the file says of itself, engine and self-test")},
        "/api/health": {"get": _get("200 if the file passed its self-test and the camera works, else 503")},
        "/api/live": {"get": _get("Live results, as server-sent events", "text/event-stream")},
        "/api/frame": {"get": _get("The latest live image", "image/jpeg")},
        "/metrics": {"get": _get("Counters and latencies for Prometheus", "text/plain")},
        "/api/collected": {"get": _get("Collected images that have no label yet, the newest first")},
        "/api/collected/{id}/image": {"get": _item(_get("The image, in gray", "image/jpeg"))},
        "/api/collected/{id}": {
            "post": _item(_get('Set the label: {"label": name}, or null for none of the classes')),
            "delete": _item(_get("Delete the image")),
        },
    }


_ERRORS = {
    "401": "the token is missing",
    "403": "Host or Origin is that of another site",
    "408": "the image did not arrive in time",
    "413": "the image has too many bytes",
    "415": "the body is a form",
    "422": "the image cannot be read",
    "503": "too many requests; Retry-After says when to try again",
}


def _get(summary: str, kind: str = "application/json") -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": summary, "content": {kind: {}}}}}


def _item(operation: dict[str, Any]) -> dict[str, Any]:
    parameter = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    return operation | {"parameters": [parameter]}


def _content(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _error(description: str) -> dict[str, Any]:
    return _content(description, {"$ref": "#/components/schemas/Error"})
