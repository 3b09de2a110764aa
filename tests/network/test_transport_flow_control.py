"""Flow control of writes: the limits, and when the protocol is told to pause and to resume."""

import asyncio
import itertools
from typing import Any

import pytest

from network.peers import bounded_pair, receive_all, receive_exactly
from network.recorders import AnyRecorder, Recorder, connection, drive, settle
from support.compare import outcome

BIG = bytes(range(256)) * (4 * 1024)  # 1 MiB: more than the kernel's buffers of `bounded_pair` take

LIMITS: list[dict[str, Any]] = [
    {}, {"high": 100}, {"low": 100}, {"high": 0}, {"low": 0}, {"high": 10, "low": 10}, {"high": 10, "low": 0},
    {"high": 10, "low": 11}, {"high": -1}, {"low": -1}, {"high": -2, "low": -1}, {"high": 0, "low": 0},
    {"high": 1 << 40}, {"high": 1 << 70}, {"low": 1 << 20}, {"high": 3}, {"high": None, "low": None},
    {"high": 10, "low": -5}, {"high": 10.5}, {"high": 100.0, "low": 1.5}, {"high": "10"}, {"low": "10"},
    {"high": True}, {"high": 10, "low": None},
]  # fmt: skip


async def test_the_default_limits_are_asyncios() -> None:
    async with connection(Recorder()) as (transport, _):
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)


@pytest.mark.parametrize("limits", LIMITS, ids=repr)
def test_setting_limits_gives_asyncios_values_and_errors(
    limits: dict[str, Any], same_as_asyncio: Any
) -> None:
    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            async with connection(Recorder()) as (transport, _):
                said = outcome(transport.set_write_buffer_limits, **limits)
                return said, transport.get_write_buffer_limits()

        return drive(loop_factory, main)

    same_as_asyncio(scenario)


async def test_limits_may_be_given_by_position() -> None:
    async with connection(Recorder()) as (transport, _):
        transport.set_write_buffer_limits(2000, 1000)
        assert transport.get_write_buffer_limits() == (1000, 2000)


async def test_the_protocol_pauses_inside_the_write_and_resumes_when_drained(kind: type[AnyRecorder]) -> None:
    sizes = []
    protocol = kind(
        pause_writing=lambda self: sizes.append(self.transport.get_write_buffer_size()),
        resume_writing=lambda self: sizes.append(self.transport.get_write_buffer_size()),
    )
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.write(b"small")
        assert protocol.names == ["connection_made"]
        transport.write(BIG)
        assert protocol.names == ["connection_made", "pause_writing"]
        transport.write(BIG)
        await settle()
        assert protocol.names == ["connection_made", "pause_writing"]
        reading = asyncio.create_task(asyncio.to_thread(receive_exactly, peer, 5 + 2 * len(BIG)))
        await protocol.until("resume_writing")
        assert await reading == b"small" + BIG + BIG
        assert protocol.names == ["connection_made", "pause_writing", "resume_writing"]
        low, high = transport.get_write_buffer_limits()
        assert sizes[0] > high
        assert sizes[1] <= low


async def test_limit_zero_pauses_as_soon_as_anything_is_buffered() -> None:
    protocol = Recorder()
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.set_write_buffer_limits(high=0)
        transport.write(b"goes out at once")
        assert protocol.names == ["connection_made"]
        transport.write(BIG)
        assert protocol.names == ["connection_made", "pause_writing"]
        reading = asyncio.create_task(asyncio.to_thread(receive_exactly, peer, 16 + len(BIG)))
        await protocol.until("resume_writing")
        assert transport.get_write_buffer_size() == 0
        await reading


async def test_a_high_limit_is_never_reached_by_less() -> None:
    protocol = Recorder()
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.set_write_buffer_limits(high=len(BIG))
        transport.write(BIG)
        transport.close()
        assert await asyncio.to_thread(receive_all, peer) == BIG
        await protocol.until("connection_lost")
        assert protocol.names == ["connection_made", "connection_lost"]


def test_changing_limits_while_something_is_buffered(same_as_asyncio: Any) -> None:
    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            protocol = Recorder()
            marks: list[Any] = []
            async with connection(protocol, bounded_pair) as (transport, peer):
                transport.set_write_buffer_limits(high=4 * len(BIG))
                transport.write(BIG)
                marks.append(protocol.trace)
                transport.set_write_buffer_limits(high=100)
                marks.append(protocol.trace)
                # The kernel may yet take a little more.
                transport.set_write_buffer_limits(high=4 * len(BIG), low=0)
                await settle()
                marks.append(protocol.trace)
                transport.set_write_buffer_limits(high=0)
                marks.append(protocol.trace)
                await asyncio.to_thread(receive_exactly, peer, len(BIG))
                await protocol.until("resume_writing")
                marks.append(protocol.trace)
            return marks

        return drive(loop_factory, main)

    marks = same_as_asyncio(scenario)
    assert [len(mark) for mark in marks] == [1, 2, 2, 2, 3]


