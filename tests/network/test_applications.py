"""Unmodified applications: aiohttp's server and client, its WebSockets, an ASGI application on uvicorn."""

import asyncio
import hashlib
import io
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import uvicorn
from aiohttp import web

from network.bodies import write_in_pieces
from network.peers import TIMEOUT, Proxy, receive_all
from network.recorders import settle
from support.loops import DRIVERS

BODY = random.Random(60).randbytes(5 * 1024 * 1024)
DIGEST = hashlib.sha256(BODY).hexdigest()


async def hello(request: web.Request) -> web.Response:
    """A small answer."""
    return web.json_response({"hello": request.query.get("name", "world"), "method": request.method})


async def digest(request: web.Request) -> web.Response:
    """The digest of a large body, read in chunks."""
    sha = hashlib.sha256()
    async for chunk in request.content.iter_chunked(50_000):
        sha.update(chunk)
    return web.Response(text=sha.hexdigest())


async def download(request: web.Request) -> web.StreamResponse:
    """A large body, written in chunks of changing sizes."""
    response = web.StreamResponse()
    await response.prepare(request)
    await write_in_pieces(response, BODY, seed=61)
    return response


async def chat(request: web.Request) -> web.WebSocketResponse:
    """Sends back each message of a WebSocket until it is told to stop."""
    socket_ = web.WebSocketResponse(max_msg_size=len(BODY) + 1000)
    await socket_.prepare(request)
    async for message in socket_:
        if message.type is aiohttp.WSMsgType.TEXT:
            if message.data == "stop":
                await socket_.close(code=4000, message=b"as told")
            else:
                await socket_.send_str(message.data.upper())
        elif message.type is aiohttp.WSMsgType.BINARY:
            await socket_.send_bytes(message.data)
    return socket_


async def fail(request: web.Request) -> web.Response:
    """Hangs up in the middle of an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@asynccontextmanager
async def aiohttp_application() -> AsyncIterator[tuple[str, int]]:
    """An aiohttp application on a free port; its address."""
    application = web.Application(client_max_size=2 * len(BODY))
    application.add_routes([
        web.get("/hello", hello), web.post("/digest", digest), web.get("/download", download),
        web.get("/chat", chat), web.get("/fail", fail),
    ])  # fmt: skip
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1000)
    await site.start()
    try:
        yield runner.addresses[0]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client_of(address: tuple[str, int], limit: int = 100) -> AsyncIterator[aiohttp.ClientSession]:
    """An aiohttp client whose paths are the address's, with at most `limit` connections."""
    host, port = address
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    connector = aiohttp.TCPConnector(limit=limit)
    async with aiohttp.ClientSession(
        f"http://{host}:{port}", timeout=timeout, connector=connector
    ) as session:
        yield session
    await settle()


