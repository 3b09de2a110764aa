"""sendfile and sock_sendfile: what arrives, what they return, and where the file stands afterwards."""

import asyncio
import contextlib
import ctypes
import inspect
import io
import mmap
import os
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ringloop
import ringloop.aiofiles
from network.peers import Background, receive_all, receive_exactly, tcp_pair, unix_pair
from network.recorders import Recorder, drive
from network.sendfile_ways import BYTES, DIRECT_WAYS, WAYS, by_socket, by_tls, by_transport
from support.compare import normalised
from support.loops import ORACLE
from support.waiting import until_asleep

UNIX_LOOP: Any = asyncio.SelectorEventLoop
MIB = 1024 * 1024
ONLY_HERE = pytest.mark.beyond_asyncio("it has no workers and no turns")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with BYTES in it."""
    path = tmp_path_factory.mktemp("sendfile") / "file"
    path.write_bytes(BYTES)
    return path


class Halves(io.BufferedReader):
    """Reads fewer bytes than it is asked for."""

    def readinto(self, buffer: Any) -> int:
        return super().readinto(memoryview(buffer)[: max(1, len(buffer) // 2)])


def partly_read(path: Path) -> Any:
    file = path.open("rb")
    file.read(7)
    return file


def temporary(path: Path) -> Any:
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115
    file.write(path.read_bytes())
    file.seek(0)
    return file


KINDS: dict[str, Callable[[Path], Any]] = {
    "buffered": lambda path: path.open("rb"),
    "unbuffered": lambda path: path.open("rb", buffering=0),
    "partly-read": partly_read,
    "update": lambda path: path.open("r+b"),
    "bytes-io": lambda path: io.BytesIO(path.read_bytes()),
    "temporary": temporary,
    "own-class": lambda path: Halves(io.FileIO(path)),
}
PARTS: list[tuple[Any, ...]] = [
    (),
    (0, 1),
    (0, 300_000),
    (5,),
    (5, 10),
    (4097, 1_100_000),
    (len(BYTES) - 1, 5),
    (len(BYTES),),
    (len(BYTES) + 5, 10),
    (0, len(BYTES) + 1),
]
WRONG: list[tuple[Any, ...]] = [(-1,), ("0",), (0, 0), (0, -1), (0, "1"), (0.0,), (None,)]
TOO_LARGE: list[tuple[Any, ...]] = [(2**63,), (2**63 - 1, 10)]


def sending(way: Any, open_file: Callable[[], Any], *arguments: Any, **keywords: Any) -> Any:
    """A scenario: the result or error, the bytes that arrived, and where the file stands."""

    async def main() -> Any:
        result: Any
        async with way() as line:
            with open_file() as file:
                receiving = Background(receive_all, line.peer)
                try:
                    result = await line.send(file, *arguments, **keywords)
                except Exception as error:
                    # What the messages say of the objects is theirs.
                    result = type(error).__name__, normalised(str(error)).partition("<")[0]
                position = file.tell()
                line.end()
                return result, await asyncio.to_thread(receiving.finish), position

    return lambda loop_factory: drive(loop_factory, main)


@pytest.mark.parametrize("part", PARTS, ids=str)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["buffered", "unbuffered"])
def test_the_part_asked_for_arrives(same_as_asyncio: Any, path: Path, kind: str, way: Any, part: Any) -> None:
    result, received, position = same_as_asyncio(sending(way, lambda: KINDS[kind](path), *part))
    offset, count = (*part, None)[:2] if part else (0, None)
    assert received == (BYTES[offset:] if count is None else BYTES[offset : offset + count])
    assert result == len(received)
    assert not received or position == offset + result


@pytest.mark.parametrize("part", [(), (0, 10), (5,), (5, 1_000_000)], ids=str)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", list(KINDS)[2:])
def test_all_kinds_of_files(
    same_as_asyncio: Any, loop_name: str, path: Path, kind: str, way: Any, part: Any
) -> None:
    arrived = []

    def scenario(loop_factory: Any) -> Any:
        result, received, position = sending(way, lambda: KINDS[kind](path), *part)(loop_factory)
        arrived.append(received)
        return result, len(received), position

    same_as_asyncio(scenario)
    # Before 3.14, asyncio reads into what its transport has not sent yet (since 3.12 it keeps no copy).
    if loop_name != ORACLE:
        assert arrived[-1] in BYTES


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_without_fallback(same_as_asyncio: Any, path: Path, kind: str, way: Any) -> None:
    result, *_ = same_as_asyncio(sending(way, lambda: KINDS[kind](path), 3, 100, fallback=False))
    if way is by_tls:
        assert result[0] == "RuntimeError"
    elif kind == "bytes-io":
        assert result[0] == "SendfileNotAvailableError"
    else:
        assert result == 100


@pytest.mark.parametrize("arguments", WRONG, ids=repr)
@pytest.mark.parametrize("way", DIRECT_WAYS)
def test_arguments_are_checked(same_as_asyncio: Any, path: Path, way: Any, arguments: Any) -> None:
    result, received, position = same_as_asyncio(sending(way, lambda: path.open("rb"), *arguments))
    assert result[0] in ("TypeError", "ValueError")
    assert (received, position) == (b"", 0)


@pytest.mark.parametrize("arguments", TOO_LARGE, ids=repr)
@pytest.mark.parametrize("way", DIRECT_WAYS)
def test_numbers_that_are_too_large(same_as_asyncio: Any, path: Path, way: Any, arguments: Any) -> None:
    """The message is that of whoever converts them."""

    def scenario(loop_factory: Any) -> Any:
        result, *others = sending(way, lambda: path.open("rb"), *arguments)(loop_factory)
        return result[0], *others

    error, received, position = same_as_asyncio(scenario)
    assert (error, received, position) == ("OverflowError", b"", 0) or arguments[0] == 2**63 - 1


@pytest.mark.beyond_asyncio("it asks the kernel for that many", before=(3, 13))
@pytest.mark.parametrize("way", DIRECT_WAYS)
async def test_a_count_beyond_all_files(path: Path, way: Any) -> None:
    async with way() as line:
        receiving = Background(receive_exactly, line.peer, len(BYTES))
        with path.open("rb") as file:
            assert await line.send(file, 0, 2**64) == len(BYTES)
        assert await asyncio.to_thread(receiving.finish) == BYTES


@pytest.mark.parametrize("way", DIRECT_WAYS)
def test_a_text_file_is_refused(same_as_asyncio: Any, path: Path, way: Any) -> None:
    same_as_asyncio(sending(way, lambda: path.open(encoding="latin-1")))


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_file(same_as_asyncio: Any, tmp_path: Path, way: Any) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for arguments in ((), (0, 10), (10,)):
        result, received, _ = same_as_asyncio(sending(way, lambda: empty.open("rb"), *arguments))
        assert (result, received) == (0, b"")


@pytest.mark.beyond_asyncio("it moves the pipe, which is an error", since=(3, 14))
@pytest.mark.parametrize("way", DIRECT_WAYS)
async def test_a_file_that_sendfile_refuses_is_read(way: Any) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    os.close(writing)
    async with way() as line:
        with FromPipe(reading, "rb") as pipe:
            assert await line.send(pipe, 0, 100) == 14
        assert receive_exactly(line.peer, 14) == b"through a pipe"


class FromPipe(io.FileIO):
    """Without a position, and so without `seek` for those who look for one."""

    seek = property()  # type: ignore[assignment]

    def tell(self) -> int:
        return -1


async def test_sockets_that_will_not_do() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as sock, open(os.devnull, "rb") as file:
        sock.setblocking(False)
        with pytest.raises(ValueError, match="only SOCK_STREAM type sockets are supported"):
            await loop.sock_sendfile(sock, file)
        loop.set_debug(True)
        sock.setblocking(True)
        with pytest.raises(ValueError, match="the socket must be non-blocking"):
            await loop.sock_sendfile(sock, file)


async def test_transports_that_will_not_do() -> None:
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    with open(reading, "rb") as reader, open(writing, "wb") as writer, open(os.devnull, "rb") as file:
        transport, protocol = await loop.connect_write_pipe(lambda: Recorder(), writer)
        with pytest.raises(RuntimeError, match="sendfile is not supported for transport"):
            await loop.sendfile(transport, file)
        transport.close()
        with pytest.raises(RuntimeError, match="Transport is closing"):
            await loop.sendfile(transport, file)
        await protocol.until("connection_lost")
        assert reader.read() == b""


async def test_a_socket_of_a_transport_is_refused(path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with by_transport() as line:
        sock = line.transport.get_extra_info("socket")
        with path.open("rb") as file, pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_sendfile(sock, file)


@pytest.mark.parametrize("way", DIRECT_WAYS)
@pytest.mark.parametrize("make_pair", [tcp_pair, unix_pair])
async def test_several_files_one_after_the_other(path: Path, way: Any, make_pair: Any) -> None:
    async with way(make_pair) as line:
        receiving = Background(receive_all, line.peer)
        with path.open("rb") as file:
            for _ in range(5):
                assert await line.send(file) == len(BYTES)
        line.end()
        assert await asyncio.to_thread(receiving.finish) == BYTES * 5


async def test_many_at_once_from_one_file(path: Path) -> None:
    async def send_one(file: Any) -> bytes:
        async with by_transport() as line:
            receiving = Background(receive_exactly, line.peer, len(BYTES))
            assert await line.send(file) == len(BYTES)
            received: bytes = await asyncio.to_thread(receiving.finish)
            return received

    with path.open("rb") as file:
        assert await asyncio.gather(*(send_one(file) for _ in range(8))) == [BYTES] * 8


def is_in_memory(fd: int) -> bool:
    """Whether all of the file is. Does not read any of it, as a read that may not wait would."""
    libc = ctypes.CDLL(None, use_errno=True)
    with mmap.mmap(fd, 0, mmap.MAP_PRIVATE) as pages:
        tells = bytearray((len(pages) + mmap.PAGESIZE - 1) // mmap.PAGESIZE)
        first = ctypes.c_char.from_buffer(pages)
        into = (ctypes.c_char * len(tells)).from_buffer(tells)
        result = libc.mincore(ctypes.byref(first), ctypes.c_size_t(len(pages)), into)
        assert result == 0, os.strerror(ctypes.get_errno())
        del first
    return all(tell & 1 for tell in tells)


@ONLY_HERE
async def test_what_is_in_memory_needs_no_worker_and_what_is_not_does(path: Path) -> None:
    loop: Any = asyncio.get_running_loop()

    async def send(file: Any) -> int:
        before = loop._counters()["works_completed"]
        assert await line.send(file) == len(BYTES)
        after: int = loop._counters()["works_completed"]
        return after - before

    async with by_socket() as line:
        with path.open("rb") as file:
            receiving = Background(receive_all, line.peer)
            file.read()
            while await send(file) > 0:  # until the loop has learnt of the mounts
                pass
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            # A file system in memory has it all the same.
            is_cold = not is_in_memory(file.fileno())
            assert (await send(file) > 0) == is_cold
        line.end()
        received = await asyncio.to_thread(receiving.finish)
        assert received == BYTES * (len(received) // len(BYTES))


@ONLY_HERE
async def test_others_get_their_turn(path: Path) -> None:
    """What is ready in every pass runs once for a few MiB, however many files are sent."""
    loop = asyncio.get_running_loop()
    passes = 0

    def count() -> None:
        nonlocal passes, handle
        passes += 1
        handle = loop.call_soon(count)

    async with contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(by_socket()) for _ in range(128)]
        files = [stack.enter_context(path.open("rb")) for _ in lines]
        await lines[0].send(files[0], 0, 1)  # the loop learns of the mounts
        await until_asleep()
        handle = loop.call_soon(count)
        sent = await asyncio.gather(
            *(line.send(file, 0, 65536) for line, file in zip(lines, files, strict=True))
        )
        handle.cancel()
        assert sent == [65536] * len(lines)
    assert passes >= 4  # two turns each, of 64 in a pass


@pytest.mark.beyond_asyncio("it blocks")
async def test_a_socket_that_blocks_does_not_block_the_loop(path: Path) -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(False)
    ours, peer = unix_pair()
    ours.setblocking(True)
    with ours, peer, path.open("rb") as file:
        sending = loop.create_task(loop.sock_sendfile(ours, file))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(receive_exactly, peer, len(BYTES)) == BYTES
        assert await sending == len(BYTES)


@pytest.mark.parametrize("way", WAYS)
async def test_beyond_four_gib(tmp_path: Path, way: Any) -> None:
    """A hole up to where it is sent from."""
    begin = 4 * 1024 * MIB - 100
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.seek(begin)
        file.write(BYTES)
    async with way() as line:
        receiving = Background(receive_exactly, line.peer, len(BYTES))
        with path.open("rb") as file:
            assert await line.send(file, begin) == len(BYTES)
            assert file.tell() == begin + len(BYTES)
        assert await asyncio.to_thread(receiving.finish) == BYTES


@pytest.mark.parametrize("way", DIRECT_WAYS)
async def test_a_hole(tmp_path: Path, way: Any) -> None:
    path = tmp_path / "hole"
    path.touch()
    os.truncate(path, 5 * MIB + 1)
    async with way() as line:
        receiving = Background(receive_all, line.peer)
        with path.open("rb") as file:
            assert await line.send(file) == 5 * MIB + 1
        line.end()
        assert await asyncio.to_thread(receiving.finish) == bytes(5 * MIB + 1)


OPENED_BY_RINGLOOP: dict[str, Callable[[Path], Any]] = {
    "buffered": lambda path: ringloop.open(path, "rb"),
    "unbuffered": lambda path: ringloop.open(path, "rb", buffering=0),
    "update": lambda path: ringloop.open(path, "r+b"),
    "path": lambda path: ringloop.Path(path).open("rb"),
    "aiofiles": lambda path: ringloop.aiofiles.open(path, "rb"),
}


# Before Python 3.14 and some patches of earlier ones it takes the offset 0 for none.
OLD_FALLBACK = len(inspect.signature(UNIX_LOOP._sock_sendfile_update_filepos).parameters) == 4
READ_AHEAD = pytest.mark.beyond_asyncio("what was read ahead counts in tell()")
NO_COROUTINES = pytest.mark.beyond_asyncio("it calls readinto(), which is a coroutine function here")


@pytest.mark.parametrize(
    ("way", "read_bytes"),
    [
        *((way, 0) for way in DIRECT_WAYS),
        *(pytest.param(way, 7, marks=READ_AHEAD) for way in DIRECT_WAYS),
        *(pytest.param(by_tls, count, marks=NO_COROUTINES) for count in (0, 7)),
    ],
)
@pytest.mark.parametrize("kind", OPENED_BY_RINGLOOP)
async def test_files_of_ringloop(path: Path, kind: str, way: Any, read_bytes: int) -> None:
    async with OPENED_BY_RINGLOOP[kind](path) as file:
        for arguments, expected in (((), BYTES), ((5, 300_000), BYTES[5:300_005])):
            async with way() as line:
                receiving = Background(receive_all, line.peer)
                assert len(await file.read(read_bytes)) == read_bytes
                if way is by_tls and not arguments and OLD_FALLBACK:
                    # From where it stands, as asyncio's files.
                    expected = expected[read_bytes:]
                assert await line.send(file, *arguments) == len(expected)
                line.end()
                assert await asyncio.to_thread(receiving.finish) == expected
                assert await file.tell() == (arguments[0] if arguments else 0) + len(expected)
            await file.seek(0)


@pytest.mark.parametrize("way", DIRECT_WAYS)
async def test_a_text_file_of_ringloop_is_refused(path: Path, way: Any) -> None:
    async with way() as line, ringloop.open(path, encoding="latin-1") as file:
        with pytest.raises(ValueError, match="file should be opened in binary mode"):
            await line.send(file)


@NO_COROUTINES
async def test_over_tls_what_comes_through_a_fifo_of_ringloop(tmp_path: Path) -> None:
    """The file cannot be set behind what was sent, which is told as by asyncio of its own."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for buffering in (0, -1):
        async with by_tls() as line:
            with fifo.open("rb+", buffering=0) as feed:
                async with ringloop.open(fifo, "rb", buffering=buffering) as file:
                    feed.write(b"through the FIFO")
                    with pytest.raises((OSError, io.UnsupportedOperation), match=r"[sS]eek"):
                        await line.send(file, 0, 16)
                    if OLD_FALLBACK:
                        receiving = Background(receive_exactly, line.peer, 16)
                        assert await asyncio.to_thread(receiving.finish) == b"through the FIFO"


