"""Acts with peers: TCP, TLS, sockets of the caller's, datagrams, pipes, a file that is sent."""

import asyncio
import contextlib
import os
import socket
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator

from lifecycle.chaos.scene import Act, Dice, Stage, give_up_after
from network.tls import NAME, client_context, server_context

HOST = "127.0.0.1"
ANSWER_SECONDS = 1.0
#: How a connection ends that one of its ends has aborted.
BROKEN = (OSError, EOFError)


@contextlib.asynccontextmanager
async def connected(
    dice: Dice, server_tls: ssl.SSLContext | None = None, client_tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """A connection to a server that sends back what it gets, and aborts now and then."""

    async def echo(reader: StreamReader, writer: StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(*BROKEN):
            while data := await reader.read(dice.choice([1, 1000, 100_000])):
                if writer.is_closing():
                    return
                writer.write(data)
                await writer.drain()
                if dice.chance(0.02):
                    writer.transport.abort()

    server = await asyncio.start_server(echo, HOST, 0, ssl=server_tls)
    with contextlib.closing(server):
        port = server.sockets[0].getsockname()[1]
        name = NAME if client_tls is not None else None
        reader, writer = await asyncio.open_connection(HOST, port, ssl=client_tls, server_hostname=name)
        with contextlib.closing(writer):
            yield reader, writer


async def talk(reader: StreamReader, writer: StreamWriter, dice: Dice) -> None:
    for _ in range(20):
        data = b"e" * dice.choice([1, 1000, 200_000])
        writer.write(data)
        if dice.chance(0.5):
            await give_up_after(ANSWER_SECONDS, reader.readexactly(len(data)))
        if dice.chance(0.02):
            writer.transport.abort()
        if writer.is_closing():
            return
        if dice.chance(0.02) and writer.can_write_eof():
            writer.write_eof()
            return


async def tcp(_: Stage, dice: Dice) -> None:
    with contextlib.suppress(*BROKEN):
        async with connected(dice) as ends:
            await talk(*ends, dice)


async def tls(_: Stage, dice: Dice) -> None:
    with contextlib.suppress(*BROKEN):
        async with connected(dice, server_context(), client_context()) as ends:
            await talk(*ends, dice)


async def send_file(stage: Stage, dice: Dice) -> None:
    with contextlib.suppress(*BROKEN):
        async with connected(dice) as (reader, writer):
            answer = asyncio.create_task(reader.read(-1))
            try:
                with open(stage.big, "rb") as file:
                    await asyncio.get_running_loop().sendfile(writer.transport, file)
            finally:
                writer.transport.abort()
                answer.cancel()
                await asyncio.wait([answer])


async def own_sockets(_: Stage, dice: Dice) -> None:
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)

    async def send() -> None:
        with contextlib.suppress(OSError):
            await loop.sock_sendall(left, b"s" * 1_000_000)
            left.shutdown(socket.SHUT_WR)

    with left, right, contextlib.suppress(OSError):
        async with dice.meanwhile(0.3, dice.choice([left.close, right.close])):
            sending = asyncio.create_task(send())
            try:
                while await loop.sock_recv(right, 100_000):
                    pass
            finally:
                sending.cancel()
                await asyncio.wait([sending])


class Endpoint(asyncio.DatagramProtocol):
    """Sends most of what it gets back to where it came from."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: object) -> None:
        if self.dice.chance(0.7):
            self.transport.sendto(data, address)


async def datagrams(_: Stage, dice: Dice) -> None:
    loop = asyncio.get_running_loop()
    first, _ = await loop.create_datagram_endpoint(lambda: Endpoint(dice), local_addr=(HOST, 0))
    with contextlib.closing(first):
        address = first.get_extra_info("sockname")
        second, _ = await loop.create_datagram_endpoint(lambda: Endpoint(dice), remote_addr=address)
        try:
            for _ in range(50):
                second.sendto(b"d" * dice.choice([0, 10, 60_000]))
                await dice.nap()
        finally:
            second.abort()


class Reluctant(asyncio.Protocol):
    """Pauses for a moment now and then."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice

    def connection_made(self, transport: asyncio.ReadTransport) -> None:
        self.transport = transport

    def data_received(self, _: bytes) -> None:
        if self.dice.chance(0.05):
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.001, self.transport.resume_reading)


async def pipe(_: Stage, dice: Dice) -> None:
    loop = asyncio.get_running_loop()
    ends = os.pipe()
    # The transports own and close these.
    reading, writing = os.fdopen(ends[0], "rb", 0), os.fdopen(ends[1], "wb", 0)
    try:
        reader, _ = await loop.connect_read_pipe(lambda: Reluctant(dice), reading)
    except BaseException:
        writing.close()
        raise
    with contextlib.closing(reader):
        writer, _ = await loop.connect_write_pipe(lambda: Reluctant(dice), writing)
        try:
            for _ in range(30):
                writer.write(b"p" * dice.choice([10, 70_000, 300_000]))
                await dice.nap()
        finally:
            dice.choice([writer.close, writer.abort])()


ACTS: tuple[Act, ...] = (tcp, tls, send_file, own_sockets, datagrams, pipe)
