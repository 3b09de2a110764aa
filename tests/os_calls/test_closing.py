"""What a cancelled task must have closed when it is over, also where others use up what runs at once."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import ringloop.os
import ringloop.shutil
from ringloop import _closing, _copying
from support import leaks

# More than there can be.
NO_FD = (1 << 31) - 1


def open_below(directory: Path) -> list[str]:
    return [target for target in leaks.open_fds().values() if target.startswith(str(directory))]


@pytest.fixture
def cancel_soon() -> Callable[[], None]:
    """Cancels the running task as soon as it waits. What it does next cannot begin before, unless it is begun
    out of turn: nothing is done at once any more in this pass, and no thread is free.
    """

    def cancel_soon() -> None:
        loop, task, cancelled = asyncio.get_running_loop(), asyncio.current_task(), threading.Event()
        assert task is not None
        loop.set_default_executor(ThreadPoolExecutor(1))
        loop.run_in_executor(None, cancelled.wait)
        loop.call_soon(task.cancel)
        loop.call_soon(cancelled.set)
        had_its_turn = True
        while had_its_turn:
            call = ringloop.os.stat("/")
            try:
                call.send(None)
            except StopIteration:
                continue
            call.close()
            had_its_turn = False

    return cancel_soon


async def test_a_copy(
    tmp_path: Path, cancel_soon: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def copy_content(*args: Any) -> None:
        cancel_soon()

    monkeypatch.setattr(_copying, "_copy_content", copy_content)
    (tmp_path / "file").touch()
    copying = asyncio.create_task(ringloop.shutil.copyfile(tmp_path / "file", tmp_path / "copy"))
    await asyncio.wait([copying])
    assert copying.cancelled() or copying.result()  # it may close them at once
    assert open_below(tmp_path) == []


async def test_a_walk_with_fds(tmp_path: Path, cancel_soon: Callable[[], None]) -> None:
    async def walk() -> None:
        async for _ in ringloop.os.fwalk(tmp_path):
            cancel_soon()

    walking = asyncio.create_task(walk())
    await asyncio.wait([walking])
    assert walking.cancelled() or walking.result() is None
    assert open_below(tmp_path) == []


async def test_a_tree_that_is_removed(
    tmp_path: Path, cancel_soon: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unlink(*args: Any) -> None:
        cancel_soon()

    monkeypatch.setattr(ringloop.shutil._RemoveTree, "_unlink", unlink)
    (tmp_path / "tree").mkdir()
    removing = asyncio.create_task(ringloop.shutil.rmtree(tmp_path / "tree"))
    await asyncio.wait([removing])
    assert removing.cancelled()
    assert open_below(tmp_path) == []


async def test_it_is_cancelled_though_it_closes(tmp_path: Path, cancel_soon: Callable[[], None]) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)

    async def close() -> None:
        cancel_soon()
        await _closing.close_surely(fd)
        await asyncio.sleep(0)

    closing = asyncio.create_task(close())
    await asyncio.wait([closing])
    assert closing.cancelled()
    assert open_below(tmp_path) == []


async def test_an_error_is_told_and_all_others_are_closed(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    with pytest.raises(OSError, match="Bad file descriptor") as raised:
        await _closing.close_surely(first, NO_FD, second)
    assert raised.value.errno == errno.EBADF
    assert open_below(tmp_path) == []


async def test_cancelled_again_and_again_it_waits() -> None:
    loop = asyncio.get_running_loop()
    ends = [loop.create_future() for _ in range(2)]
    waiting = asyncio.create_task(_closing.wait_surely(ends))
    for end in ends:
        for _ in range(3):
            await asyncio.sleep(0)
            assert waiting.cancel()
        await asyncio.sleep(0)
        assert not waiting.done()
        end.set_result(None)
    with pytest.raises(asyncio.CancelledError):
        await waiting
