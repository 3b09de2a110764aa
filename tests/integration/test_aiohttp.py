"""aiohttp's server and client in one loop, over TLS throughout."""

import asyncio
import contextlib
import hashlib
import io
import random
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from integration.load import Rounds
from network.bodies import write_in_pieces
from network.recorders import settle
from network.tls import client_context, server_context

pytestmark = pytest.mark.integration

DATA = random.Random(11).randbytes(8 * 1024 * 1024)
DIGEST = hashlib.sha256(DATA).hexdigest()
TIMEOUT = aiohttp.ClientTimeout(total=20)


class Service:
    """The application, and what its handlers wait for and tell."""

    def __init__(self, file: Path | None = None) -> None:
        self.entered = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.was_cancelled = asyncio.Event()
        self.file = file
        self.application = web.Application(client_max_size=2 * len(DATA))
        self.application.add_routes([
            web.get("/hello", self.hello), web.get("/wait", self.wait), web.get("/echo", self.echo),
            web.post("/digest", self.digest), web.post("/upload", self.upload),
            web.get("/download", self.download), web.get("/file", self.send_file),
        ])  # fmt: skip

    async def hello(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        peer = request.transport.get_extra_info("peername")
        return web.json_response({"query": dict(request.query), "peer": peer[1]})

    async def digest(self, request: web.Request) -> web.Response:
        sha = hashlib.sha256()
        async for chunk in request.content.iter_chunked(50_000):
            sha.update(chunk)
        return web.Response(text=sha.hexdigest())

    async def upload(self, request: web.Request) -> web.Response:
        """Digests of the parts of a form."""
        digests = {}
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            assert isinstance(part, aiohttp.BodyPartReader)
            sha = hashlib.sha256()
            while chunk := await part.read_chunk(30_000):
                sha.update(chunk)
            digests[f"{part.name} {part.filename}"] = sha.hexdigest()
        return web.json_response(digests)

    async def download(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        if "deflate" in request.query:
            response.enable_compression(web.ContentCoding.deflate)
        await response.prepare(request)
        await write_in_pieces(response, DATA, seed=12)
        return response

    async def send_file(self, request: web.Request) -> web.FileResponse:
        assert self.file is not None
        return web.FileResponse(self.file)

    async def wait(self, request: web.Request) -> web.Response:
        self.entered.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise
        return web.Response(text="at last")

    async def echo(self, request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse(max_msg_size=2 * len(DATA), autoping=True)
        await connection.prepare(request)
        async for message in connection:
            if message.type is aiohttp.WSMsgType.TEXT and message.data == "stop":
                await connection.close(code=4000, message=b"as told")
            elif message.type is aiohttp.WSMsgType.TEXT:
                await connection.send_str(message.data)
            else:
                await connection.send_bytes(message.data)
        return connection


@contextlib.asynccontextmanager
async def serving(service: Service, **options: bool) -> AsyncIterator[tuple[web.AppRunner, str]]:
    """The service over TLS, and its address."""
    runner = web.AppRunner(service.application, access_log=None, shutdown_timeout=20, **options)
    await runner.setup()
    context = server_context(name="localhost")
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context, backlog=500).start()
    try:
        yield runner, f"https://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def client_of(address: str, connections: int = 100) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=connections, ssl=client_context())
    async with aiohttp.ClientSession(address, timeout=TIMEOUT, connector=connector) as session:
        yield session
    await settle()


@contextlib.asynccontextmanager
async def pair(
    service: Service | None = None, connections: int = 100, **options: bool
) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        serving(service or Service(), **options) as (_, address),
        client_of(address, connections) as session,
    ):
        yield session


async def hello(session: aiohttp.ClientSession, number: int) -> int:
    """Asks, checks the answer, and returns the client's port that the server saw."""
    async with session.get("/hello", params={"n": str(number)}) as response:
        assert response.status == 200
        answer = await response.json()
        assert answer["query"] == {"n": str(number)}
        return int(answer["peer"])


async def test_many_requests_use_one_kept_connection() -> None:
    async with pair() as session:
        assert len({await hello(session, number) for number in range(300)}) == 1


@pytest.mark.parametrize("connections", [5, 100])
async def test_many_requests_at_once(connections: int) -> None:
    async with pair(connections=connections) as session:
        ports = await asyncio.gather(*(hello(session, number) for number in range(300)))
        assert len(set(ports)) <= connections


async def upload_every_way(session: aiohttp.ClientSession) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(DATA), 77_777):
            yield DATA[start : start + 77_777]

    for body in (io.BytesIO(DATA), pieces()):
        async with session.post("/digest", data=body) as response:
            assert await response.text() == DIGEST
    form = aiohttp.FormData()
    form.add_field("first", io.BytesIO(DATA), filename="a.bin")
    form.add_field("second", io.BytesIO(DATA[:1]), filename="b.bin")
    async with session.post("/upload", data=form) as response:
        assert await response.json() == {
            "first a.bin": DIGEST,
            "second b.bin": hashlib.sha256(DATA[:1]).hexdigest(),
        }


