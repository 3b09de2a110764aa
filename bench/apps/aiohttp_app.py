"""An aiohttp application as one writes it: a greeting and a JSON document."""

from __future__ import annotations

from aiohttp import web


async def hello(request: web.Request) -> web.Response:
    """GET / answers plain text."""
    return web.Response(text="Hello, world\n")


async def item(request: web.Request) -> web.Response:
    """GET /items/{number} answers JSON."""
    number = int(request.match_info["number"])
    return web.json_response({"number": number, "name": f"item {number}", "tags": ["a", "b", "c"]})


def make_app() -> web.Application:
    """The application."""
    app = web.Application()
    app.router.add_get("/", hello)
    app.router.add_get(r"/items/{number:\d+}", item)
    return app
