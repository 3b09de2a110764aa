"""FastAPI's and Starlette's static files, file responses and uploads, when anyio and aiofiles are patched.

Each is asked the same without that.
"""

import asyncio
import importlib
import random
from pathlib import Path
from typing import Any

import aiofiles
import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import ringloop
from patching.threads import recorded

CONTENT = random.Random(3).randbytes(1_500_000)


def starlette_app(root: Path) -> Any:
    async def send(request: Request) -> FileResponse:
        return FileResponse(root / "large", filename="large.bin")

    async def receive(request: Request) -> PlainTextResponse:
        async with request.form() as form:
            upload = form["file"]
            assert isinstance(upload, UploadFile)
            size = await store(root, upload)
        return PlainTextResponse(f"{upload.filename} {size}")

    static = Mount("/static", StaticFiles(directory=root, html=True))
    return Starlette(routes=[Route("/send", send), Route("/receive", receive, methods=["POST"]), static])


async def store(root: Path, upload: Any) -> int:
    """Keeps the upload twice: by anyio and by aiofiles."""
    async with (
        await anyio.open_file(root / "by anyio", "wb") as one,
        aiofiles.open(root / "by aiofiles", "wb") as two,
    ):
        while piece := await upload.read(65_536):
            await one.write(piece)
            await two.write(piece)
    return (root / "by anyio").stat().st_size


def fastapi_app(root: Path) -> Any:
    fastapi = importlib.import_module("fastapi")
    responses = importlib.import_module("fastapi.responses")
    app = fastapi.FastAPI()

    async def send() -> Any:
        return responses.FileResponse(root / "large", filename="large.bin")

    async def receive(file: Any) -> Any:
        return responses.PlainTextResponse(f"{file.filename} {await store(root, file)}")

    receive.__annotations__["file"] = fastapi.UploadFile
    app.get("/send")(send)
    app.post("/receive")(receive)
    app.mount(
        "/static", importlib.import_module("fastapi.staticfiles").StaticFiles(directory=root, html=True)
    )
    return app


@pytest.fixture(params=["starlette", "fastapi"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "fastapi":
        pytest.importorskip("fastapi", reason="FastAPI cannot be installed on this Python yet")
    (tmp_path / "large").write_bytes(CONTENT)
    (tmp_path / "small.txt").write_text("small")
    (tmp_path / "index.html").write_text("<html>")
    return {"starlette": starlette_app, "fastapi": fastapi_app}[request.param](tmp_path)


async def ask(app: Any) -> list[Any]:
    """What the application answers."""
    transport = httpx.ASGITransport(app)
    found = []
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        requests = [
            ("/send", {}),
            ("/send", {"range": "bytes=10-99"}),
            ("/send", {"range": "bytes=0-9,100-199"}),
        ]
        requests += [(f"/static/{name}", {}) for name in ("small.txt", "large", "none", "", "../x", "%00")]
        requests.append(("/static/large", {"range": "bytes=1000000-"}))
        for path, headers in requests:
            answer = await client.get(path, headers=headers)
            kept = [(name, value) for name, value in answer.headers.items() if "boundary" not in value]
            boundary = answer.headers.get("content-type", "").partition("boundary=")[2].encode()
            content = answer.content.replace(boundary, b"") if boundary else answer.content
            found.append((path, answer.status_code, kept, content))
        answer = await client.get("/static/small.txt", headers={"if-none-match": dict(found[3][2])["etag"]})
        found.append((answer.status_code, answer.content))
        for size in (100, len(CONTENT)):
            answer = await client.post("/receive", files={"file": ("name", CONTENT[:size])})
            found.append((answer.status_code, answer.text))
    return found


async def test_the_same_answers(app: Any, tmp_path: Path) -> None:
    expected = await ask(app)
    assert [found[1] for found in expected[:10]] == [200, 206, 206, 200, 200, 404, 200, 404, 404, 206]
    assert expected[10:] == [(304, b""), (200, "name 100"), (200, f"name {len(CONTENT)}")]
    with ringloop.patch("anyio", "aiofiles"), recorded() as threads:
        assert await ask(app) == expected
    for name in ("by anyio", "by aiofiles"):
        assert (tmp_path / name).read_bytes() == CONTENT
    if isinstance(asyncio.get_running_loop(), ringloop.Loop):
        # A path is looked up by blocking code of Starlette's own; a large upload is a blocking file.
        assert set(threads) == {"lookup_path", "write", "read", "seek", "close"}


async def test_a_file_without_threads(app: Any) -> None:
    with ringloop.patch("anyio"), recorded() as threads:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.get("/send")
        assert answer.content == CONTENT
    assert bool(threads) != isinstance(asyncio.get_running_loop(), ringloop.Loop)