async def test_uploads_arrive_whole() -> None:
    async with pair() as session:
        await upload_every_way(session)
        await asyncio.gather(*(upload_every_way(session) for _ in range(3)))


async def download(session: aiohttp.ClientSession, path: str) -> None:
    sha = hashlib.sha256()
    async with session.get(path) as response:
        async for chunk in response.content.iter_any():
            sha.update(chunk)
    assert sha.hexdigest() == DIGEST


async def test_downloads_arrive_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(DATA)
    async with pair(Service(file)) as session:
        for path in ("/download", "/download?deflate=1", "/file"):
            await download(session, path)
        await asyncio.gather(*(download(session, "/file") for _ in range(5)))
        async with session.get("/file", headers={"Range": "bytes=1000000-1999999"}) as response:
            assert response.status == 206
            assert await response.read() == DATA[1_000_000:2_000_000]


async def test_a_websocket_echoes_and_closes_as_told() -> None:
    size_max = 2 * len(DATA)
    async with pair() as session, session.ws_connect("/echo", max_msg_size=size_max, compress=15) as client:
        for number in range(300):
            await client.send_str(text := f"{number} ä€𝄞 " * number)
            assert await client.receive_str() == text
        await client.ping(b"ping")
        await client.send_bytes(DATA)
        assert await client.receive_bytes() == DATA
        await client.send_str("stop")
        message = await client.receive()
        assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4000, "as told")


async def test_a_shutdown_lets_requests_finish() -> None:
    service = Service()
    async with serving(service) as (runner, address), client_of(address) as session:
        await hello(session, 1)
        waiting = asyncio.create_task(session.get("/wait"))
        await service.entered.wait()
        port = runner.addresses[0][1]
        cleaning = asyncio.create_task(runner.cleanup())
        while runner.sites:
            await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        service.may_answer.set()
        async with await waiting as response:
            assert await response.text() == "at last"
        await cleaning


async def test_a_client_that_leaves_cancels_its_handler() -> None:
    service = Service()
    async with pair(service, handler_cancellation=True) as session:
        asking = asyncio.create_task(session.get("/wait"))
        await service.entered.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await service.was_cancelled.wait()
        await hello(session, 1)


async def test_a_request_without_an_answer_times_out() -> None:
    async with pair(Service(), handler_cancellation=True) as session:
        with pytest.raises(TimeoutError):
            await session.get("/wait", timeout=aiohttp.ClientTimeout(total=0.05))
        await hello(session, 1)


async def test_what_is_refused_is_told() -> None:
    async with serving(Service()) as (_, address):
        async with aiohttp.ClientSession() as distrustful:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await distrustful.get(address)
        async with client_of(address.replace("https", "http")) as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get("/hello")
    async with client_of(address) as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get("/hello")


async def test_load(rounds: Rounds) -> None:
    async def one_round(number: int) -> None:
        async with pair(connections=50) as session:
            await asyncio.gather(*(hello(session, number + n) for n in range(200)))
            await asyncio.gather(upload_every_way(session), download(session, "/download"))

    await rounds.run(one_round)