@asynccontextmanager
async def aiohttp_pair(limit: int = 100) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a running aiohttp application, with at most `limit` connections."""
    async with aiohttp_application() as address, client_of(address, limit) as session:
        yield session


async def test_aiohttp_answers_many_requests_on_kept_connections() -> None:
    async with aiohttp_pair() as session:
        for number in range(100):
            async with session.get("/hello", params={"name": str(number)}) as response:
                assert response.status == 200
                assert await response.json() == {"hello": str(number), "method": "GET"}


async def test_aiohttp_answers_200_requests_at_once() -> None:
    async def one(number: int) -> str:
        async with session.get("/hello", params={"name": str(number)}) as response:
            return str((await response.json())["hello"])

    async with aiohttp_pair(limit=200) as session:
        answers = await asyncio.gather(*(one(number) for number in range(200)))
    assert answers == [str(number) for number in range(200)]


async def test_aiohttp_takes_and_gives_large_bodies() -> None:
    async with aiohttp_pair() as session:
        async with session.post("/digest", data=io.BytesIO(BODY)) as response:
            assert await response.text() == DIGEST
        async with session.get("/download") as response:
            assert hashlib.sha256(await response.read()).hexdigest() == DIGEST


async def test_aiohttp_streams_both_ways_in_chunks() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(BODY), 77_777):
            yield BODY[start : start + 77_777]
            if start % 10 == 0:
                await asyncio.sleep(0)

    async with aiohttp_pair() as session:
        async with session.post("/digest", data=pieces()) as response:
            assert await response.text() == DIGEST
        sha = hashlib.sha256()
        async with session.get("/download") as response:
            async for chunk in response.content.iter_any():
                sha.update(chunk)
        assert sha.hexdigest() == DIGEST


async def test_aiohttp_websockets_carry_messages_of_every_size() -> None:
    async with (
        aiohttp_pair() as session,
        session.ws_connect("/chat", max_msg_size=len(BODY) + 1000) as websocket,
    ):
        for text in ("a", "hello", "x" * 125, "y" * 126, "z" * 70_000):
            await websocket.send_str(text)
            assert await websocket.receive_str() == text.upper()
        for size in (0, 1, 65_535, 65_536, len(BODY)):
            await websocket.send_bytes(BODY[:size])
            assert await websocket.receive_bytes() == BODY[:size]
        await websocket.ping()
        await websocket.send_str("stop")
        message = await websocket.receive()
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert (websocket.close_code, message.extra) == (4000, "as told")


async def test_50_aiohttp_websockets_at_once() -> None:
    async def one(number: int) -> None:
        async with session.ws_connect("/chat") as websocket:
            for count in range(10):
                await websocket.send_str(f"from {number}: {count}")
                assert await websocket.receive_str() == f"FROM {number}: {count}"

    async with aiohttp_pair(limit=50) as session:
        await asyncio.gather(*(one(number) for number in range(50)))


async def test_aiohttps_client_tells_a_hang_up_and_goes_on() -> None:
    async with aiohttp_pair() as session:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.get("/fail")
        async with session.get("/hello") as response:
            assert response.status == 200


async def test_aiohttps_client_tells_a_reset_in_mid_download() -> None:
    async def download_until_reset(session: aiohttp.ClientSession) -> None:
        async with session.get("/download") as response:
            await response.content.readexactly(1000)
            await asyncio.to_thread(proxy.reset)
            await response.read()

    async with aiohttp_application() as address:
        with Proxy(address) as proxy:
            async with client_of(proxy.address) as session:
                with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
                    await download_until_reset(session)
                async with session.get("/hello") as response:
                    assert response.status == 200


async def test_aiohttps_client_times_out_and_goes_on() -> None:
    async with aiohttp_pair() as session:
        with pytest.raises(TimeoutError):
            await session.get("/chat", timeout=aiohttp.ClientTimeout(total=0.0001))
        async with session.get("/hello") as response:
            assert response.status == 200


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application: the length and digest of the request's body, or a large body for /download."""
    assert scope["type"] == "http"
    sha, length = hashlib.sha256(), 0
    while True:
        message = await receive()
        sha.update(message.get("body", b""))
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    large = scope["path"] == "/download"
    body = BODY if large else f"{scope['path']} {length} {sha.hexdigest()}".encode()
    headers = [(b"content-length", str(len(body)).encode())] if not large else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for start in range(0, len(body), 100_000):
        await send({"type": "http.response.body", "body": body[start : start + 100_000], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def uvicorn_server() -> AsyncIterator[tuple[str, int]]:
    """uvicorn with the application above, on a free port of the running loop; its address."""
    server = uvicorn.Server(uvicorn.Config(asgi, log_level="error", lifespan="off", http="h11"))
    with socket.socket(
        proto=socket.IPPROTO_TCP
    ) as sock:  # asyncio turns Nagle's algorithm off only if told so
        sock.bind(("127.0.0.1", 0))
        address = sock.getsockname()
        serving = asyncio.create_task(server.serve([sock]))
        while not server.started:
            await asyncio.sleep(0)
        try:
            yield address
        finally:
            server.should_exit = True
            await serving


async def test_uvicorn_answers_on_a_kept_connection() -> None:
    async with uvicorn_server() as address:
        reader, writer = await asyncio.open_connection(*address)
        for number in range(50):
            writer.write(b"GET /%d HTTP/1.1\r\nhost: test\r\n\r\n" % number)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            assert (await reader.readexactly(length)).startswith(b"/%d 0 " % number)
        writer.close()
        await writer.wait_closed()


async def test_uvicorn_answers_pipelined_requests_in_order() -> None:
    async with uvicorn_server() as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nhost: test\r\n\r\n" % number for number in range(20)))
        for number in range(20):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            assert (await reader.readexactly(length)).startswith(b"/%d " % number)
        writer.close()
        await writer.wait_closed()


async def test_uvicorn_takes_and_gives_large_bodies_on_kept_connections() -> None:
    async with uvicorn_server() as address, client_of(address) as session:
        for _ in range(3):
            async with session.post("/upload", data=io.BytesIO(BODY)) as response:
                assert await response.text() == f"/upload {len(BODY)} {DIGEST}"
            async with session.get("/download") as response:
                assert hashlib.sha256(await response.read()).hexdigest() == DIGEST


async def test_uvicorn_serves_100_clients_at_once() -> None:
    async def one(number: int) -> str:
        async with session.post(f"/{number}", data=BODY[: number * 100]) as response:
            return await response.text()

    async with uvicorn_server() as address, client_of(address) as session:
        answers = await asyncio.gather(*(one(number) for number in range(100)))
    assert [answer.split()[:2] for answer in answers] == [[f"/{n}", str(n * 100)] for n in range(100)]


async def test_uvicorn_says_goodbye_to_a_client_that_asks_for_close() -> None:
    async with uvicorn_server() as address:

        def ask() -> bytes:
            with socket.create_connection(address, TIMEOUT) as sock:
                sock.sendall(b"GET /bye HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
                return receive_all(sock)

        answer = await asyncio.to_thread(ask)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\n\r\n/bye 0 " in answer


UVICORN_RUN = """
    import os, socket, threading, urllib.request, uvicorn

    kinds = set()

    async def application(scope, receive, send):
        import asyncio
        kinds.add(type(asyncio.get_running_loop()).__module__.partition(".")[0])
        body = b"served"
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def ask():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as response:
            answers.append(response.read())
        server.should_exit = True

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets=sockets)
            threading.Thread(target=ask).start()

    answers = []
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    config = uvicorn.Config(application, log_level="error", lifespan="off", loop=os.environ["LOOP_FACTORY"])
    server = Server(config)
    server.run(sockets=[sock])
    assert answers == [b"served"], answers
    print(kinds.pop())
"""


def test_uvicorn_runs_with_a_loop_factory_by_name(run_child: Any, loop_name: str) -> None:
    package = "ringloop" if loop_name in DRIVERS else loop_name
    factory = {"asyncio": "asyncio:SelectorEventLoop"}.get(loop_name, f"{package}:new_event_loop")
    child = run_child(UVICORN_RUN, env={"LOOP_FACTORY": factory})
    assert child.stdout.strip() == package
