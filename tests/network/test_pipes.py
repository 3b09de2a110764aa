"""Pipe transports over every kind of file that they take: what arrives, in which order, and how it ends."""

import asyncio
import gc
import os
import pty
import re
import socket
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from network.pipes import (
    ALL_KINDS,
    STREAMS,
    Ends,
    PipeRecorder,
    read_all,
    read_exactly,
    reading,
    socket_ends,
    terminal_ends,
    writing,
)
from network.recorders import Recorder, drive, settle
from support.compare import normalised, outcome, take_log
from support.loops import LoopFactory
from support.waiting import until_asleep

BIG = bytes(range(256)) * 4096  # 1 MiB: more than the buffers of all kinds take


@pytest.fixture(params=STREAMS, ids=lambda make: make.__name__.removesuffix("_ends"))
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Ends:
    """Both ends of a stream of bytes. The test closes what it does not give to a transport."""
    made: Ends = request.param(tmp_path)
    return made


# --- reading


async def test_what_was_written_arrives_and_then_the_end(ends: Ends) -> None:
    protocol = PipeRecorder()
    reader, writer = ends
    async with reading(protocol, reader):
        os.write(writer, b"first")
        await protocol.until_received(5)
        os.write(writer, b"second")
        await protocol.until_received(11)
        os.close(writer)
        await protocol.until_closed()
    assert protocol.trace == [
        ("connection_made",),
        ("data_received", b"firstsecond"),
        ("eof_received",),
        ("connection_lost", None),
    ]


async def test_a_large_stream_arrives_whole(ends: Ends) -> None:
    protocol = PipeRecorder()
    reader, writer = ends

    def write() -> None:
        with os.fdopen(writer, "wb", 0) as file:
            for start in range(0, len(BIG), 10_007):
                file.write(BIG[start : start + 10_007])

    async with reading(protocol, reader):
        await asyncio.to_thread(write)
        await protocol.until("eof_received")
    assert protocol.received == BIG


async def test_a_terminal_that_hangs_up_ends_with_its_error(tmp_path: Path) -> None:
    protocol = PipeRecorder()
    master, slave = terminal_ends(tmp_path)
    async with reading(protocol, master):
        os.write(slave, b"typed")
        await protocol.until_received(5)
        os.close(slave)
        await protocol.until_closed()
    assert protocol.trace == [
        ("connection_made",),
        ("data_received", b"typed"),
        ("connection_lost", "OSError"),
    ]


async def test_the_end_typed_at_a_terminal(tmp_path: Path) -> None:
    protocol = PipeRecorder()
    master, slave = pty.openpty()
    async with reading(protocol, slave):
        os.write(master, b"a line\n")
        await protocol.until_received(7)
        os.write(master, b"\x04")
        await protocol.until_closed()
    os.close(master)
    assert protocol.trace[1:] == [
        ("data_received", b"a line\n"),
        ("eof_received",),
        ("connection_lost", None),
    ]


