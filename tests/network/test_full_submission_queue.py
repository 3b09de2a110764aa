"""More is cancelled in one pass than the submission queue holds: what completes meanwhile stays completed."""

import asyncio
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from network.peers import TIMEOUT

CONNECTIONS = 600


@pytest.fixture(autouse=True)
def enough_fds() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Lost(asyncio.Protocol):
    """Knows when its transport has gone."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(None)


async def test_aborted_all_at_once_when_the_peers_have_gone() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs, protocols = [], [], []
    for _ in range(CONNECTIONS):
        left, right = socket.socketpair()
        ours.append(left)
        theirs.append(right)
        protocols.append(await loop.create_connection(Lost, sock=left))
    await asyncio.sleep(0)
    for right in theirs:
        right.close()
    for transport, _ in protocols:
        transport.abort()
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*(protocol.lost for _, protocol in protocols))
        while any(left.fileno() >= 0 for left in ours):
            await asyncio.sleep(0)


async def test_pipes_closed_all_at_once_when_their_writers_have_gone() -> None:
    loop = asyncio.get_running_loop()
    files, writers, protocols = [], [], []
    for _ in range(CONNECTIONS):
        reader, writer = os.pipe()
        files.append(os.fdopen(reader, "rb", 0))
        writers.append(writer)
        protocols.append(await loop.connect_read_pipe(Lost, files[-1]))
    await asyncio.sleep(0)
    for writer in writers:
        os.close(writer)
    for transport, _ in protocols:
        transport.close()
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*(protocol.lost for _, protocol in protocols))
        while not all(file.closed for file in files):
            await asyncio.sleep(0)
