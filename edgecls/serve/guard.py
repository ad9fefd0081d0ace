"""Refuses requests that another site sends through a browser, or that lack the token; adds the headers of every answer.

DNS rebinding: a page of another site gives its own name this machine's address, and then reads answers as its own. Such
a request names the other site in Host. A page that posts here without rebinding is named in Origin.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Files of the page, which hold nothing secret; the page itself sends the token from its address.
PUBLIC = ("/", "/view.js", "/app.js", "/collected.js", "/style.css", "/icon.svg")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware that answers 403 or 401 itself, and passes all other requests on.

    Args:
        app: what answers the requests that are passed on.
        names: of this machine, that Host may have beside addresses.
        loopback: True if the server listens on this machine's own addresses alone, so that Host must be one of them.
        token: that every request but those for `PUBLIC` must carry as "Authorization: Bearer TOKEN"; None for none.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], loopback: bool, token: str | None) -> None:
        self._app, self._loopback, self._token = app, loopback, token
        self._names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refused = self._refuse(scope["path"], Headers(scope=scope))
        await (refused or self._app)(scope, receive, send_with_headers)

    def _refuse(self, path: str, headers: Headers) -> Response | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return _error(403, f"unknown Host {', '.join(hosts)[:100]!r}; start the server with --allow-host NAME")
        origin = headers.get("origin")
        if origin is not None and urlsplit_netloc(origin) != hosts[0].lower():
            return _error(403, "this request comes from a page of another site")
        # Older browsers send neither, and are then kept out by Origin alone.
        if path not in PUBLIC and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return _error(403, "this request comes from a page of another site")
        if self._token is not None and path not in PUBLIC and not self._has_token(headers):
            return _error(
                401,
                "this server needs its token: open the address that it printed, or send the header "
                "Authorization: Bearer TOKEN",
            )
        return None

    def _is_own(self, host: str) -> bool:
        name = split_port(host)
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name == "localhost" or name in self._names
        return address.is_loopback or not self._loopback

    def _has_token(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        assert self._token is not None
        return kind.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), self._token.encode())


def split_port(host: str) -> str:
    """Return a Host header without its port, in lower case: "localhost:8000" becomes "localhost"."""
    name, _, port = host.lower().rpartition(":")
    return name if name and port.isdigit() and (":" not in name or name.endswith("]")) else host.lower()


def urlsplit_netloc(origin: str) -> str:
    """Return the host and port of an Origin header; "" for "null" and for what is no origin."""
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return ""
    return parts.netloc if parts.scheme in ("http", "https") else ""


def _error(status: int, text: str) -> Response:
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": text}, status, headers)
