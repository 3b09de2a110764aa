"""The end of a stream behind the last of its data: nothing overtakes, and nothing is left out."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from network.peers import TCP_CLOSE, Background, close_with_reset, tcp_pair, tcp_state, unix_pair
from network.recorders import AnyRecorder, BufferedRecorder, Recording, connection, drive, settle
from support.waiting import wait_until

BIG = bytes(range(256)) * 600


async def answer(protocol: Recording) -> None:
    protocol.transport.write(b"answer")


def begin_task(protocol: Recording) -> None:
    protocol.task = asyncio.ensure_future(answer(protocol))  # type: ignore[attr-defined]


def call_soon(method: str) -> Callable[[Recording], None]:
    return lambda protocol: asyncio.get_running_loop().call_soon(getattr(protocol.transport, method)) and None


REPLIES = {
    "task": begin_task,
    "close": call_soon("close"),
    "abort": call_soon("abort"),
    "pause": call_soon("pause_reading"),
}


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("is_reset", [False, True], ids=["end", "reset"])
def test_what_data_causes_comes_before_the_end(
    is_reset: bool, reply: str, kind: type[AnyRecorder], same_as_asyncio: Any
) -> None:
    """A selector's loop reads once in a pass: what was scheduled for the data runs before the end is seen."""

    def scenario(loop_factory: Any) -> Any:
        async def main() -> Any:
            protocol = kind(data_received=REPLIES[reply])
            async with connection(protocol) as (transport, peer):
                sock = transport.get_extra_info("socket")
                peer.sendall(b"request")
                if is_reset:
                    close_with_reset(peer)
                    wait_until(lambda: tcp_state(sock) == TCP_CLOSE, "the reset has arrived")
                else:
                    peer.shutdown(socket.SHUT_WR)
                await settle(10)
                return protocol.trace

        return drive(loop_factory, main)

    same_as_asyncio(scenario)


@pytest.mark.parametrize("pair", [tcp_pair, unix_pair])
@pytest.mark.parametrize("length", [20_000, 40_000, len(BIG)])
async def test_small_buffers_get_all_that_came_before_the_end(length: int, pair: Any) -> None:
    """A connection that received much goes over to small receives, and back."""
    protocol = BufferedRecorder(buffer_bytes=100)
    async with connection(protocol, pair) as (_, peer):
        sending = Background(peer.sendall, BIG[:length])
        await protocol.until_received(length // 2)
        sending.finish()
        peer.close()
        await protocol.until("connection_lost")
    assert protocol.received == BIG[:length]
    assert protocol.names[-2:] == ["eof_received", "connection_lost"]
    assert protocol.error is None


@pytest.mark.parametrize("pair", [tcp_pair, unix_pair])
async def test_small_buffers_get_all_that_was_there_at_once(pair: Any) -> None:
    protocol = BufferedRecorder(buffer_bytes=100, eof_received=lambda self: True)
    async with connection(protocol, pair) as (_, peer):
        await settle()
        sending = Background(peer.sendall, BIG)
        sending_ends = Background(lambda: (sending.finish(), peer.close()))
        await protocol.until("eof_received")
        sending_ends.finish()
        await settle(5)
    assert protocol.received == BIG
    assert protocol.names.count("eof_received") == 1