async def test_a_fifo_without_a_writer_has_not_ended(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    protocol = PipeRecorder()
    async with reading(protocol, os.open(path, os.O_RDONLY | os.O_NONBLOCK)):
        await settle()
        assert protocol.names == ["connection_made"]
        path.write_bytes(b"hello")
        await protocol.until_closed()
    assert protocol.received == b"hello"


async def test_a_datagram_is_not_cut() -> None:
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    protocol = PipeRecorder()
    with writer:
        async with reading(protocol, reader.detach()):
            for message in (b"d" * 100_000, b"short", b"e" * 100_000):
                writer.send(message)
                await protocol.until_received(len(protocol.received) + len(message))
    assert [len(event[1]) for event in protocol.events if event[0] == "data_received"] == [
        100_000,
        5,
        100_000,
    ]


async def test_a_paused_transport_takes_nothing_out_of_the_pipe(ends: Ends) -> None:
    protocol = PipeRecorder()
    reader, writer = ends
    ours = os.dup(reader)
    async with reading(protocol, reader) as transport:
        transport.pause_reading()
        assert not transport.is_reading()
        os.write(writer, b"for somebody else")
        await settle()
        assert protocol.names == ["connection_made"]
        assert os.read(ours, 8) == b"for some"
        transport.resume_reading()
        assert transport.is_reading()
        await protocol.until_received(9)
        assert protocol.received == b"body else"
    os.close(writer)
    os.close(ours)


async def test_pausing_inside_data_received_and_resuming_from_outside(ends: Ends) -> None:
    protocol = PipeRecorder(data_received=lambda self: self.transport.pause_reading())
    reader, writer = ends
    async with reading(protocol, reader) as transport:
        for round in range(5):
            os.write(writer, b"x")
            await protocol.until_received(3 * round + 1)
            os.write(writer, b"yy")
            await settle()
            assert len(protocol.received) == 3 * round + 1
            transport.resume_reading()
            transport.resume_reading()
            await protocol.until_received(3 * round + 3)
            transport.resume_reading()
    os.close(writer)


async def test_the_end_waits_for_a_paused_transport(ends: Ends) -> None:
    protocol = PipeRecorder()
    reader, writer = ends
    async with reading(protocol, reader) as transport:
        transport.pause_reading()
        os.write(writer, b"last words")
        os.close(writer)
        await settle()
        assert protocol.names == ["connection_made"]
        transport.resume_reading()
        await protocol.until_closed()
    assert protocol.trace[1:] == [
        ("data_received", b"last words"),
        ("eof_received",),
        ("connection_lost", None),
    ]


async def test_what_a_closed_transport_left_is_still_there(ends: Ends) -> None:
    protocol = PipeRecorder()
    reader, writer = ends
    ours = os.dup(reader)
    async with reading(protocol, reader):
        pass
    os.write(writer, b"left")
    os.close(writer)
    os.set_blocking(ours, True)
    assert read_all(ours) == b"left"
    assert protocol.names == ["connection_made", "connection_lost"]


async def test_a_failing_data_received_is_reported_and_reading_goes_on(ends: Ends, watch: Any) -> None:
    def fail(self: Recorder) -> None:
        raise ValueError("not this")

    protocol = PipeRecorder(data_received=fail)
    reader, writer = ends
    async with reading(protocol, reader):
        os.write(writer, b"1")
        await protocol.until_received(1)
        os.write(writer, b"2")
        await protocol.until_received(2)
        assert [context["exception"].args for context in watch.take()] == [("not this",)] * 2
    os.close(writer)


async def test_a_new_protocol_gets_what_comes_then(ends: Ends) -> None:
    first, second = PipeRecorder(), PipeRecorder()
    reader, writer = ends
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: first, os.fdopen(reader, "rb", 0)
    )
    os.write(writer, b"1")
    await first.until_received(1)
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    os.write(writer, b"2")
    await second.until_received(1)
    os.close(writer)
    await second.until("connection_lost")
    assert first.names == ["connection_made", "data_received"]


# --- writing


async def test_a_large_write_arrives_and_pauses_the_protocol_meanwhile(ends: Ends) -> None:
    protocol = PipeRecorder()
    reader, writer = ends
    async with writing(protocol, writer) as transport:
        transport.write(BIG)
        transport.write(bytearray(b"and "))
        transport.write(memoryview(b"this"))
        assert protocol.names == ["connection_made", "pause_writing"]
        assert transport.get_write_buffer_size() > 64 * 1024
        assert await asyncio.to_thread(read_exactly, reader, len(BIG) + 8) == BIG + b"and this"
        await protocol.until("resume_writing")
        assert transport.get_write_buffer_size() == 0
    os.close(reader)
    assert protocol.names == ["connection_made", "pause_writing", "resume_writing", "connection_lost"]


async def test_a_buffer_changed_after_the_write_is_sent_as_it_was(ends: Ends) -> None:
    protocol = PipeRecorder()
    reader, writer = ends
    data = bytearray(BIG)
    async with writing(protocol, writer) as transport:
        transport.write(data)
        transport.write(memoryview(data)[:10])
        data[:] = bytes(len(data))
        assert await asyncio.to_thread(read_exactly, reader, len(BIG) + 10) == BIG + BIG[:10]
    os.close(reader)


@pytest.mark.parametrize("method", ["close", "write_eof"])
async def test_what_is_queued_is_written_before_the_end(ends: Ends, method: str) -> None:
    protocol = PipeRecorder()
    reader, writer = ends
    async with writing(protocol, writer) as transport:
        transport.writelines([BIG, b"the", b"", b"end"])
        assert transport.can_write_eof()
        getattr(transport, method)()
        assert transport.is_closing()
        transport.write(b"too late")
        assert await asyncio.to_thread(read_all, reader) == BIG + b"theend"
        await protocol.until_closed()
    assert protocol.trace[-1] == ("connection_lost", None)