@NO_COROUTINES
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((-1,), OSError), ((0.5,), TypeError), (("0",), TypeError), ((0, 0), ValueError), ((5, -3), ValueError)],
)
async def test_over_tls_wrong_arguments_for_files_of_ringloop(
    path: Path, arguments: tuple[Any, ...], expected: Any
) -> None:
    """Without a coroutine that nobody awaits."""
    async with by_tls() as line, ringloop.open(path, "rb") as file:
        with contextlib.suppress(expected):
            assert await line.send(file, *arguments) == 0


@NO_COROUTINES
async def test_over_tls_files_of_ringloop_that_will_not_do(path: Path, tmp_path: Path) -> None:
    async with by_tls() as line:
        async with ringloop.open(path, encoding="latin-1") as file:
            with pytest.raises(AttributeError, match="readinto"):
                await line.send(file, 5)
        async with ringloop.open(tmp_path / "new", "wb") as file:
            with pytest.raises(io.UnsupportedOperation):
                await line.send(file)


@pytest.mark.beyond_asyncio("its files are read by threads")
async def test_over_tls_no_thread_is_started(path: Path) -> None:
    async with by_tls() as line:
        receiving = Background(receive_exactly, line.peer, len(BYTES))
        await asyncio.to_thread(receiving.name.strip)
        before = threading.enumerate()
        with path.open("rb") as file:
            sending = asyncio.ensure_future(line.send(file))
            while not sending.done():
                assert set(threading.enumerate()) <= set(before)
                await asyncio.sleep(0)
            assert await sending == len(BYTES)
        assert await asyncio.to_thread(receiving.finish) == BYTES
