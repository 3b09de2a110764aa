"""`async with` is left although the task is cancelled while the file is flushed and closed."""

import asyncio
import gc
import os
import select
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ringloop
import ringloop.aiofiles.tempfile
from support.limits import no_file_longer_than

DATA = bytes(range(256)) * 1000


async def cancelled_after(steps: int, body: Callable[[], Any]) -> bool:
    """Runs `body()` in a task that is cancelled after so many passes of the loop; whether it was in time."""
    task = asyncio.ensure_future(body())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def use_up_turns(count: int) -> None:
    for _ in range(count):
        await ringloop.os.stat("/")


@pytest.mark.parametrize("keywords", [{}, {"buffering": 0}, {"write_behind": 1 << 20}], ids=str)
@pytest.mark.parametrize("turns", [0, 7])
async def test_all_is_written_and_closed(tmp_path: Path, keywords: dict[str, int], turns: int) -> None:
    path = tmp_path / "file"
    for steps in range(40):
        file = await ringloop.open(path, "wb", **keywords)
        written = 0

        async def leave(file: Any = file) -> None:
            nonlocal written
            async with file:
                written = await file.write(DATA)
                await use_up_turns(turns)

        in_time = await cancelled_after(steps, leave)
        if in_time and not written:
            await file.close()
            continue
        assert file.closed
        assert path.read_bytes() == DATA[:written]


async def test_however_often_it_is_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = await ringloop.open(path, "w", encoding="utf-16")

    async def leave() -> None:
        async with file:
            await file.write("text")

    task = asyncio.ensure_future(leave())
    await asyncio.sleep(0)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    assert file.closed
    assert path.read_text("utf-16") == "text"


async def test_what_fails_then_is_told(tmp_path: Path) -> None:
    file = await ringloop.open(tmp_path / "file", "wb")

    async def leave() -> None:
        async with file:
            await file.write(DATA)

    with no_file_longer_than(1000):
        task = asyncio.ensure_future(leave())
        while not (tmp_path / "file").stat().st_size:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(OSError, match="File too large"):
            await task
    assert file.closed


async def test_a_pipe_that_nobody_reads_keeps_nobody(tmp_path: Path) -> None:
    """What is left to write stays with the file, which is still open."""
    reader, writer = os.pipe()
    file = await ringloop.open(writer, "wb", buffering=1 << 20)

    async def leave() -> None:
        async with file:
            await file.write(DATA)

    task = asyncio.ensure_future(leave())
    while not select.select([reader], [], [], 0)[0]:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not file.closed
    closing = asyncio.ensure_future(file.close())
    async with ringloop.open(reader, "rb") as other:
        assert await other.read() == DATA
    await closing


async def test_temporary_files_and_directories_go(tmp_path: Path) -> None:
    for steps in range(60):

        async def leave() -> None:
            async with ringloop.aiofiles.tempfile.TemporaryDirectory(dir=tmp_path) as directory:
                async with ringloop.aiofiles.tempfile.NamedTemporaryFile(dir=directory) as file:
                    await file.write(DATA)
                Path(directory, "other").touch()

        with warnings.catch_warnings():
            # What was made for nobody, and not entered, goes with its object.
            warnings.simplefilter("ignore", ResourceWarning)
            await cancelled_after(steps, leave)
            gc.collect()
        assert os.listdir(tmp_path) == [], steps
