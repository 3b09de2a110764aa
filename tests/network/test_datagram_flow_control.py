"""What finds no room: the queue and its limits, pause_writing and resume_writing, order, ends with a queue.

Over Unix datagram sockets: there a full receiver makes the sender wait, where UDP would lose.
"""

import asyncio
import errno
import socket
import sys
from typing import Any

import pytest

from network.datagram_recorders import DatagramRecorder, endpoint, named_unix_pair
from network.recorders import drive, settle, until_closed
from network.unix_peers import abstract_name
from support.marks import ringloop_only
from support.waiting import until_asleep

BYTES = 1000  # of each datagram
COUNTED = pytest.mark.skipif(
    (3, 13) <= sys.version_info < (3, 14), reason="some of asyncio's 3.13 forget to take the headers off"
)

MISCOUNTED = pytest.mark.beyond_asyncio(
    "some of its 3.13 forget to take the headers off", since=(3, 13) if sys.version_info < (3, 14) else (4,)
)


def numbered(number: int) -> bytes:
    return number.to_bytes(4, "little") * (BYTES // 4)


def fill(transport: asyncio.DatagramTransport, more: int = 0, address: Any = None) -> int:
    """Sends until something is queued, and `more` datagrams after that; how many were sent."""
    count = 0
    while not transport.get_write_buffer_size():  # type: ignore[attr-defined]
        transport.sendto(numbered(count), address)
        count += 1
    for _ in range(more):
        transport.sendto(numbered(count), address)
        count += 1
    return count


def drain(peer: socket.socket, count: int) -> list[bytes]:
    """The next `count` datagrams, waiting for them."""
    return [peer.recv(2 * BYTES) for _ in range(count)]


def two_sockets() -> tuple[socket.socket, socket.socket, str]:
    """An unconnected Unix datagram socket, another one, and that one's address."""
    ours, peer = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    name = abstract_name()
    peer.settimeout(20)
    peer.bind(name)
    return ours, peer, name


@MISCOUNTED
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "unconnected"])
async def test_what_is_queued_goes_out_in_order(connected: bool) -> None:
    ours, peer, name = (*named_unix_pair(), None) if connected else two_sockets()
    with peer:
        async with endpoint(sock=ours) as (transport, _):
            count = fill(transport, more=500, address=name)
            received = await asyncio.to_thread(drain, peer, count)
            assert received == [numbered(number) for number in range(count)]
            await settle(1)
            assert transport.get_write_buffer_size() == 0  # type: ignore[attr-defined]
            transport.sendto(b"after that", name)
            assert peer.recv(100) == b"after that"
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(1)


async def test_the_protocol_is_paused_and_resumed_once_each() -> None:
    ours, peer = named_unix_pair()
    with peer:
        async with endpoint(sock=ours) as (transport, protocol):
            transport.set_write_buffer_limits(high=20 * BYTES, low=5 * BYTES)  # type: ignore[attr-defined]
            count = fill(transport, more=100)
            assert protocol.names == ["connection_made", "pause_writing"]
            received = await asyncio.to_thread(drain, peer, count)
            await protocol.until("resume_writing")
            assert protocol.names == ["connection_made", "pause_writing", "resume_writing"]
            assert received == [numbered(number) for number in range(count)]


@COUNTED
def test_what_a_datagram_counts_is_what_asyncio_counts(same_as_asyncio: Any) -> None:
    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            ours, peer = named_unix_pair()
            with peer:
                async with endpoint(sock=ours) as (transport, _):
                    some: Any = transport
                    limits = [some.get_write_buffer_limits()]
                    fill(transport)
                    sizes = [some.get_write_buffer_size()]
                    for data in (b"", b"x", bytearray(10), memoryview(bytes(100))):
                        transport.sendto(data)
                        sizes.append(some.get_write_buffer_size())
                    for keywords in ({"high": 100}, {"low": 10}, {"high": 50, "low": 40}, {}):
                        some.set_write_buffer_limits(**keywords)
                        limits.append(some.get_write_buffer_limits())
                    with pytest.raises(ValueError, match="must be >= low") as caught:
                        some.set_write_buffer_limits(high=1, low=2)
            return limits, sizes, str(caught.value)

        return drive(loop_factory, main)

    same_as_asyncio(scenario)


async def test_what_is_queued_may_change_after_the_call() -> None:
    ours, peer = named_unix_pair()
    with peer:
        async with endpoint(sock=ours) as (transport, _):
            count = fill(transport)
            data = bytearray(b"before")
            transport.sendto(data)
            data[:] = b"after!"
            assert (await asyncio.to_thread(drain, peer, count + 1))[-1] == b"before"


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "unconnected"])
async def test_close_sends_what_is_queued_first(connected: bool) -> None:
    ours, peer, name = (*named_unix_pair(), None) if connected else two_sockets()
    with peer:
        async with endpoint(sock=ours) as (transport, protocol):
            count = fill(transport, more=50, address=name)
            transport.close()
            await settle()
            assert protocol.names == ["connection_made"]
            assert transport.is_closing()
            received = await asyncio.to_thread(drain, peer, count)
            assert received == [numbered(number) for number in range(count)]
            await protocol.until("connection_lost")
            assert protocol.error is None
            await until_closed(ours)


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "unconnected"])
async def test_abort_drops_what_is_queued(connected: bool) -> None:
    ours, peer, name = (*named_unix_pair(), None) if connected else two_sockets()
    with peer:
        async with endpoint(sock=ours) as (transport, protocol):
            count = fill(transport, more=50, address=name)
            await settle()
            transport.abort()
            await protocol.until("connection_lost")
            assert protocol.names == ["connection_made", "connection_lost"]
            await until_closed(ours)
            # All that the kernel had taken, and nothing else.
            received = drain(peer, count - 51)
            assert received == [numbered(number) for number in range(count - 51)]


