"""Which loop a call goes to: the one that runs in its thread, as asyncio has it."""

import asyncio
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ringloop
from support.loops import LoopFactory


def test_calls_see_a_loop_that_runs_inside_of_another(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data")
    sizes = []

    def run_another() -> None:
        # Not in a task: from 3.14 on no other could run in this thread meanwhile.
        asyncio._set_running_loop(None)
        try:
            for call in (ringloop.os.stat(path), ringloop.open(path)):
                with pytest.raises(RuntimeError, match="no running event loop"):
                    call.send(None)
            # asyncio's own: what was asked of the outer loop would never come back.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                sizes.append(runner.run(size_of(path)))
        finally:
            asyncio._set_running_loop(loop)
        loop.create_task(ask_outside())

    async def ask_outside() -> None:
        sizes.append(await size_of(path))
        loop.stop()

    for _ in range(10):
        loop.call_soon(run_another)
        loop.run_forever()
    assert sizes == [4] * 20


async def size_of(path: Path) -> int:
    async with asyncio.timeout(30):
        return (await ringloop.os.stat(path)).st_size


async def test_no_loop_runs_in_a_forked_child(tmp_path: Path) -> None:
    await ringloop.os.stat(tmp_path)
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # There are threads, pytest's and the loop's; the child has no use for them.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            ringloop.os.stat(tmp_path).send(None)
            answer = "it was called"
        except BaseException as error:
            answer = repr(error)
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        assert file.read() == "RuntimeError('no running event loop')"
    os.waitpid(pid, 0)


def test_loops_in_two_threads_at_once(tmp_path: Path, loop_factory: LoopFactory) -> None:
    async def main() -> list[asyncio.AbstractEventLoop]:
        found = []
        for _ in range(50):
            await ringloop.os.stat(tmp_path)
            async with ringloop.open(tmp_path / "file") as file:
                await file.read()
            found.append(asyncio.get_running_loop())
            await asyncio.sleep(0)
        return found

    def run() -> bool:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return set(runner.run(main())) == {runner.get_loop()}

    (tmp_path / "file").write_bytes(b"data")
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: run(), range(8)))
