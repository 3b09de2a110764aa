"""create_unix_connection, open_unix_connection and what a Unix transport gives of its socket."""

import array
import asyncio
import os
import socket
import ssl
import struct
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from network.peers import Background, receive_all, receive_exactly, unix_pair, without_class
from network.recorders import AnyRecorder, Recorder, drive, settle, until_closed
from network.unix_peers import abstract_name, directory, unix_client, unix_listener
from support.compare import normalised
from support.leaks import open_fds
from support.waiting import until_asleep

BIG = bytes(range(256)) * (4 * 1024)  # 1 MiB


@pytest.fixture
def path() -> Iterator[Path]:
    """A path where no file is yet."""
    with directory() as where:
        yield where / "s"


def as_is(path: Path) -> Any:
    return path


KINDS_OF_PATH: list[Callable[[Path], Any]] = [as_is, str, bytes]


@pytest.mark.parametrize("form", KINDS_OF_PATH, ids=["PathLike", "str", "bytes"])
async def test_connects_to_a_path(path: Path, form: Callable[[Path], Any], kind: type[AnyRecorder]) -> None:
    loop = asyncio.get_running_loop()
    with unix_listener(str(path)) as server:
        protocol = kind()
        transport, made = await loop.create_unix_connection(lambda: protocol, form(path))
        assert made is protocol
        assert protocol.names == ["connection_made"]
        peer, _ = server.accept()
        with peer:
            transport.write(BIG)
            sent = Background(receive_exactly, peer, len(BIG))
            assert await asyncio.to_thread(sent.finish) == BIG
            peer.sendall(b"answer")
            await protocol.until_received(6)
        await protocol.until("connection_lost")
        assert protocol.received == b"answer"


@pytest.mark.parametrize("form", [str, os.fsencode], ids=["str", "bytes"])
async def test_connects_to_an_abstract_name(form: Callable[[str], Any]) -> None:
    name = abstract_name()
    with unix_listener(name) as server:
        transport, _ = await asyncio.get_running_loop().create_unix_connection(Recorder, form(name))
        assert transport.get_extra_info("peername") == os.fsencode(name)
        sock = transport.get_extra_info("socket")
        peer, _ = server.accept()
        with peer:
            transport.write(b"hello")
            transport.close()
            assert await asyncio.to_thread(receive_all, peer) == b"hello"
        await until_closed(sock)


async def test_takes_a_connected_socket() -> None:
    ours, peer = unix_pair()
    with peer:
        transport, protocol = await asyncio.get_running_loop().create_unix_connection(Recorder, sock=ours)
        assert transport.get_extra_info("socket").fileno() == ours.fileno()
        assert ours.gettimeout() == 0
        peer.sendall(b"hello")
        await protocol.until_received(5)
        transport.close()
        await until_closed(ours)


async def test_extra_info(path: Path) -> None:
    with unix_listener(str(path)) as server:
        transport, protocol = await asyncio.get_running_loop().create_unix_connection(Recorder, path)
        peer, _ = server.accept()
        with peer:
            sock = transport.get_extra_info("socket")
            assert isinstance(sock, TransportSocket)
            assert (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_STREAM)
            assert transport.get_extra_info("sockname") == ""
            assert transport.get_extra_info("peername") == str(path)
            assert transport.get_extra_info("sslcontext") is None
        await protocol.until("connection_lost")


async def test_peer_credentials(path: Path) -> None:
    """Of the process at the other end, as the kernel knows it."""
    with unix_listener(str(path)) as server:
        transport, protocol = await asyncio.get_running_loop().create_unix_connection(Recorder, path)
        peer, _ = server.accept()
        with peer:
            raw = transport.get_extra_info("socket").getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
            )
            assert struct.unpack("3i", raw) == (os.getpid(), os.getuid(), os.getgid())
        await protocol.until("connection_lost")


