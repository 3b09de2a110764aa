"""What may be written to a stream transport, when it is sent, and what write() says where it cannot be."""

import array
import asyncio
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from network.peers import bounded_pair, how_it_ends, receive_all, receive_exactly
from network.recorders import AnyRecorder, Recorder, connection, drive, settle
from support.compare import outcome

BIG = bytes(range(256)) * (4 * 1024)  # 1 MiB: more than the kernel's buffers of `bounded_pair` take

ACCEPTED: dict[str, Any] = {
    "bytes": b"\x01\x02\x03\x04",
    "bytearray": bytearray(b"\x01\x02\x03\x04"),
    "memoryview": memoryview(b"\x01\x02\x03\x04"),
    "memoryview of a part": memoryview(b"\x00\x01\x02\x03\x04\x05")[1:5],
    "memoryview of 32-bit numbers": memoryview(array.array("I", [0x04030201])),
    "memoryview of 16-bit numbers": memoryview(array.array("H", [0x0201, 0x0403])),
    "read-only memoryview": memoryview(bytearray(b"\x01\x02\x03\x04")).toreadonly(),
    "subclass of bytes": type("Sub", (bytes,), {})(b"\x01\x02\x03\x04"),
    "subclass of bytearray": type("Sub", (bytearray,), {})(b"\x01\x02\x03\x04"),
}
REFUSED: dict[str, Any] = {
    "str": "text", "None": None, "int": 5, "list": [1, 2], "array": array.array("B", [1]), "empty str": "",
}  # fmt: skip


@pytest.mark.parametrize("what", ACCEPTED)
async def test_write_takes_buffers_of_bytes(what: str) -> None:
    async with connection(Recorder()) as (transport, peer):
        transport.write(ACCEPTED[what])
        assert await asyncio.to_thread(receive_exactly, peer, 4) == b"\x01\x02\x03\x04"
        assert transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("what", ACCEPTED)
async def test_write_takes_buffers_of_bytes_behind_a_full_buffer(what: str) -> None:
    async with connection(Recorder(), bounded_pair) as (transport, peer):
        transport.write(BIG)
        transport.write(bytes(ACCEPTED[what]))
        transport.write(b"end")
        assert await asyncio.to_thread(receive_exactly, peer, len(BIG)) == BIG
        assert await asyncio.to_thread(receive_exactly, peer, 7) == b"\x01\x02\x03\x04end"


@pytest.mark.parametrize("what", REFUSED)
def test_write_refuses_other_types_in_asyncios_words(what: str, same_as_asyncio: Any) -> None:
    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            async with connection(Recorder()) as (transport, _):
                before = outcome(transport.write, REFUSED[what])
                usable = not transport.is_closing()
                transport.close()
                return before, usable, outcome(transport.write, REFUSED[what])

        return drive(loop_factory, main)

    before, usable, after = same_as_asyncio(scenario)
    assert before[:2] == after[:2] == ("raised", "TypeError")
    assert usable


async def test_empty_writes_do_nothing() -> None:
    protocol = Recorder()
    async with connection(protocol) as (transport, peer):
        for nothing in (b"", bytearray(), memoryview(b"")):
            transport.write(nothing)
        transport.writelines([])
        transport.writelines([b"", b""])
        assert transport.get_write_buffer_size() == 0
        transport.write(b"x")
        transport.close()
        assert await asyncio.to_thread(receive_all, peer) == b"x"


def lines(kind: str) -> Any:
    """The same bytes as different kinds of iterable."""
    pieces = [b"one ", bytearray(b"two "), memoryview(b"three "), b"", b"four"]

    def generated() -> Iterator[Any]:
        yield from pieces

    return {
        "list": pieces,
        "tuple": tuple(pieces),
        "generator": generated(),
        "dict": dict.fromkeys(map(bytes, pieces)),
    }[kind]


@pytest.mark.parametrize("kind", ["list", "tuple", "generator", "dict"])
async def test_writelines_takes_any_iterable_of_buffers(kind: str) -> None:
    async with connection(Recorder()) as (transport, peer):
        transport.writelines(lines(kind))
        transport.close()
        assert await asyncio.to_thread(receive_all, peer) == b"one two three four"