@pytest.mark.beyond_asyncio("it ends the transport twice, and fails the second time")
@pytest.mark.parametrize("ending", ["close", "abort"])
async def test_an_end_inside_resume_writing(ending: str) -> None:
    ours, peer = named_unix_pair()
    protocol = DatagramRecorder(resume_writing=lambda self: getattr(self.transport, ending)())
    with peer:
        async with endpoint(protocol, sock=ours) as (transport, _):
            transport.set_write_buffer_limits(high=10 * BYTES, low=BYTES)  # type: ignore[attr-defined]
            count = fill(transport, more=20)
            await asyncio.to_thread(drain, peer, count - 2)
            await protocol.until("connection_lost")
    assert protocol.names == ["connection_made", "pause_writing", "resume_writing", "connection_lost"]


@MISCOUNTED
async def test_sends_inside_resume_writing() -> None:
    ours, peer = named_unix_pair()
    protocol = DatagramRecorder(resume_writing=lambda self: self.transport.sendto(b"resumed"))
    with peer:
        async with endpoint(protocol, sock=ours) as (transport, _):
            transport.set_write_buffer_limits(high=10 * BYTES, low=0)  # type: ignore[attr-defined]
            count = fill(transport, more=20)
            received = await asyncio.to_thread(drain, peer, count + 1)
            assert received == [numbered(number) for number in range(count)] + [b"resumed"]


@MISCOUNTED
async def test_a_receiver_that_goes_away_is_an_error_for_each_datagram() -> None:
    """As many errors as there were datagrams, and the transport lives on."""
    ours, peer = named_unix_pair()
    async with endpoint(sock=ours) as (transport, protocol):
        fill(transport, more=5)
        peer.close()
        await protocol.until(lambda: len(protocol.events) == 7)
        errors = {event[2] for event in protocol.events[1:]}
        assert errors <= {errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN}
        assert not transport.is_closing()
        await settle(1)
        assert transport.get_write_buffer_size() == 0  # type: ignore[attr-defined]


@pytest.mark.beyond_asyncio("it spins, asking again and again")
async def test_a_full_receiver_of_an_unconnected_socket_is_waited_for_asleep() -> None:
    ours, peer, name = two_sockets()
    with peer:
        async with endpoint(sock=ours) as (transport, protocol):
            count = fill(transport, more=5, address=name)
            await until_asleep()
            assert transport.get_write_buffer_size() > 0  # type: ignore[attr-defined]
            received = await asyncio.to_thread(drain, peer, count)
            assert received == [numbered(number) for number in range(count)]
            assert protocol.names == ["connection_made"]


@ringloop_only
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "unconnected"])
def test_what_is_queued_when_a_run_ends_goes_out_in_the_next(
    loop: asyncio.AbstractEventLoop, connected: bool
) -> None:
    ours, peer, name = (*named_unix_pair(), None) if connected else two_sockets()

    async def begin() -> tuple[asyncio.DatagramTransport, int]:
        transport, _ = await loop.create_datagram_endpoint(DatagramRecorder, sock=ours)
        count = fill(transport, more=5, address=name)
        await settle()
        return transport, count

    async def end() -> None:
        received = await asyncio.to_thread(drain, peer, count)
        assert received == [numbered(number) for number in range(count)]
        transport.close()
        await until_closed(ours)
        await settle(1)

    with peer:
        transport, count = loop.run_until_complete(begin())
        loop.run_until_complete(end())


EMFILE_SCRIPT = """
import asyncio, os, resource, socket

async def main():
    loop = asyncio.get_running_loop()
    ours, peer = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    peer.bind("")  # to a name of the kernel's choice
    peer.setblocking(False)
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=ours)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    hogs = []
    try:
        while True:
            hogs.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    sent = 0
    while not transport.get_write_buffer_size():
        transport.sendto(b"%d" % sent, peer.getsockname())
        sent += 1
    received = []
    while len(received) < sent:
        try:
            received.append(int(peer.recv(100)))
        except BlockingIOError:
            await asyncio.sleep(0)
    for fd in hogs:
        os.close(fd)
    transport.abort()
    peer.close()
    print(received == list(range(sent)))

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


def test_what_finds_no_room_is_queued_without_an_fd_to_spare(run_child: Any) -> None:
    child = run_child(EMFILE_SCRIPT)
    assert child.stdout == "True\n", child.explain()
