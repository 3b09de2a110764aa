"""Which loop a call goes to: the one that runs in its thread, as asyncio has it."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ringloop
from support.loops import LoopFactory


async def test_calls_see_a_loop_that_runs_inside_of_another(tmp_path: Path) -> None:
    outer = asyncio.get_running_loop()
    (tmp_path / "file").write_bytes(b"data")
    assert await ringloop.os.path.getsize(tmp_path / "file") == 4
    for _ in range(20):
        asyncio._set_running_loop(None)
        try:
            with pytest.raises(RuntimeError, match="no running event loop"):
                ringloop.os.stat(tmp_path / "file").send(None)
            with pytest.raises(RuntimeError, match="no running event loop"):
                ringloop.open(tmp_path / "file").send(None)
            # asyncio's own: what ran in the outer loop would never come back.
            inner = asyncio.SelectorEventLoop()
            status = inner.run_until_complete(asyncio.wait_for(ringloop.os.stat(tmp_path / "file"), 30))
            inner.run_until_complete(inner.shutdown_default_executor())
            inner.close()
        finally:
            asyncio._set_running_loop(outer)
        assert status.st_size == 4
    assert await ringloop.os.path.getsize(tmp_path / "file") == 4


async def test_no_loop_runs_in_a_forked_child(tmp_path: Path) -> None:
    await ringloop.os.stat(tmp_path)
    reader, writer = os.pipe()
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
