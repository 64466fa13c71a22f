"""The protection of the page: bounds on requests, and a browser that contacts no other host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from time import monotonic
from typing import Any

from lrp_fx._common import Recent
from lrp_fx.app.uploads import LARGEST_UPLOAD

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

PER_SECOND, BURST = 40.0, 200.0
"""How many POST requests a client may send: per second in the long run, and at once."""
CLIENTS = 10_000
"""The number of clients that are remembered; the oldest is forgotten."""
OVERHEAD = 2**20
"""By how many bytes a request with a file may be larger than the file."""
LARGEST_REQUEST = 2 * LARGEST_UPLOAD + OVERHEAD
"""In bytes. A camera's frame is sent as text, which is a third longer, and several files at once."""
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-ancestors 'self'",
        "form-action 'self'",
    )
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class Guard:
    """An ASGI application around another one: bounds what comes in, and says where browsers may ask.

    Args:
        inner: the application.
        hosts: the names under which it may be called; None for all. A page of another site cannot
            reach it under a name of its own then (DNS rebinding).
        clock: the time in seconds.
    """

    def __init__(
        self,
        inner: Application,
        *,
        hosts: tuple[str, ...] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.inner, self.hosts, self.clock = inner, hosts, clock
        self._left: Recent[str, tuple[float, float]] = Recent(CLIENTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        refused = self._refused(scope)
        if refused is not None:
            await _answer(send, *refused)
            return
        sent = False
        arrived = 0

        async def bounded() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > LARGEST_REQUEST:
                raise _TooLargeError
            return message

        async def with_headers(message: Message) -> None:
            nonlocal sent
            if message["type"] == "http.response.start":
                sent = True
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        try:
            await self.inner(scope, bounded, with_headers)
        except _TooLargeError:
            if not sent:
                await _answer(send, 413, TOO_LARGE)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        """Status and sentence for a request that is not passed on."""
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if self.hosts is not None and name not in self.hosts:
            return 400, "This page is not known under this name."
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > LARGEST_REQUEST:
            return 413, TOO_LARGE
        client = str((scope.get("client") or ("",))[0])
        if scope["method"] == "POST" and not self._allowed(client):
            return 429, "Too many requests: wait a second."
        return None

    def _allowed(self, client: str) -> bool:
        """Whether the client has a request left; each second gives it some more."""
        now = self.clock()
        left, before = self._left.get(client, lambda: (BURST, now))
        left = min(BURST, left + (now - before) * PER_SECOND)
        allowed = left >= 1
        self._left.put(client, (left - allowed, now))
        return allowed


TOO_LARGE = f"At most {LARGEST_UPLOAD // 2**20} MB can be sent."


class _TooLargeError(Exception):
    """A request without a stated length turned out to be too large."""


async def _answer(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