def alternates(names: list[str]) -> bool:
    """Whether pause_writing and resume_writing take turns, pausing first."""
    turns = [name for name in names if name in ("pause_writing", "resume_writing")]
    return all(
        name == turn for name, turn in zip(turns, itertools.cycle(["pause_writing", "resume_writing"]))
    )


@pytest.mark.parametrize("high", [0, 1, 1000, 64 * 1024, 700_000])
async def test_pause_and_resume_take_turns_and_keep_the_buffer_bounded(high: int) -> None:
    """A well-behaved writer never has more buffered than the limit and one piece."""
    piece = 10_000
    total = 400 * piece
    largest = 0
    writable = asyncio.Event()
    writable.set()
    protocol = Recorder(pause_writing=lambda _: writable.clear(), resume_writing=lambda _: writable.set())
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.set_write_buffer_limits(high=high)
        reading = asyncio.create_task(asyncio.to_thread(receive_exactly, peer, total))
        for number in range(400):
            await writable.wait()
            transport.write(bytes([number % 256]) * piece)
            largest = max(largest, transport.get_write_buffer_size())
        received = await reading
        assert received == b"".join(bytes([number % 256]) * piece for number in range(400))
        assert largest <= high + piece
        assert alternates(protocol.names)


async def test_writing_inside_resume_writing_pauses_again() -> None:
    def again(self: Recorder) -> None:
        if self.names.count("resume_writing") < 5:
            self.transport.write(BIG)

    protocol = Recorder(resume_writing=again)
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.set_write_buffer_limits(high=len(BIG) // 4)
        transport.write(BIG)
        task = asyncio.create_task(asyncio.to_thread(receive_exactly, peer, 5 * len(BIG)))
        await protocol.until(lambda: protocol.names.count("resume_writing") == 5)
        assert await task == 5 * BIG
        assert alternates(protocol.names)


async def test_writing_inside_pause_writing_is_appended() -> None:
    protocol = Recorder(pause_writing=lambda self: self.transport.write(b"and this"))
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.write(BIG)
        assert protocol.names == ["connection_made", "pause_writing"]
        assert await asyncio.to_thread(receive_exactly, peer, len(BIG) + 8) == BIG + b"and this"


async def test_a_protocol_set_while_writing_is_paused_is_told_to_resume(kind: type[AnyRecorder]) -> None:
    old, new = kind(), kind()
    async with connection(old, bounded_pair) as (transport, peer):
        transport.write(BIG)
        transport.set_protocol(new)
        assert len(await asyncio.to_thread(receive_exactly, peer, len(BIG))) == len(BIG)
        await new.until("resume_writing")
        assert old.names == ["connection_made", "pause_writing"]


@pytest.mark.beyond_asyncio("from 3.12 on its writelines() forgets to pause the protocol", since=(3, 12))
async def test_writelines_pauses_as_write_does() -> None:
    protocol = Recorder()
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.writelines([BIG[:500_000], BIG[500_000:]])
        assert protocol.names == ["connection_made", "pause_writing"]
        assert await asyncio.to_thread(receive_exactly, peer, len(BIG)) == BIG
        await protocol.until("resume_writing")


async def test_an_aborted_connection_is_not_told_to_resume() -> None:
    protocol = Recorder()
    async with connection(protocol, bounded_pair) as (transport, _):
        transport.write(BIG)
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        await protocol.until("connection_lost")
        await settle()
        assert protocol.names == ["connection_made", "pause_writing", "connection_lost"]


@pytest.mark.parametrize("callback", ["pause_writing", "resume_writing"])
async def test_a_failing_flow_control_callback_is_reported_and_the_connection_goes_on(
    callback: str, kind: type[AnyRecorder], watch: Any
) -> None:
    def fail(self: AnyRecorder) -> None:
        raise ValueError("not now")

    protocol = kind(**{callback: fail})
    async with connection(protocol, bounded_pair) as (transport, peer):
        transport.write(BIG)
        assert await asyncio.to_thread(receive_exactly, peer, len(BIG)) == BIG
        await protocol.until("resume_writing")
        await settle()
        (context,) = watch.take()
        assert context["message"] == f"protocol.{callback}() failed"
        assert isinstance(context["exception"], ValueError)
        assert context["transport"] is transport
        assert context["protocol"] is protocol
        peer.sendall(b"alive")
        await protocol.until_received(5)