async def test_the_reader_sees_the_end_as_soon_as_the_transport_is_closed(ends: Ends) -> None:
    protocol = PipeRecorder()
    reader, writer = ends
    os.set_blocking(reader, False)
    async with writing(protocol, writer) as transport:
        await until_asleep()
        transport.close()
        await protocol.until_closed()
        assert os.read(reader, 1) == b""
    os.close(reader)


async def test_abort_drops_what_is_queued(ends: Ends) -> None:
    protocol = PipeRecorder()
    reader, writer = ends
    async with writing(protocol, writer) as transport:
        transport.write(BIG)
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        await protocol.until_closed()
    assert len(await asyncio.to_thread(read_all, reader)) < len(BIG)
    assert protocol.names == ["connection_made", "pause_writing", "connection_lost"]


async def test_an_idle_writer_notices_that_its_reader_is_gone(ends: Ends) -> None:
    protocol = PipeRecorder()
    reader, writer = ends
    async with writing(protocol, writer):
        await until_asleep()
        os.close(reader)
        await protocol.until_closed()
    assert protocol.trace == [("connection_made",), ("connection_lost", None)]


async def test_a_writer_with_a_queue_notices_as_well(ends: Ends) -> None:
    protocol = PipeRecorder()
    reader, writer = ends
    async with writing(protocol, writer) as transport:
        transport.write(BIG)
        os.close(reader)
        await protocol.until_closed()
    assert protocol.trace[-1] == ("connection_lost", "BrokenPipeError")


async def test_a_write_to_a_pipe_without_a_reader(ends: Ends) -> None:
    protocol = PipeRecorder()
    reader, writer = ends
    async with writing(protocol, writer) as transport:
        os.close(reader)
        transport.write(b"nobody reads this")
        await protocol.until_closed()
    assert protocol.trace[-1] == ("connection_lost", "BrokenPipeError")


async def test_a_character_device_takes_everything() -> None:
    protocol = PipeRecorder()
    async with writing(protocol, os.open("/dev/null", os.O_WRONLY)) as transport:
        transport.write(BIG)
        assert transport.get_write_buffer_size() == 0
        transport.close()


async def test_a_terminal_is_written_to(tmp_path: Path) -> None:
    protocol = PipeRecorder()
    master, slave = terminal_ends(tmp_path)
    async with writing(protocol, slave) as transport:
        transport.write(BIG[:50_000])
        assert transport.get_write_buffer_size() > 0
        assert await asyncio.to_thread(read_exactly, master, 50_000) == BIG[:50_000]
        # A terminal is not watched: its other side must not end it.
        os.write(master, b"typed")
        await settle()
        assert not transport.is_closing()
    os.close(master)


async def test_a_socket_whose_other_side_writes_counts_as_closed() -> None:
    protocol = PipeRecorder()
    reader, writer = socket_ends(Path())
    async with writing(protocol, writer):
        os.write(reader, b"?")
        await protocol.until_closed()
    os.close(reader)


async def test_flow_control_reaches_a_stream_writer(ends: Ends) -> None:
    reader, writer = ends
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop=loop), os.fdopen(writer, "wb", 0)
    )
    stream = asyncio.StreamWriter(transport, cast(Any, protocol), None, loop)
    got = asyncio.create_task(asyncio.to_thread(read_all, reader))
    for start in range(0, len(BIG), 50_000):
        stream.write(BIG[start : start + 50_000])
        await stream.drain()
    stream.close()
    assert await got == BIG


# --- as asyncio's, word for word


def test_refusals_are_asyncios(
    same_as_asyncio: Callable[[Callable[[LoopFactory], Any]], Any], tmp_path: Path
) -> None:
    regular = tmp_path / "regular"
    regular.write_bytes(b"contents")

    def scenario(loop_factory: LoopFactory) -> Any:
        async def main() -> Any:
            loop = asyncio.get_running_loop()
            outcomes = []
            with regular.open("rb", 0) as reader, regular.open("ab", 0) as writer:
                for connect, pipe in (
                    (loop.connect_read_pipe, reader),
                    (loop.connect_write_pipe, writer),
                ):
                    try:
                        await cast(Any, connect)(asyncio.Protocol, pipe)
                    except Exception as error:
                        outcomes.append((type(error), str(error), os.get_blocking(pipe.fileno())))
            return outcomes

        return drive(loop_factory, main)

    assert len(same_as_asyncio(scenario)) == 2


