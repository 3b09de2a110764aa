"""Files with write-behind: what is accepted is written, in order; what fails is told and stays."""

import asyncio
import errno
import gc
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

import ringloop
from support.limits import no_file_longer_than
from support.loops import LoopFactory

LARGE = bytes(range(256)) * 256
LIMIT = 1 << 20
TOO_LARGE = os.strerror(errno.EFBIG)


async def write_until_told(file: Any) -> None:
    while True:
        await file.write(b"")
        await asyncio.sleep(0)


async def test_a_write_does_not_wait(tmp_path: Path) -> None:
    others: list[int] = []
    async with ringloop.open(tmp_path / "file", "wb", write_behind=LIMIT) as file:
        asyncio.get_running_loop().call_soon(others.append, 1)
        assert await file.write(LARGE) == len(LARGE)
        assert await file.write(LARGE) == len(LARGE)
        assert not others
        assert await file.tell() == 2 * len(LARGE)
    assert (tmp_path / "file").read_bytes() == 2 * LARGE


@pytest.mark.parametrize("piece", [7, 1000, 20_000])
async def test_no_more_waits_than_asked(tmp_path: Path, piece: int) -> None:
    path, accepted = tmp_path / "file", 0
    async with ringloop.open(path, "wb", buffering=64, write_behind=50_000) as file:
        while accepted < 2_000_000 and accepted < 20_000 * piece:
            accepted += await file.write(bytes(piece))
            assert accepted - path.stat().st_size <= 50_000 + 64
    assert path.stat().st_size == accepted