async def test_an_fd_is_passed_beside_the_transport() -> None:
    """By the fd of the socket that get_extra_info gives, from which the loop has not taken the byte."""
    ours, peer = unix_pair()
    with peer:
        transport, _ = await asyncio.get_running_loop().create_unix_connection(Recorder, sock=ours)
        transport.pause_reading()
        fd = transport.get_extra_info("socket").fileno()
        with socket.socket(fileno=os.dup(fd)) as own, open(__file__, "rb") as file:
            socket.send_fds(own, [b"x"], [file.fileno()])
            _, fds, *_ = socket.recv_fds(peer, 1, 1)
            assert os.fstat(fds[0]).st_ino == os.fstat(file.fileno()).st_ino
            await settle()  # the kernel has let go of what the transport received by
            peer.sendmsg([b"y"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
            os.close(fds[0])
            data, fds, *_ = socket.recv_fds(own, 1, 1)
            assert data == b"y"
            assert os.fstat(fds[0]).st_ino == os.fstat(file.fileno()).st_ino
            os.close(fds[0])
        transport.close()
        await until_closed(ours)


async def test_streams_over_a_path(path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_unix_server(echo, path)
    async with server:
        reader, writer = await asyncio.open_unix_connection(path)
        for number in range(100):
            writer.write(b"line %d\n" % number)
            assert await reader.readline() == b"LINE %d\n" % number
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


def test_errors_are_asyncios(same_as_asyncio: Any) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def scenario(loop_factory: Any) -> list[Any]:
        async def attempt(*args: Any, **keywords: Any) -> tuple[Any, ...]:
            try:
                await asyncio.get_running_loop().create_unix_connection(Recorder, *args, **keywords)
            except Exception as error:
                text = without_class(normalised(str(error)))
                return type(error).__name__, getattr(error, "errno", None), text.replace("fd=", "")[:60]
            return ("connected",)

        async def main() -> list[Any]:
            with (
                directory() as where,
                socket.socket() as tcp,
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
                socket.socket(socket.AF_UNIX) as stale,
            ):
                (where / "file").touch()
                stale.bind(str(where / "stale"))
                return [
                    await attempt(),
                    await attempt("nowhere", sock=datagrams),
                    await attempt("nowhere", server_hostname="localhost"),
                    await attempt("nowhere", ssl=tls),
                    await attempt("nowhere", ssl_handshake_timeout=1.0),
                    await attempt("nowhere", ssl_shutdown_timeout=1.0),
                    await attempt("nowhere", server_hostname=b"localhost"),
                    await attempt("nowhere", no_such_keyword=1),
                    await attempt(sock=tcp),
                    await attempt(sock=datagrams),
                    await attempt(3),
                    await attempt(str(where / "nothing")),
                    await attempt(str(where / "file")),
                    await attempt(str(where / "stale")),
                    await attempt(where),
                    await attempt("a" * 200),
                    await attempt("with\0zero"),
                    await attempt(abstract_name()),
                ]

        fds = open_fds()
        outcomes: list[Any] = drive(loop_factory, main)
        assert open_fds() == fds
        return outcomes

    outcomes = same_as_asyncio(scenario)
    assert {kind for kind, *_ in outcomes} >= {"ValueError", "TypeError", "FileNotFoundError", "OSError"}
    assert ("connected",) not in outcomes


@pytest.mark.beyond_asyncio("it leaves the socket to the garbage collector", before=(3, 14))
async def test_a_factory_that_raises_leaves_no_socket(path: Path) -> None:
    def no_protocol() -> asyncio.BaseProtocol:
        raise LookupError

    with unix_listener(str(path)) as server:
        fds = open_fds()
        with pytest.raises(LookupError):
            await asyncio.get_running_loop().create_unix_connection(no_protocol, path)
        assert open_fds() == fds
        peer, _ = server.accept()
        with peer:
            assert receive_all(peer) == b""


@pytest.mark.beyond_asyncio("it takes a full backlog for a connection that stands")
async def test_a_full_backlog_is_waited_for(path: Path) -> None:
    loop = asyncio.get_running_loop()
    with unix_listener(str(path), backlog=0) as server, unix_client(str(path)):
        connecting = loop.create_task(loop.create_unix_connection(Recorder, path))
        await until_asleep()
        assert not connecting.done()
        server.accept()[0].close()
        transport, protocol = await connecting
        peer, _ = server.accept()
        with peer:
            assert transport.get_extra_info("socket").gettimeout() == 0
            transport.write(b"hello")
            assert await asyncio.to_thread(receive_exactly, peer, 5) == b"hello"
        await protocol.until("connection_lost")


@pytest.mark.beyond_asyncio("it takes a full backlog for a connection that stands")
async def test_the_wait_for_a_full_backlog_can_be_cancelled(path: Path) -> None:
    loop = asyncio.get_running_loop()
    with unix_listener(str(path), backlog=0) as server, unix_client(str(path)):
        fds: dict[int, str] = {}
        for last in (False, True):  # the first wait may open what workers report by
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await loop.create_unix_connection(Recorder, path)
            assert not last or open_fds() == fds
            fds = open_fds()
        server.accept()[0].close()
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.beyond_asyncio("it takes a full backlog for a connection that stands")
async def test_a_full_backlog_that_goes_away_is_refused(path: Path) -> None:
    loop = asyncio.get_running_loop()
    with unix_listener(str(path), backlog=0) as server, unix_client(str(path)):
        connecting = loop.create_task(loop.create_unix_connection(Recorder, path))
        await until_asleep()
        server.close()
        with pytest.raises(ConnectionRefusedError):
            await connecting
