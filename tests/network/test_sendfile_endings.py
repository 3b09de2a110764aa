"""sendfile that does not go to its end, and what may happen to the connection meanwhile."""

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from network.peers import Background, close_with_reset, receive_all, receive_exactly, tcp_pair
from network.recorders import Recorder, drive, settle
from network.sendfile_ways import BYTES, DIRECT_WAYS, by_socket, by_tls, by_transport
from support.marks import ringloop_only


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with BYTES in it."""
    path = tmp_path_factory.mktemp("sendfile") / "file"
    path.write_bytes(BYTES)
    return path


async def stuck(line: Any, file: Any) -> "asyncio.Task[int]":
    """A sendfile that has filled the socket, whose peer reads nothing."""
    task: asyncio.Task[int] = asyncio.ensure_future(line.send(file))
    await settle()
    assert not task.done()
    return task


async def send_until_it_fails(line: Any, file: Any) -> None:
    while True:
        await line.send(file)


def test_nothing_can_be_written_meanwhile(same_as_asyncio: Any, path: Path) -> None:
    async def main() -> list[str]:
        refused = []
        async with by_transport() as line:
            with path.open("rb") as file:
                sending = await stuck(line, file)
                for write in (line.transport.write, line.transport.writelines):
                    with pytest.raises(RuntimeError) as raised:
                        write([b"x"] if write == line.transport.writelines else b"x")
                    refused.append(str(raised.value))
                receiving = Background(receive_all, line.peer)
                assert await sending == len(BYTES)
                line.transport.write(b"afterwards")
                line.end()
                assert await asyncio.to_thread(receiving.finish) == BYTES + b"afterwards"
        return refused

    same_as_asyncio(lambda loop_factory: drive(loop_factory, main))


async def test_what_was_written_before_goes_first(path: Path) -> None:
    async with by_transport() as line:
        line.transport.write(BYTES)
        receiving = Background(receive_exactly, line.peer, 2 * len(BYTES))
        with path.open("rb") as file:
            assert await line.send(file) == len(BYTES)
        assert await asyncio.to_thread(receiving.finish) == BYTES * 2


@pytest.mark.parametrize("way", [by_transport, by_tls])
async def test_what_comes_meanwhile_is_delivered_afterwards(path: Path, way: Any) -> None:
    recorder = Recorder()
    async with way(protocol=recorder) as line:
        with path.open("rb") as file:
            sending = await stuck(line, file)
            line.peer.sendall(b"hello")
            await settle()
            assert recorder.received == b""
            assert await asyncio.to_thread(receive_exactly, line.peer, len(BYTES)) == BYTES
            assert await sending == len(BYTES)
        await recorder.until_received(5)
        assert recorder.received == b"hello"


@ringloop_only
@pytest.mark.parametrize("way", DIRECT_WAYS)
async def test_cancelled_it_tells_exactly_what_was_sent(path: Path, way: Any) -> None:
    """asyncio leaves the position, mostly: it says that it does not."""
    async with way() as line:
        with path.open("rb") as file:
            sending = await stuck(line, file)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            position = file.tell()
        assert 0 < position < len(BYTES)
        receiving = Background(receive_all, line.peer)
        line.end()
        assert await asyncio.to_thread(receiving.finish) == BYTES[:position]


@ringloop_only
async def test_after_a_cancel_the_transport_works(path: Path) -> None:
    """Also if it was cancelled while what was written before had not gone."""
    recorder = Recorder()
    async with by_transport(protocol=recorder) as line:
        line.transport.write(BYTES)
        with path.open("rb") as file:
            sending = await stuck(line, file)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert file.tell() == 0
        line.transport.write(b"afterwards")
        line.peer.sendall(b"hello")
        expected = BYTES + b"afterwards"
        assert await asyncio.to_thread(receive_exactly, line.peer, len(expected)) == expected
        await recorder.until_received(5)


@pytest.mark.parametrize("way", DIRECT_WAYS)
async def test_the_peer_resets_the_connection(path: Path, way: Any) -> None:
    async with way(tcp_pair) as line:
        with path.open("rb") as file:
            close_with_reset(line.peer)
            with pytest.raises(ConnectionError):
                await send_until_it_fails(line, file)


@ringloop_only
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_the_transport_is_closed(path: Path, how: str) -> None:
    """asyncio's waits for ever then."""
    recorder = Recorder()
    async with by_transport(protocol=recorder) as line:
        with path.open("rb") as file:
            sending = await stuck(line, file)
            getattr(line.transport, how)()
            with pytest.raises(ConnectionError, match="Connection is closed by peer"):
                await sending
            position = file.tell()
        await recorder.until("connection_lost")
        assert await asyncio.to_thread(receive_all, line.peer) == BYTES[:position]


@ringloop_only
async def test_a_second_one_at_the_same_time_is_refused(path: Path) -> None:
    async with by_transport() as line:
        with path.open("rb") as file, path.open("rb") as other:
            sending = await stuck(line, file)
            with pytest.raises(RuntimeError, match="Empty waiter is already set"):
                await line.send(other)
            assert await asyncio.to_thread(receive_exactly, line.peer, len(BYTES)) == BYTES
            assert await sending == len(BYTES)


@ringloop_only
async def test_a_socket_closed_meanwhile_is_sent_to_until_the_end(path: Path) -> None:
    """As with all calls on sockets of the caller."""
    loop = asyncio.get_running_loop()
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    with ours, peer, path.open("rb") as file:
        sending = loop.create_task(loop.sock_sendfile(ours, file))
        await settle()
        ours.close()
        assert await asyncio.to_thread(receive_all, peer) == BYTES
        assert await sending == len(BYTES)


async def test_a_file_cut_meanwhile_ends_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BYTES)
    async with by_socket() as line:
        with path.open("rb") as file:
            sending = await stuck(line, file)
            os.truncate(path, 1)
            receiving = Background(receive_all, line.peer)
            sent = await sending
            line.end()
            received = await asyncio.to_thread(receiving.finish)
            assert 0 < sent == len(received) < len(BYTES)
