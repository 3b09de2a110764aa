"""sendfile that does not go to its end, and what may happen to the connection meanwhile."""

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from network.peers import Background, close_with_reset, receive_all, receive_exactly, tcp_pair
from network.recorders import Recorder, drive, settle
from network.sendfile_ways import BYTES, DIRECT_WAYS, by_socket, by_tls, by_transport
from ringloop import _file_writing
from support.leaks import open_fds


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with BYTES in it."""
    path = tmp_path_factory.mktemp("sendfile") / "file"
    path.write_bytes(BYTES)
    return path


async def stuck(line: Any, file: Any) -> "asyncio.Task[int]":
    """A sendfile that has sent something, and waits for the peer, who reads nothing."""
    loop = asyncio.get_running_loop()
    arrived = loop.create_future()
    task: asyncio.Task[int] = asyncio.ensure_future(line.send(file))
    loop.add_reader(line.peer.fileno(), lambda: arrived.done() or arrived.set_result(None))
    await arrived
    loop.remove_reader(line.peer.fileno())
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


@pytest.mark.beyond_asyncio("it leaves the position, mostly")
@pytest.mark.parametrize("way", DIRECT_WAYS)
async def test_cancelled_it_tells_exactly_what_was_sent(path: Path, way: Any) -> None:
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


@pytest.mark.beyond_asyncio("it refuses to write for ever after")
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


@pytest.mark.beyond_asyncio("it waits forever")
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_the_transport_is_closed(path: Path, how: str) -> None:
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


@pytest.mark.beyond_asyncio("it raises KeyError")
async def test_a_second_one_at_the_same_time_is_refused(path: Path) -> None:
    async with by_transport() as line:
        with path.open("rb") as file, path.open("rb") as other:
            sending = await stuck(line, file)
            with pytest.raises(RuntimeError, match="Empty waiter is already set"):
                await line.send(other)
            assert await asyncio.to_thread(receive_exactly, line.peer, len(BYTES)) == BYTES
            assert await sending == len(BYTES)


@pytest.mark.beyond_asyncio("it waits forever")
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


@pytest.mark.parametrize("way", [by_socket, by_transport, by_tls])
def test_the_peer_goes_in_the_middle(same_as_asyncio: Any, path: Path, way: Any) -> None:
    async def main() -> Any:
        recorder = Recorder()
        options = {} if way is by_socket else {"protocol": recorder}
        async with way(**options) as line:
            with path.open("rb") as file:
                sending = await stuck(line, file)
                line.peer.close()
                with pytest.raises(ConnectionError) as raised:
                    await sending
                if line.transport is not None:
                    await recorder.until("connection_lost")
                # What a transport was told of it depends on whether it was receiving or sending, and over TLS
                # also what is raised.
                assert line.transport is None or isinstance(recorder.error, ConnectionError)
                error = ConnectionError if way is by_tls else raised.type
                return error, recorder.names, line.transport is None or line.transport.is_closing()

    same_as_asyncio(lambda loop_factory: drive(loop_factory, main))


def test_the_file_stands_behind_a_first_block_that_failed(same_as_asyncio: Any, tmp_path: Path) -> None:
    def refuse(*args: Any) -> None:
        raise asyncio.SendfileNotAvailableError

    async def main() -> Any:
        loop: Any = asyncio.get_running_loop()
        loop._sock_sendfile_native = refuse
        ours, peer = socket.socketpair()
        peer.close()
        with ours, path.open("rb") as file:
            ours.setblocking(False)
            with pytest.raises(BrokenPipeError):
                await loop.sock_sendfile(ours, file, 2)
            return file.tell()

    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert same_as_asyncio(lambda loop_factory: drive(loop_factory, main)) == 7


async def test_a_connection_that_is_lost_as_the_call_ends_is_told_of() -> None:
    """The transport had the call of connection_lost under way when it got its own protocol back."""
    recorder = Recorder()
    async with by_transport(protocol=recorder) as line:
        stand_in = _file_writing._FallbackProtocol(line.transport)
        stand_in.pause_writing()
        await stand_in.restore()
        stand_in.connection_lost(BrokenPipeError())
        assert recorder.names == ["connection_made", "connection_lost"]
        recorder.events.pop()


def test_after_write_eof(same_as_asyncio: Any, path: Path) -> None:
    async def main() -> Any:
        async with by_transport() as line:
            line.transport.write_eof()
            with path.open("rb") as file:
                with pytest.raises(RuntimeError) as raised:
                    await line.send(file)
                return str(raised.value)

    same_as_asyncio(lambda loop_factory: drive(loop_factory, main))


@pytest.mark.parametrize("way", [by_transport, by_tls])
def test_a_transport_that_is_closed_before(same_as_asyncio: Any, path: Path, way: Any) -> None:
    async def main() -> Any:
        recorder = Recorder()
        refused = []
        async with way(protocol=recorder) as line:
            with path.open("rb") as file:
                for end in (line.transport.close, line.transport.abort):
                    end()
                    with pytest.raises(RuntimeError) as raised:
                        await line.send(file)
                    refused.append(str(raised.value))
                await recorder.until("connection_lost")
                with pytest.raises(RuntimeError) as raised:
                    await line.send(file)
                refused.append(str(raised.value))
        return refused

    assert same_as_asyncio(lambda loop_factory: drive(loop_factory, main)) == ["Transport is closing"] * 3


async def test_flow_control_goes_on_afterwards(path: Path) -> None:
    """A protocol that was paused before is resumed, and is paused again."""
    recorder = Recorder()
    async with by_transport(protocol=recorder) as line:
        for count in (1, 2):
            line.transport.write(BYTES)
            await recorder.until(lambda count=count: recorder.names.count("pause_writing") == count)
            receiving = Background(receive_exactly, line.peer, len(BYTES))
            await recorder.until(lambda count=count: recorder.names.count("resume_writing") == count)
            assert await asyncio.to_thread(receiving.finish) == BYTES
            if count == 1:
                receiving = Background(receive_exactly, line.peer, len(BYTES))
                with path.open("rb") as file:
                    assert await line.send(file) == len(BYTES)
                assert await asyncio.to_thread(receiving.finish) == BYTES
    assert recorder.names[:5] == ["connection_made", *["pause_writing", "resume_writing"] * 2]


@pytest.mark.beyond_asyncio("it leaves the socket to its callback")
def test_a_loop_closed_meanwhile(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    """Its call never ends, and nothing of it stays open."""

    async def begin() -> Any:
        line = await stack.enter_async_context(by_socket())
        task = await stuck(line, file)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        return line, task

    before = open_fds()
    stack = contextlib.AsyncExitStack()
    with path.open("rb") as file:
        line, task = loop.run_until_complete(begin())
        loop.close()
        assert not task.done()
        line.sock.close()
        line.peer.close()
        del task
    assert open_fds().items() <= before.items()
