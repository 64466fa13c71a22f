"""The guard before the page: names, sizes and rates of requests, and the policy for browsers."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from lrp_fx.app.guard import BURST, LARGEST_REQUEST, PER_SECOND, Guard

Message = MutableMapping[str, Any]


async def _inner(scope: Message, receive: Any, send: Any) -> None:
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"well"})


def _status(
    guard: Guard,
    *,
    method: str = "GET",
    client: str = "1",
    body: tuple[bytes, ...] = (b"",),
    **headers: str,
) -> tuple[int, dict[bytes, bytes]]:
    sent: list[Message] = []
    parts = iter(body)
    left = [len(body)]

    async def receive() -> Message:
        left[0] -= 1
        return {"type": "http.request", "body": next(parts), "more_body": left[0] > 0}

    async def send(message: Message) -> None:
        sent.append(message)

    named = {"host": "127.0.0.1:80", **headers}
    coded = [(k.replace("_", "-").encode(), v.encode()) for k, v in named.items()]
    scope = {"type": "http", "method": method, "headers": coded, "client": (client, 1)}
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"])


def test_names_are_checked() -> None:
    """Only under the names of this machine, with or without a port."""
    guard = Guard(_inner, hosts=("127.0.0.1", "localhost", "[::1]"))
    for host, status in {
        **{"127.0.0.1": 200, "localhost:7860": 200, "[::1]:7860": 200, "LOCALHOST": 200},
        **{"evil.example": 400, "127.0.0.1.evil.example:80": 400, "": 400},
    }.items():
        assert _status(guard, host=host)[0] == status, host
    assert _status(Guard(_inner), host="any.example")[0] == 200


def test_sizes_are_bounded() -> None:
    """By the stated length, and by what arrives without one."""
    guard = Guard(_inner)
    assert _status(guard, content_length=str(LARGEST_REQUEST))[0] == 200
    assert _status(guard, content_length=str(LARGEST_REQUEST + 1))[0] == 413
    half = bytes(LARGEST_REQUEST // 2 + 1)
    assert _status(guard, body=(half, half))[0] == 413
    assert _status(guard, body=(half,))[0] == 200


def test_rates_are_bounded() -> None:
    """A client that sends too much waits; others do not, and reading is free."""
    now = [0.0]
    guard = Guard(_inner, clock=lambda: now[0])
    found = [_status(guard, method="POST")[0] for _ in range(int(BURST) + 5)]
    assert found == [200] * int(BURST) + [429] * 5
    assert _status(guard, method="POST", client="2")[0] == 200
    assert _status(guard)[0] == 200
    now[0] = 2 / PER_SECOND
    assert [_status(guard, method="POST")[0] for _ in range(3)] == [200, 200, 429]


def test_browsers_ask_no_other_host() -> None:
    """Every answer has the policy, refusals too."""
    for headers in (_status(Guard(_inner))[1], _status(Guard(_inner, hosts=()))[1]):
        policy = headers[b"content-security-policy"].decode()
        assert "default-src 'self'" in policy
        assert "http" not in policy