async def test_writelines_of_thousands_of_pieces_keeps_their_order() -> None:
    """More pieces than one sendmsg() takes (IOV_MAX is 1024)."""
    pieces = [b"%06d" % number for number in range(5000)]
    async with connection(Recorder(), bounded_pair) as (transport, peer):
        transport.writelines(pieces)
        transport.write(BIG)
        transport.writelines(pieces)
        transport.close()
        assert await asyncio.to_thread(receive_all, peer) == b"".join(pieces) + BIG + b"".join(pieces)


@pytest.mark.parametrize("argument", [["text"], [b"bytes", "text"], 5, None, [None]], ids=repr)
def test_writelines_refuses_other_types_in_asyncios_words(argument: Any, same_as_asyncio: Any) -> None:
    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            async with connection(Recorder()) as (transport, _):
                return outcome(transport.writelines, argument)

        return drive(loop_factory, main)

    same_as_asyncio(scenario)


async def test_writes_keep_their_order_whatever_is_buffered() -> None:
    pieces = [b"%d " % number * (1 + number * 37 % 5000) for number in range(400)]
    async with connection(Recorder(), bounded_pair) as (transport, peer):
        for number, piece in enumerate(pieces):
            if number % 3:
                transport.write(piece)
            else:
                transport.writelines([piece[:7], piece[7:]])
        transport.close()
        assert await asyncio.to_thread(receive_all, peer) == b"".join(pieces)


@pytest.mark.beyond_asyncio("from 3.12 on asyncio keeps a view of the caller's bytearray", since=(3, 12))
@pytest.mark.parametrize("view", [bytearray, memoryview])
async def test_a_change_of_the_buffer_after_write_is_not_seen_on_the_wire(view: Any) -> None:
    mutable = bytearray(BIG)
    async with connection(Recorder(), bounded_pair) as (transport, peer):
        transport.write(mutable if view is bytearray else memoryview(mutable))
        assert transport.get_write_buffer_size() > 0
        mutable[:] = bytes(len(mutable))
        small = bytearray(b"tail")
        transport.write(small)
        small[:] = b"----"
        transport.close()
        assert await asyncio.to_thread(receive_all, peer) == BIG + b"tail"


@pytest.mark.beyond_asyncio("from 3.12 on asyncio keeps a view of the caller's bytearray", since=(3, 12))
async def test_the_buffer_may_be_resized_right_after_write() -> None:
    mutable = bytearray(BIG)
    async with connection(Recorder(), bounded_pair) as (transport, peer):
        transport.write(mutable)
        transport.writelines([mutable])
        mutable.clear()
        mutable += b"another size"
        transport.close()
        assert await asyncio.to_thread(receive_all, peer) == BIG + BIG


@pytest.mark.parametrize("method", ["write", "writelines"])
@pytest.mark.parametrize("data", [b"data", b""])
def test_write_after_write_eof_raises_in_asyncios_words(
    method: str, data: bytes, same_as_asyncio: Any
) -> None:
    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            async with connection(Recorder()) as (transport, peer):
                transport.write_eof()
                said = outcome(getattr(transport, method), data if method == "write" else [data])
                return said, await asyncio.to_thread(receive_all, peer), transport.is_closing()

        return drive(loop_factory, main)

    said, received, closing = same_as_asyncio(scenario)
    assert said[:2] == ("raised", "RuntimeError")
    assert received == b""
    assert not closing