def test_wrong_calls_are_asyncios(same_as_asyncio: Callable[[Callable[[LoopFactory], Any]], Any]) -> None:
    def scenario(loop_factory: LoopFactory) -> Any:
        async def main() -> Any:
            protocol = PipeRecorder()
            reader, writer = os.pipe()
            async with writing(protocol, writer) as transport:
                outcomes = [
                    outcome(transport.write, "text"),
                    outcome(transport.write, b""),
                    outcome(transport.writelines, [b"1", "2"]),
                    outcome(transport.set_write_buffer_limits, high=1, low=2),
                    outcome(transport.set_write_buffer_limits, high=-1),
                    outcome(transport.set_write_buffer_limits, low=10),
                    outcome(transport.get_write_buffer_limits),
                    outcome(transport.set_write_buffer_limits),
                    outcome(transport.get_write_buffer_limits),
                    outcome(transport.get_extra_info, "socket", "none"),
                    outcome(transport.write_eof),
                    outcome(transport.write_eof),
                    outcome(transport.close),
                ]
            os.close(reader)
            outcomes.append(outcome(transport.close))
            outcomes.append(outcome(transport.get_protocol))
            return outcomes

        return drive(loop_factory, main)

    same_as_asyncio(scenario)


def test_the_log_is_asyncios(
    same_as_asyncio: Callable[[Callable[[LoopFactory], Any]], Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "asyncio")

    def without_transport(entry: tuple[str, str, str]) -> tuple[str, str, str]:
        level, message, error = entry
        return level, message[message.find(">") + 1 :] if message.startswith("<") else message, error

    def scenario(loop_factory: LoopFactory) -> Any:
        async def main() -> None:
            asyncio.get_running_loop().set_debug(True)
            protocol = PipeRecorder()
            reader, writer = os.pipe()
            async with writing(protocol, writer) as transport:
                os.close(reader)
                for _ in range(8):
                    transport.write(b"lost")
                await protocol.until_closed()
            ours, reader = PipeRecorder(), os.pipe()
            async with reading(ours, reader[0]) as transport_read:
                transport_read.pause_reading()
                transport_read.resume_reading()
                os.close(reader[1])
                await ours.until_closed()

        caplog.clear()
        drive(loop_factory, main)
        return [without_transport(entry) for entry in take_log(caplog) if entry[1].startswith(("<", "pipe"))]

    assert any("raised exception" in message for _, message, _ in same_as_asyncio(scenario))


def test_a_device_that_cannot_be_polled_is_reported_as_asyncio_does(
    same_as_asyncio: Callable[[Callable[[LoopFactory], Any]], Any], watch: Any
) -> None:
    def scenario(loop_factory: LoopFactory) -> Any:
        async def main() -> None:
            protocol = PipeRecorder()
            async with reading(protocol, os.open("/dev/null", os.O_RDONLY)):
                await settle()

        drive(loop_factory, main)
        (context,) = watch.take()
        return type(context["exception"]), str(context["exception"])

    assert same_as_asyncio(scenario)[0] is PermissionError


# --- the object


async def test_what_is_for_reading_alone_raises_on_a_writing_end(ends: Ends) -> None:
    reader, writer = ends
    async with reading(PipeRecorder(), reader), writing(PipeRecorder(), writer) as write_end:
        for name in ("is_reading", "pause_reading", "resume_reading"):
            with pytest.raises(NotImplementedError):
                getattr(write_end, name)()


async def test_a_transport_is_what_asyncio_says_it_is(ends: Ends) -> None:
    reader, writer = ends
    first, second = PipeRecorder(), PipeRecorder()
    async with reading(first, reader) as read_end, writing(second, writer) as write_end:
        assert isinstance(read_end, asyncio.ReadTransport)
        assert isinstance(write_end, asyncio.WriteTransport)
        assert isinstance(write_end, asyncio.Transport)
        assert not isinstance(read_end, asyncio.WriteTransport)
        assert not os.get_blocking(reader)
        assert not os.get_blocking(writer)
        for transport, fd in ((read_end, reader), (write_end, writer)):
            assert transport.get_extra_info("pipe").fileno() == fd
            assert f"fd={fd}" in repr(transport)
            with pytest.raises(TypeError):
                __import__("pickle").dumps(transport)
        write_end.anything = 1  # type: ignore[attr-defined]
    assert re.fullmatch(r"<\w+ closed fd=\d+ closed>", repr(read_end))


def test_a_transport_is_open_when_its_loop_is_closed(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> list[Any]:
        running = asyncio.get_running_loop()
        made: list[Any] = [
            await running.connect_read_pipe(asyncio.Protocol, reader),
            await running.connect_write_pipe(asyncio.Protocol, writer),
        ]
        return [transport for transport, _ in made]

    read_fd, write_fd = os.pipe()
    with os.fdopen(read_fd, "rb", 0) as reader, os.fdopen(write_fd, "wb", 0) as writer:
        transports = loop.run_until_complete(main())
        loop.close()
        for transport in transports:
            assert re.fullmatch(r"<\w+ fd=\d+ open>", repr(transport))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport
            transports.clear()
            gc.collect()
    assert [each.category for each in caught] == [ResourceWarning] * 2


@pytest.mark.parametrize("make_ends", ALL_KINDS)
def test_an_unclosed_transport_warns_and_closes_its_pipe(
    loop: asyncio.AbstractEventLoop, make_ends: Callable[[Path], Ends], tmp_path: Path
) -> None:
    async def main() -> list[Any]:
        running = asyncio.get_running_loop()
        made: list[Any] = [
            await running.connect_read_pipe(asyncio.Protocol, os.fdopen(reader, "rb", 0)),
            await running.connect_write_pipe(asyncio.Protocol, os.fdopen(writer, "wb", 0)),
        ]
        return [transport for transport, _ in made]

    reader, writer = make_ends(tmp_path)
    transports = loop.run_until_complete(main())
    files = [transport.get_extra_info("pipe") for transport in transports]
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.close()
        transports.clear()
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning] * 2
    assert all(str(warning.message).startswith("unclosed transport <") for warning in caught)
    assert all(file.closed for file in files)


async def test_callbacks_run_in_the_context_of_the_call(ends: Ends) -> None:
    import contextvars

    variable = contextvars.ContextVar("variable", default="outside")
    seen = []
    protocol = PipeRecorder(
        **{
            name: lambda self: seen.append(variable.get())
            for name in ("connection_made", "data_received", "eof_received", "connection_lost")
        }
    )
    reader, writer = ends
    variable.set("inside")
    async with reading(protocol, reader):
        variable.set("later")
        os.write(writer, b"x")
        await protocol.until_received(1)
        os.close(writer)
        await protocol.until_closed()
    assert seen == ["inside"] * 4


def test_transports_go_on_when_the_loop_runs_on_another_thread(
    loop: asyncio.AbstractEventLoop, ends: Ends
) -> None:
    reader, writer = ends
    protocol = PipeRecorder()

    async def begin() -> asyncio.ReadTransport:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: protocol, os.fdopen(reader, "rb", 0)
        )
        await until_asleep()
        return transport

    thread = threading.Thread(target=lambda: loop.run_until_complete(begin()))
    thread.start()
    thread.join()
    os.write(writer, b"meanwhile")
    os.close(writer)
    loop.run_until_complete(protocol.until("connection_lost"))
    assert protocol.received == b"meanwhile"