@pytest.mark.parametrize("mode", ["wb", "ab", "xb", "w+b"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_pieces_of_all_sizes_in_order(tmp_path: Path, mode: str, kind: Any) -> None:
    path = tmp_path / "file"
    if mode == "ab":
        path.write_bytes(b"before")
    expected = path.read_bytes() if mode == "ab" else b""
    async with ringloop.open(path, mode, buffering=1000, write_behind=100_000) as file:
        for number in range(200):
            piece = LARGE[: number * 4999 % 65_537]
            lent = kind(bytearray(piece) if kind is memoryview else piece)
            assert await file.write(lent) == len(piece)
            if kind is bytearray:
                lent[:] = bytes(len(piece))  # was copied
            expected += piece
        await file.writelines([b"last ", LARGE])
        expected += b"last " + LARGE
        assert await file.tell() == len(expected)
        # More than one system call takes at once.
        await file.write(LARGE * 40)
    assert path.read_bytes() == expected + LARGE * 40


async def test_calls_of_many_tasks_in_their_order(tmp_path: Path) -> None:
    async with ringloop.open(tmp_path / "file", "w+b", buffering=16, write_behind=30_000) as file:
        pieces = [b"%03d," % number * (number * 37 % 6000) for number in range(200)]
        done = await asyncio.gather(*map(file.write, pieces), file.tell(), file.seek(3), file.read(1))
        assert done == [*map(len, pieces), sum(map(len, pieces)), 3, b","]
        await file.seek(0)
        assert await file.read() == b"".join(pieces)


async def test_every_other_call_comes_after_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    async with ringloop.open(path, "w+b", write_behind=LIMIT) as file:
        await file.write(LARGE)
        assert await file.pread(10, 0) == LARGE[:10]
        await file.write(LARGE)
        await file.flush()
        assert path.stat().st_size == 2 * len(LARGE)
        await file.write(LARGE)
        assert await file.truncate() == 3 * len(LARGE)
        await file.write(LARGE)
        await file.pwrite(b"at the start", 0)
        await file.write(LARGE)
        await file.fsync()
        assert path.stat().st_size == 5 * len(LARGE)
        await file.write(LARGE)
        assert await file.read() == b""
        await file.write(LARGE)
        await file.raw.write(b"beside the buffer")
        await file.write(LARGE)
    assert path.read_bytes() == b"at the start" + LARGE[12:] + 6 * LARGE + b"beside the buffer" + LARGE


async def test_text(tmp_path: Path) -> None:
    lines = [f"{number} näher\n" * (number % 50) for number in range(2000)]
    async with ringloop.open(tmp_path / "file", "w+", encoding="utf-16", write_behind=LIMIT) as file:
        for line in lines:
            await file.write(line)
        await file.seek(0)
        assert [line async for line in file] == "".join(lines).splitlines(keepends=True)


async def test_the_kernels_position_follows(tmp_path: Path) -> None:
    async with ringloop.open(tmp_path / "file", "wb", write_behind=LIMIT) as file:
        fd = file.fileno()
        await file.write(LARGE)
        await file.flush()
        assert os.lseek(fd, 0, os.SEEK_CUR) == len(LARGE)
        os.lseek(fd, 100, os.SEEK_SET)
        await file.write(LARGE)
    assert (tmp_path / "file").stat().st_size == len(LARGE) + 100


@pytest.mark.parametrize("told_by", ["write", "flush", "fsync", "read"])
async def test_a_failure_is_told_by_the_next_call_and_nothing_is_lost(tmp_path: Path, told_by: str) -> None:
    path = tmp_path / "file"
    async with ringloop.open(path, "w+b", write_behind=LIMIT) as file:
        with no_file_longer_than(len(LARGE) + 100):
            for _ in range(4):
                await file.write(LARGE)
            with pytest.raises(OSError, match=TOO_LARGE):
                await (write_until_told(file) if told_by == "write" else getattr(file, told_by)())
            assert path.stat().st_size == len(LARGE) + 100
            # It is told once; a flush tries again.
            with pytest.raises(OSError, match=TOO_LARGE):
                await file.flush()
        assert await file.write(b"the end") == 7
        assert await file.tell() == 4 * len(LARGE) + 7
    assert path.read_bytes() == 4 * LARGE + b"the end"


async def test_a_failure_is_told_by_close_which_closes(tmp_path: Path) -> None:
    file = await ringloop.open(tmp_path / "file", "wb", write_behind=LIMIT)
    with no_file_longer_than(100):
        await file.write(LARGE)
        with pytest.raises(OSError, match=TOO_LARGE):
            await file.close()
    assert file.closed
    assert (tmp_path / "file").stat().st_size == 100


async def test_a_write_that_was_cancelled_has_written_nothing(tmp_path: Path) -> None:
    accepted = []
    async with ringloop.open(tmp_path / "file", "wb", write_behind=1) as file:
        for number in range(100):
            piece = bytes([number]) * 20_000
            task = asyncio.ensure_future(file.write(piece))
            await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                continue
            accepted.append(piece)
    assert (tmp_path / "file").read_bytes() == b"".join(accepted)


async def test_a_flush_that_was_cancelled_loses_nothing(tmp_path: Path) -> None:
    async with ringloop.open(tmp_path / "file", "wb", write_behind=LIMIT) as file:
        for _ in range(20):
            await file.write(LARGE)
            task = asyncio.ensure_future(file.flush())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert (tmp_path / "file").read_bytes() == LARGE * 20


@pytest.mark.parametrize("mode", ["w", "wb"])
async def test_a_forgotten_file_warns_and_loses_nothing(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    data: Any = "x" * 100_000 if mode == "w" else b"x" * 100_000
    file = await ringloop.open(path, mode, write_behind=LIMIT)
    for _ in range(5):
        await file.write(data)
    kept = [file]
    del file
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kept.clear()
        # What is in flight holds it.
        while path.stat().st_size != 500_000 or not caught:
            await asyncio.sleep(0)
            gc.collect()
    assert [one.category for one in caught] == [ResourceWarning]
    assert path.read_bytes() == b"x" * 500_000


def written_on_a_loop_of_its_own(path: Path, loop_factory: LoopFactory) -> Any:
    """The file, to which ten large pieces were given, after its loop was closed."""

    async def main() -> Any:
        file = await ringloop.open(path, "wb", write_behind=LIMIT)
        for _ in range(10):
            await file.write(LARGE)
        return file

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main())


def test_a_loop_that_closes_in_the_middle_loses_nothing(tmp_path: Path, loop_factory: LoopFactory) -> None:
    path = tmp_path / "file"
    kept = [written_on_a_loop_of_its_own(path, loop_factory)]
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(kept[0].write(LARGE))
        runner.run(kept[0].close())
    assert path.read_bytes() == LARGE * 11


def test_a_file_forgotten_after_its_loop_loses_nothing(tmp_path: Path, loop_factory: LoopFactory) -> None:
    path = tmp_path / "file"
    kept = [written_on_a_loop_of_its_own(path, loop_factory)]
    with pytest.warns(ResourceWarning, match="unclosed file"):
        kept.clear()
    assert path.read_bytes() == LARGE * 10


@pytest.mark.parametrize("kept", ["nowhere", "by the main module", "by a callback of the loop"])
def test_an_interpreter_that_ends_in_the_middle_loses_nothing(
    tmp_path: Path, run_child: Any, kept: str
) -> None:
    run_child(
        f"""
import ringloop

async def main():
    file = await ringloop.open({str(tmp_path / "file")!r}, "wb", write_behind={LIMIT * 4})
    for _ in range(40):
        await file.write(bytes(range(256)) * 256)
    return file

loop = new_event_loop()
file = loop.run_until_complete(main())
match {kept!r}:
    case "nowhere":
        del file
    case "by a callback of the loop":
        loop.call_soon(file.fileno)
        del file
"""
    )
    assert (tmp_path / "file").read_bytes() == LARGE * 40


async def test_what_is_not_regular_is_written_without(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    end = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    async with ringloop.open(tmp_path / "fifo", "wb", buffering=4, write_behind=LIMIT) as file:
        await file.write(b"more than fits")
        assert os.read(end, 100) == b"more than fits"
    os.close(end)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mode": "wb", "write_behind": -1}, ValueError, "must not be negative"),
        ({"mode": "wb", "buffering": 0, "write_behind": 1}, ValueError, "without a buffer"),
        ({"mode": "r", "write_behind": 1}, ValueError, "not open for writing"),
        ({"mode": "wb", "write_behind": "1"}, TypeError, "cannot be interpreted as an integer"),
        ({"mode": "wb", "write_behind": None}, TypeError, "cannot be interpreted as an integer"),
    ],
)
async def test_arguments(tmp_path: Path, arguments: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        await ringloop.open(tmp_path / "file", **arguments)
    assert not (tmp_path / "file").exists()
