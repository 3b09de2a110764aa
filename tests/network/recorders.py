"""Protocols that write down what a transport tells them, and the ways to wait for it.

A trace is the list of callbacks as tuples: ("connection_made",), ("data_received", b"…"), ("eof_received",),
("pause_writing",), ("resume_writing",), ("connection_lost", the exception's type name or None). What a
BufferedProtocol is told by `buffer_updated` is written down as `data_received`, so that the traces of both
kinds of protocol compare equal.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from network.peers import TIMEOUT, Pair, tcp_pair

Event = tuple[Any, ...]
Action = Callable[[Any], object]


class Recording:
    """What both kinds of recording protocol share. `on` maps a callback's name to what to do inside it."""

    def __init__(self, **on: Action) -> None:
        self.events: list[Event] = []
        self.on = on
        self.error: BaseException | None = None
        self._transport: asyncio.Transport | None = None
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def transport(self) -> asyncio.Transport:
        """The transport that `connection_made` brought."""
        assert self._transport is not None, "connection_made was not called yet"
        return self._transport

    @property
    def names(self) -> list[str]:
        """The callbacks in order."""
        return [event[0] for event in self.events]

    @property
    def received(self) -> bytes:
        """All bytes received so far."""
        return b"".join(event[1] for event in self.events if event[0] == "data_received")

    @property
    def trace(self) -> list[Event]:
        """The events, neighbouring `data_received` joined: how a stream is cut is the kernel's affair."""
        joined: list[Event] = []
        for event in self.events:
            if event[0] == "data_received" and joined and joined[-1][0] == "data_received":
                joined[-1] = ("data_received", joined[-1][1] + event[1])
            else:
                joined.append(event)
        return joined

    async def until(self, condition: str | Callable[[], object]) -> None:
        """Waits until the named callback was called, or until the condition holds after a callback."""
        holds = condition if callable(condition) else (lambda: condition in self.names)
        async with asyncio.timeout(TIMEOUT):
            while not holds():
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                await waiter

    async def until_received(self, count: int) -> None:
        """Waits until at least `count` bytes were received."""
        await self.until(lambda: len(self.received) >= count)

    def happened(self, name: str, *details: Any) -> Any:
        """Writes the event down, wakes who waits for it, does what `on` says; its result."""
        self.events.append((name, *details))
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
        action = self.on.get(name)
        return action(self) if action is not None else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.happened("connection_made")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.error = exc
        self.happened("connection_lost", None if exc is None else type(exc).__name__)

    def pause_writing(self) -> None:
        self.happened("pause_writing")

    def resume_writing(self) -> None:
        self.happened("resume_writing")

    def eof_received(self) -> bool | None:
        return self.happened("eof_received")


class Recorder(Recording, asyncio.Protocol):
    """A Protocol that records."""

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.happened("data_received", data)


class BufferedRecorder(Recording, asyncio.BufferedProtocol):
    """A BufferedProtocol that records; its one buffer has `buffer_bytes` bytes."""

    def __init__(self, *, buffer_bytes: int = 64 * 1024, **on: Action) -> None:
        super().__init__(**on)
        self.buffer = bytearray(buffer_bytes)
        self.size_hints: set[int] = set()

    def get_buffer(self, sizehint: int) -> Any:
        self.size_hints.add(sizehint)
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.happened("data_received", bytes(self.buffer[:nbytes]))


AnyRecorder = Recorder | BufferedRecorder
KINDS: list[type[AnyRecorder]] = [Recorder, BufferedRecorder]


class Tally(asyncio.Protocol):
    """Counts and remembers bytes in one bytearray; for streams too large to keep every event of."""

    def __init__(self, expected: int) -> None:
        self.received = bytearray()
        self.complete = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()
        self._expected = expected

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.note()

    def note(self) -> None:
        """Resolves `complete` once all expected bytes are there."""
        if len(self.received) >= self._expected and not self.complete.done():
            self.complete.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)


async def settle(rounds: int = 3) -> None:
    """Returns when the loop has looked at its sockets `rounds` times: what was ready is delivered.

    A byte through a socket pair of its own is the measure, for nothing may be assumed of a loop's iterations.
    """
    loop = asyncio.get_running_loop()
    sender, receiver = socket.socketpair()
    with sender, receiver:
        receiver.setblocking(False)
        try:
            for _ in range(rounds):
                arrived = loop.create_future()
                loop.add_reader(receiver, arrived.set_result, None)
                sender.send(b"x")
                async with asyncio.timeout(TIMEOUT):
                    await arrived
                loop.remove_reader(receiver)
                receiver.recv(1)
        finally:
            loop.remove_reader(receiver)


async def until_closed(sock: socket.socket) -> None:
    """Waits until the transport that owns `sock` has closed it."""
    async with asyncio.timeout(TIMEOUT):
        while sock.fileno() != -1:
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def connection(
    protocol: asyncio.BaseProtocol, make_pair: Callable[[], Pair] = tcp_pair
) -> AsyncIterator[tuple[asyncio.Transport, socket.socket]]:
    """A transport of the running loop for `protocol`, and the blocking socket at the other end. Ends both."""
    ours, peer = make_pair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    try:
        yield transport, peer
    finally:
        peer.close()
        if ours.fileno() != -1:  # asyncio's abort() fails on a transport that close() has flushed and ended
            transport.abort()
        await until_closed(ours)


@contextlib.asynccontextmanager
async def server(
    protocol_factory: Callable[[], asyncio.BaseProtocol], host: str = "127.0.0.1", **keywords: Any
) -> AsyncIterator[tuple[asyncio.Server, tuple[str, int]]]:
    """A server of the running loop on a free port, and its address. Its clients are left open."""
    loop = asyncio.get_running_loop()
    made = await loop.create_server(protocol_factory, host, 0, **keywords)
    try:
        yield made, made.sockets[0].getsockname()[:2]
    finally:
        made.close()


def drive(loop_factory: Callable[[], asyncio.AbstractEventLoop], main: Callable[[], Any]) -> Any:
    """The result of the coroutine function `main` on a new loop of the factory, which is closed then."""

    async def guarded() -> Any:
        async with asyncio.timeout(2 * TIMEOUT):
            return await main()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(guarded())
