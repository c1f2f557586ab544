"""What every request passes before anything else: host, origin, token and size; and the headers of every answer.

A page elsewhere must not drive a server on this machine: a browser tells where a request comes from (Origin) and whom
it believes to talk to (Host, which DNS rebinding cannot change).
"""

import hmac
from collections.abc import Callable
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "samjax_token"
OPEN_PATHS = ("/healthz",)
"""Paths that need no token: they tell nothing but that a server is there."""
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "worker-src 'self' blob:; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """Refuses what does not come from the page or a client that knows the token; bounds the size of bodies."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None, token: str | None, body_limit: Callable[[str], int]):
        """
        Args:
            hosts: the names under which the server is asked; None: any, for which there must be a token.
            token: what a request must know; None: nothing.
            body_limit: the largest body in bytes, by path.
        """
        if hosts is None and token is None:
            raise ValueError("a server that answers to any name needs a token")
        self._app, self._hosts, self._token, self._body_limit = app, hosts, token, body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send))
            return
        limit, received, answered = self._body_limit(scope["path"]), 0, False

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = True
            await _with_headers(send)(message)

        try:
            await self._app(scope, bounded, noted)
        except _TooLarge:
            if not answered:
                await _too_large(limit)(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            return _refused(403, "Host: this server answers to its own address only")
        origin = headers.get("origin")
        if origin is not None and _place_of(origin) != host:
            return _refused(403, "Origin: requests from other pages are refused")
        if self._token is not None and scope["path"] not in OPEN_PATHS:
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if scope["method"] == "GET" and scope["path"] == "/" and self._knows(given):
                return _entrance(scope, given)
            if not (self._knows(_bearer(headers)) or self._knows(_cookie(headers))):
                return _refused(
                    401, "token: missing or wrong; open the address with /?token= and the token of the command"
                )
        length = headers.get("content-length", "0")
        limit = self._body_limit(scope["path"])
        if not length.isdecimal() or int(length) > limit:
            return _too_large(limit)
        return None

    def _knows(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode("utf-8"))


class _TooLarge(Exception):
    pass


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending


def _refused(status: int, detail: str) -> ASGIApp:
    return JSONResponse({"detail": detail}, status)


def _too_large(limit: int) -> ASGIApp:
    return _refused(413, f"body: larger than {limit} bytes")


def _entrance(scope: Scope, token: str) -> ASGIApp:
    """Turns the token of the address into a cookie, so that it is not kept in the browser's history."""
    others = {k: v for k, v in parse_qs(scope["query_string"].decode("latin-1")).items() if k != "token"}
    response = RedirectResponse("/" + (f"?{urlencode(others, doseq=True)}" if others else ""), 303)
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict", path="/")
    return response


def _bearer(headers: Headers) -> str:
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


def _cookie(headers: Headers) -> str:
    """The token of the page's cookie; other servers at this address may have set cookies of any form."""
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")


def _place_of(origin: str) -> str | None:
    """The host and port of an origin; None if it is none."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