async def test_close_sends_what_is_buffered_and_then_ends(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.write(BIG)
        transport.close()
        assert transport.is_closing()
        assert transport.get_write_buffer_size() > 0
        await settle()
        assert "connection_lost" not in protocol.names
        assert await asyncio.to_thread(receive_all, peer) == BIG
        await protocol.until("connection_lost")
        assert protocol.trace[-1] == ("connection_lost", None)


async def test_close_ignores_what_comes_while_it_flushes(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.write(BIG)
        transport.close()
        peer.sendall(b"not wanted")
        await settle()
        assert "connection_lost" not in protocol.names
        await asyncio.to_thread(how_it_ends, peer)  # a reset, if the kernel still holds what was not wanted
        await protocol.until("connection_lost")
        assert protocol.received == b""
        assert protocol.error is None


async def test_abort_drops_what_is_buffered(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.write(BIG)
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        await protocol.until("connection_lost")
        assert protocol.trace[-1] == ("connection_lost", None)
        received = await asyncio.to_thread(receive_all, peer)
        assert len(received) < len(BIG)
        assert BIG.startswith(received)


async def test_abort_ends_a_close_that_still_flushes() -> None:
    protocol = Recorder()
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.write(BIG)
        transport.close()
        transport.abort()
        await protocol.until("connection_lost")
        assert protocol.names == ["connection_made", "pause_writing", "connection_lost"]
        assert len(await asyncio.to_thread(receive_all, peer)) < len(BIG)


@pytest.mark.beyond_asyncio("its transport forgets that close() has ended it, and fails with AttributeError")
async def test_calls_after_a_close_that_flushed_are_harmless() -> None:
    protocol = Recorder()
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.write(BIG)
        transport.close()
        assert await asyncio.to_thread(receive_all, peer) == BIG
        await protocol.until("connection_lost")
        transport.close()
        transport.abort()
        transport.write(b"nobody is there")
        await settle()
        assert protocol.names.count("connection_lost") == 1


def test_write_while_close_flushes(same_as_asyncio: Any) -> None:
    """asyncio still sends what is written between close() and the end of its flushing."""

    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            protocol = Recorder()
            async with connection(protocol, bounded_pair) as (transport, peer):
                transport.write(BIG)
                transport.close()
                transport.write(b"tail")
                received = await asyncio.to_thread(receive_all, peer)
                await protocol.until("connection_lost")
                return protocol.trace, received.removeprefix(BIG)

        return drive(loop_factory, main)

    same_as_asyncio(scenario)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_writes_after_the_end_are_dropped_and_warned_of_from_the_fifth_on(
    end: str, same_as_asyncio: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            async with connection(Recorder()) as (transport, peer):
                getattr(transport, end)()
                transport.write(b"")
                for _ in range(9):
                    transport.write(b"too late")
                return await asyncio.to_thread(receive_all, peer)

        caplog.clear()
        with caplog.at_level(logging.WARNING, "asyncio"):
            received = drive(loop_factory, main)
        return received, [(record.name, record.levelname, record.getMessage()) for record in caplog.records]

    received, log = same_as_asyncio(scenario)
    assert received == b""
    assert log == [("asyncio", "WARNING", "socket.send() raised exception.")] * 5


async def test_a_large_write_is_sent_while_the_other_direction_flows(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    async with connection(protocol, bounded_pair) as (transport, peer):

        def both_ways() -> bytes:
            got = b""
            for start in range(0, len(BIG), 64 * 1024):
                peer.sendall(BIG[start : start + 64 * 1024])
                got += receive_exactly(peer, 64 * 1024)
            return got

        transport.write(BIG)
        assert await asyncio.to_thread(both_ways) == BIG
        await protocol.until_received(len(BIG))
        assert protocol.received == BIG


async def test_write_buffer_size_is_what_the_kernel_has_not_taken() -> None:
    async with connection(Recorder(), bounded_pair) as (transport, peer):
        assert transport.get_write_buffer_size() == 0
        transport.write(b"small enough")
        assert transport.get_write_buffer_size() == 0
        transport.write(BIG)
        first = transport.get_write_buffer_size()
        assert 0 < first < len(BIG)
        transport.write(b"x" * 1000)
        assert transport.get_write_buffer_size() == first + 1000
        transport.writelines([b"y" * 500, b"z" * 500])  # from 3.12 on this tries the kernel again
        assert transport.get_write_buffer_size() <= first + 2000
        peer.close()


async def test_each_side_may_end_while_the_other_still_writes() -> None:
    protocol = Recorder(eof_received=lambda self: True)
    async with connection(protocol, bounded_pair) as (transport, peer):
        peer.shutdown(socket.SHUT_WR)
        await protocol.until("eof_received")
        transport.write(BIG)
        assert await asyncio.to_thread(receive_exactly, peer, len(BIG)) == BIG
        transport.close()
        assert await asyncio.to_thread(how_it_ends, peer) == "eof"
