"""httpx against an ASGI application on uvicorn, both in one loop: in plain, over TLS, over a Unix socket."""

import asyncio
import contextlib
import hashlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from integration.load import Rounds
from integration.servers import write_certificate
from network.tls import client_context

pytestmark = pytest.mark.integration

WAYS = ("plain", "tls", "unix")
DATA = random.Random(9).randbytes(8 * 1024 * 1024)
DIGEST = hashlib.sha256(DATA).hexdigest()

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Application:
    """`/hello`, `/digest` of a body, `/download` of DATA, `/never` without an answer."""

    def __init__(self) -> None:
        self.never_left = asyncio.Event()
        self.never_entered = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await getattr(self, scope["path"].removeprefix("/"))(scope, receive, send)

    async def hello(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Who asks, and what."""
        who = ":".join(map(str, scope["client"] or ()))
        await self.say(send, f"{scope['method']} {scope['query_string'].decode()} {who}".encode())

    async def digest(self, scope: Scope, receive: Receive, send: Send) -> None:
        sha = hashlib.sha256()
        while (message := await receive()).get("more_body"):
            sha.update(message["body"])
        sha.update(message["body"])
        await self.say(send, sha.hexdigest().encode())

    async def download(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for start in range(0, len(DATA), 77_777):
            await send(
                {"type": "http.response.body", "body": DATA[start : start + 77_777], "more_body": True}
            )
        await send({"type": "http.response.body", "body": b""})

    async def never(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers nothing; hears when the client leaves."""
        self.never_entered.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        self.never_left.set()

    async def say(self, send: Send, body: bytes) -> None:
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def serving(
    way: str, directory: Path, application: Application | None = None
) -> AsyncIterator[tuple[str, socket.socket]]:
    """uvicorn in the running loop, and its address and listening socket."""
    options = {}
    if way == "tls":
        write_certificate(directory)
        options = {"ssl_certfile": directory / "server.crt", "ssl_keyfile": str(directory / "server.key")}
    config = uvicorn.Config(
        application or Application(), log_level="error", lifespan="off", ws="none", http="h11", **options
    )
    server = uvicorn.Server(config)
    # asyncio turns Nagle's algorithm off only where the protocol is named.
    with socket.socket(socket.AF_UNIX) if way == "unix" else socket.socket(proto=socket.IPPROTO_TCP) as sock:
        sock.bind(str(directory / "socket") if way == "unix" else ("127.0.0.1", 0))
        address = "localhost" if way == "unix" else f"localhost:{sock.getsockname()[1]}"
        running = asyncio.create_task(server.serve([sock]))
        while not server.started:
            await asyncio.sleep(0)
        try:
            yield f"{'https' if way == 'tls' else 'http'}://{address}", sock
        finally:
            server.should_exit = True
            await running
    (directory / "socket").unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def pair(
    way: str, directory: Path, application: Application | None = None, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running application."""
    async with serving(way, directory, application) as (address, _):
        transport = httpx.AsyncHTTPTransport(
            verify=client_context(),
            uds=str(directory / "socket") if way == "unix" else None,
            limits=httpx.Limits(max_connections=options.pop("connections", 100)),
        )
        async with httpx.AsyncClient(
            transport=transport, base_url=address, **{"timeout": 20, **options}
        ) as client:
            yield client


@pytest.mark.parametrize("way", WAYS)
async def test_many_requests_use_one_kept_connection(tmp_path: Path, way: str) -> None:
    async with pair(way, tmp_path) as client:
        answers = [(await client.get("/hello", params={"n": number})).text for number in range(200)]
        assert [answer.split()[:2] for answer in answers] == [["GET", f"n={number}"] for number in range(200)]
        assert len({tuple(answer.split()[2:]) for answer in answers}) == 1  # who asked


async def ask_at_once(client: httpx.AsyncClient, count: int) -> None:
    async def one(number: int) -> str:
        return (await client.put("/hello", params={"n": number}, content=b"x" * number)).text

    answers = await asyncio.gather(*(one(number) for number in range(count)))
    assert [answer.split()[:2] for answer in answers] == [["PUT", f"n={number}"] for number in range(count)]


@pytest.mark.parametrize("connections", [5, 40])
@pytest.mark.parametrize("way", WAYS)
async def test_many_requests_at_once(tmp_path: Path, way: str, connections: int) -> None:
    async with pair(way, tmp_path, connections=connections) as client:
        await ask_at_once(client, 100)


async def stream_both_ways(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(DATA), 65_537):
            yield DATA[start : start + 65_537]

    assert (await client.post("/digest", content=pieces())).text == DIGEST
    assert (await client.post("/digest", content=DATA)).text == DIGEST
    sha = hashlib.sha256()
    async with client.stream("GET", "/download") as response:
        assert response.headers["transfer-encoding"] == "chunked"
        async for piece in response.aiter_bytes():
            sha.update(piece)
    assert sha.hexdigest() == DIGEST


@pytest.mark.parametrize("way", WAYS)
async def test_bodies_stream_up_and_down(tmp_path: Path, way: str) -> None:
    async with pair(way, tmp_path) as client:
        await stream_both_ways(client)
        await asyncio.gather(*(stream_both_ways(client) for _ in range(3)))


@pytest.mark.parametrize("way", WAYS)
async def test_a_response_that_is_left_early_costs_only_its_connection(tmp_path: Path, way: str) -> None:
    async with pair(way, tmp_path) as client:
        for _ in range(10):
            async with client.stream("GET", "/download") as response:
                assert (await anext(response.aiter_bytes(1000))) == DATA[:1000]
            assert (await client.get("/hello")).status_code == 200


@pytest.mark.parametrize("way", WAYS)
async def test_a_request_without_an_answer_times_out(tmp_path: Path, way: str) -> None:
    application = Application()
    async with pair(way, tmp_path, application) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/never", timeout=httpx.Timeout(20, read=0.05))
        await application.never_left.wait()
        assert (await client.get("/hello")).status_code == 200


@pytest.mark.parametrize("way", WAYS)
async def test_a_cancelled_request_is_noticed_by_the_server(tmp_path: Path, way: str) -> None:
    application = Application()
    async with pair(way, tmp_path, application) as client:
        asking = asyncio.create_task(client.get("/never"))
        await application.never_entered.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await application.never_left.wait()
        assert (await client.get("/hello")).status_code == 200


async def test_a_pool_that_is_exhausted_times_out(tmp_path: Path) -> None:
    application = Application()
    async with pair("plain", tmp_path, application, connections=1) as client:
        asking = asyncio.create_task(client.get("/never"))
        await application.never_entered.wait()
        with pytest.raises(httpx.PoolTimeout):
            await client.get("/hello", timeout=httpx.Timeout(20, pool=0.05))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_what_is_refused_is_told(tmp_path: Path) -> None:
    async with serving("tls", tmp_path) as (address, _), httpx.AsyncClient() as distrustful:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await distrustful.get(address)
    async with httpx.AsyncClient(verify=client_context()) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(address)
        async with serving("plain", tmp_path) as (address, _):
            with pytest.raises(httpx.ConnectError):
                await client.get(address.replace("http:", "https:"))


async def test_load(tmp_path: Path, rounds: Rounds) -> None:
    async def one_round(number: int) -> None:
        async with pair(WAYS[number % 3], tmp_path, connections=30) as client:
            await ask_at_once(client, 100)
            await stream_both_ways(client)

    await rounds.run(one_round)