async def test_an_interrupt_inside_data_received_leaves_the_transport_alive() -> None:
    """Run inside a loop of its own, since it ends the run."""

    def work(factory: Callable[[], asyncio.AbstractEventLoop]) -> bytes:
        reader, writer = os.pipe()
        loop = factory()

        def interrupt(self: Recorder) -> None:
            if len(self.received) == 1:
                raise KeyboardInterrupt

        protocol = PipeRecorder(data_received=interrupt)

        async def begin() -> None:
            await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(reader, "rb", 0))

        loop.run_until_complete(begin())
        os.write(writer, b"1")
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        os.write(writer, b"2")
        os.close(writer)
        loop.run_until_complete(protocol.until("connection_lost"))
        loop.close()
        return protocol.received

    factory = type(asyncio.get_running_loop())
    assert await asyncio.to_thread(work, factory) == b"12"


def test_the_message_about_a_failing_callback_names_the_transport(
    loop: asyncio.AbstractEventLoop, watch: Any
) -> None:
    def fail(self: Recorder) -> None:
        raise ValueError

    reader, writer = os.pipe()

    async def main() -> None:
        protocol = PipeRecorder(data_received=fail)
        async with reading(protocol, reader):
            os.write(writer, b"x")
            await protocol.until_received(1)

    loop.run_until_complete(main())
    os.close(writer)
    (context,) = watch.take()
    assert "_read_ready" in normalised(context["message"])
