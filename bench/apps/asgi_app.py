"""An ASGI application without a framework: a greeting and a JSON document."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """GET / answers plain text, GET /items/NUMBER answers JSON."""
    if scope["type"] != "http":
        return
    path: str = scope["path"]
    status, kind, body = 200, b"text/plain; charset=utf-8", b"Hello, world\n"
    if path.startswith("/items/") and path[7:].isdigit():
        number = int(path[7:])
        kind = b"application/json"
        body = json.dumps({"number": number, "name": f"item {number}", "tags": ["a", "b", "c"]}).encode()
    elif path != "/":
        status, body = 404, b"not found\n"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
