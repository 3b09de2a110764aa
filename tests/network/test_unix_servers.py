"""create_unix_server: paths and abstract names, stale and left files, the Server, its errors."""

import asyncio
import os
import socket
import ssl
import sys
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from network.peers import receive_all, without_class
from network.recorders import Recorder, drive
from network.unix_peers import abstract_name, directory, unix_client, unix_listener
from support.compare import normalised, take_log
from support.leaks import open_fds

CLEANS_UP = pytest.mark.beyond_asyncio("cleanup_socket is new in 3.13", before=(3, 13))


@pytest.fixture
def path() -> Iterator[Path]:
    """A path where no file is yet."""
    with directory() as where:
        yield where / "s"


class Greeter(asyncio.Protocol):
    """Says hello to everyone and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"hello")
        transport.close()


async def greeting(path: Any) -> bytes:
    """What a client is told."""

    def ask() -> bytes:
        with unix_client(path) as sock:
            return receive_all(sock)

    return await asyncio.to_thread(ask)


@pytest.mark.parametrize("form", [Path, str, os.fsencode], ids=["PathLike", "str", "bytes"])
async def test_serves_on_a_path(path: Path, form: Callable[[Path], Any]) -> None:
    made = await asyncio.get_running_loop().create_unix_server(Greeter, form(path))
    assert path.is_socket()
    assert made.is_serving()
    assert isinstance(made, asyncio.Server)
    (sock,) = made.sockets
    assert type(sock) is TransportSocket
    assert sock.getsockname() == str(path)
    assert sock.gettimeout() == 0
    assert await greeting(str(path)) == b"hello"
    made.close()
    assert made.sockets == ()
    await made.wait_closed()
    with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
        unix_client(str(path))


@pytest.mark.parametrize("form", [str, os.fsencode], ids=["str", "bytes"])
async def test_serves_on_an_abstract_name_which_is_free_after_close(form: Callable[[str], Any]) -> None:
    name = form(abstract_name())
    for _ in range(3):
        made = await asyncio.get_running_loop().create_unix_server(Greeter, name)
        assert await greeting(name) == b"hello"
        made.close()
    with pytest.raises(ConnectionRefusedError):
        unix_client(name)


async def test_serves_on_a_given_socket(path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    made = await asyncio.get_running_loop().create_unix_server(Greeter, sock=sock)
    assert sock.gettimeout() == 0
    assert await greeting(str(path)) == b"hello"
    made.close()
    assert sock.fileno() == -1


async def test_an_accepted_transport_knows_its_socket(path: Path) -> None:
    protocol = Recorder()
    made = await asyncio.get_running_loop().create_unix_server(lambda: protocol, path)
    with unix_client(str(path)) as client:
        client.sendall(b"hello")
        await protocol.until_received(5)
        transport = protocol.transport
        assert transport.get_extra_info("sockname") == str(path)
        assert transport.get_extra_info("peername") == ""
        sock = transport.get_extra_info("socket")
        assert isinstance(sock, TransportSocket)
        assert sock.family == socket.AF_UNIX
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4) == os.getpid().to_bytes(4, "little")
    await protocol.until("connection_lost")
    made.close()


async def test_serves_a_hundred_clients_at_once(path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    async def ask(number: int) -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(bytes([number]) * 100_000)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    made = await asyncio.start_unix_server(echo, path)
    async with made:
        answers = await asyncio.gather(*map(ask, range(100)))
    assert answers == [bytes([number]) * 100_000 for number in range(100)]


async def test_not_started_it_serves_later(path: Path) -> None:
    made = await asyncio.get_running_loop().create_unix_server(Greeter, path, start_serving=False)
    assert not made.is_serving()
    with pytest.raises(ConnectionRefusedError):
        unix_client(str(path))
    await made.start_serving()
    assert await greeting(str(path)) == b"hello"
    made.close()


async def test_serve_forever_ends_by_cancelling(path: Path) -> None:
    made = await asyncio.get_running_loop().create_unix_server(Greeter, path, start_serving=False)
    serving = asyncio.create_task(made.serve_forever())
    await asyncio.sleep(0)
    assert await greeting(str(path)) == b"hello"
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert made.sockets == ()


async def test_a_stale_socket_is_replaced_and_another_file_is_not(path: Path) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    made = await loop.create_unix_server(Greeter, path)
    assert await greeting(str(path)) == b"hello"
    made.close()
    path.unlink(missing_ok=True)
    path.write_text("precious")
    with pytest.raises(OSError, match="is already in use"):
        await loop.create_unix_server(Greeter, path)
    assert path.read_text() == "precious"


async def test_close_removes_the_file_by_default_from_3_13_on(path: Path) -> None:
    made = await asyncio.get_running_loop().create_unix_server(Greeter, path)
    made.close()
    assert path.is_socket() == (sys.version_info < (3, 13))


@CLEANS_UP
async def test_close_removes_the_file(path: Path) -> None:
    loop = asyncio.get_running_loop()
    made = await loop.create_unix_server(Greeter, path, cleanup_socket=True)
    made.close()
    assert not path.exists()
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    made = await loop.create_unix_server(Greeter, sock=sock, start_serving=False, cleanup_socket=True)
    made.close()
    assert not path.exists()


async def test_close_removes_the_file_if_this_pythons_does(path: Path) -> None:
    loop = asyncio.get_running_loop()
    made = await loop.create_unix_server(Greeter, path)
    made.close()
    assert path.exists() == (sys.version_info < (3, 13))
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    made = await loop.create_unix_server(Greeter, sock=sock)
    made.close()
    assert path.exists() == (sys.version_info < (3, 13))


@CLEANS_UP
async def test_close_leaves_the_file_if_asked_to(path: Path) -> None:
    made = await asyncio.get_running_loop().create_unix_server(Greeter, path, cleanup_socket=False)
    made.close()
    assert path.is_socket()


@CLEANS_UP
async def test_close_leaves_another_servers_file(path: Path) -> None:
    loop = asyncio.get_running_loop()
    first = await loop.create_unix_server(Greeter, path, cleanup_socket=True)
    path.rename(path.with_name("moved"))  # whose inode is not used again meanwhile
    second = await loop.create_unix_server(Greeter, path, cleanup_socket=True)
    first.close()
    assert path.is_socket()
    assert await greeting(str(path)) == b"hello"
    second.close()
    assert not path.exists()


@CLEANS_UP
async def test_close_does_not_mind_that_the_file_is_gone(path: Path) -> None:
    made = await asyncio.get_running_loop().create_unix_server(Greeter, path, cleanup_socket=True)
    path.unlink()
    made.close()
    made.close()


@CLEANS_UP
def test_a_file_that_cannot_be_removed_is_logged(
    same_as_asyncio: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Any) -> None:
        raise PermissionError(13, "Permission denied")

    def scenario(loop_factory: Any) -> list[Any]:
        async def main() -> None:
            made = await asyncio.get_running_loop().create_unix_server(Greeter, name, cleanup_socket=True)
            with monkeypatch.context() as patched:
                patched.setattr(os, "unlink", refuse)
                made.close()

        with directory() as where:
            name = str(where / "s")
            drive(loop_factory, main)
            return [(level, text.replace(str(where), "…"), error) for level, text, error in take_log(caplog)]

    # From Python 3.13 on asyncio is the one to compare with.
    if sys.version_info >= (3, 13):
        assert len(same_as_asyncio(scenario)) == 1


def test_errors_are_asyncios(same_as_asyncio: Any) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    taken = abstract_name()

    def scenario(loop_factory: Any) -> list[Any]:
        async def attempt(*args: Any, **keywords: Any) -> tuple[Any, ...]:
            try:
                made = await asyncio.get_running_loop().create_unix_server(Greeter, *args, **keywords)
            except Exception as error:
                text = without_class(normalised(str(error))).replace(str(where), "…")
                return type(error).__name__, getattr(error, "errno", None), text.split("fd=")[0]
            made.close()
            return ("served",)

        async def main() -> list[Any]:
            with (
                socket.socket() as tcp,
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
                unix_listener(taken),
            ):
                (where / "file").touch()
                return [
                    await attempt(),
                    await attempt(str(where / "s"), sock=datagrams),
                    await attempt(str(where / "s"), ssl=True),
                    await attempt(str(where / "s"), ssl=False),
                    await attempt(str(where / "s"), ssl_handshake_timeout=1.0),
                    await attempt(str(where / "s"), ssl_shutdown_timeout=1.0),
                    await attempt(str(where / "s"), no_such_keyword=1),
                    await attempt(ssl=tls),
                    await attempt(sock=tcp),
                    await attempt(sock=datagrams),
                    await attempt(3),
                    await attempt(str(where)),
                    await attempt(str(where / "file")),
                    await attempt(str(where / "no directory" / "s")),
                    await attempt("a" * 200),
                    await attempt(taken),
                ]

        with directory() as where:
            fds = open_fds()
            outcomes: list[Any] = drive(loop_factory, main)
            assert open_fds() == fds
        return outcomes

    outcomes = same_as_asyncio(scenario)
    assert outcomes[0][0] == "ValueError"
    assert all(kind != "served" for kind, *_ in outcomes)
