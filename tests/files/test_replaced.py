"""Something else stands where a regular file was a moment ago: open does what it would of anything."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

import ringloop
from support import leaks
from support.child import run_child
from support.marks import ringloop_only


async def open_often(path: Path) -> None:
    for _ in range(10):
        async with ringloop.open(path, "rb") as file:
            assert await file.read() == b"a file"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "path"
    path.write_bytes(b"a file")
    return path


async def test_a_fifo_is_waited_for(path: Path) -> None:
    await open_often(path)
    path.unlink()
    os.mkfifo(path)
    opening = asyncio.create_task(read_all(path))
    writer = threading.Thread(target=path.write_bytes, args=(b"from the other end",))
    writer.start()
    assert await opening == b"from the other end"
    writer.join()


async def test_a_fifo_is_not_waited_for_with_o_nonblock(path: Path) -> None:
    await open_often(path)
    path.unlink()
    os.mkfifo(path)
    fd = await asyncio.wait_for(ringloop.os.open(path, os.O_RDONLY | os.O_NONBLOCK), 20)
    assert not os.get_blocking(fd)
    assert os.read(fd, 1) == b""
    os.close(fd)


async def read_all(path: Path) -> bytes:
    async with ringloop.open(path, "rb") as file:
        content: bytes = await file.read()
    return content


@ringloop_only
def test_a_cancelled_open_of_a_fifo_lets_go_of_it(path: Path) -> None:
    async def main() -> None:
        await open_often(path)
        path.unlink()
        os.mkfifo(path)
        opening = asyncio.create_task(read_all(path))
        for _ in range(100):  # it may be open by then, or a worker wait in open()
            await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        while str(path) in leaks.open_fds().values():
            await asyncio.sleep(0)

    ringloop.run(main())


@ringloop_only
@pytest.mark.parametrize("end", ["loop.close()", "None", "sys.exit(0)"])
def test_what_waits_for_a_writer_ends_with_the_loop_or_the_interpreter(path: Path, end: str) -> None:
    child = run_child(
        f"""
        import asyncio, os, sys
        from pathlib import Path
        import ringloop
        from files.test_replaced import open_often

        async def begin():
            path = Path({str(path)!r})
            await open_often(path)
            path.unlink()
            os.mkfifo(path)
            tasks = [asyncio.ensure_future(ringloop.os.open(path, os.O_RDONLY)) for _ in range(20)]
            for _ in range(100):
                await asyncio.sleep(0)
            return tasks

        loop = ringloop.new_event_loop()
        tasks = loop.run_until_complete(begin())
        print(sum(task.done() for task in tasks), flush=True)
        {end}
        """,
        options=("-W", "ignore"),
    )
    assert child.stdout == "0\n", child.explain()


@ringloop_only
@pytest.mark.parametrize("way", ["os", "submit", "batch", "chain"])
def test_every_way_of_opening_waits_for_the_writer(path: Path, way: str) -> None:
    async def opened() -> int:
        if way == "os":
            fd = await ringloop.os.open(path, os.O_RDONLY)
        elif way == "submit":
            fd = await ringloop.submit("open", path, os.O_RDONLY)
        elif way == "batch":
            [fd] = await ringloop.batch([("open", path, os.O_RDONLY)])
        else:
            async with ringloop.chain() as chain:
                step = chain.open(path, os.O_RDONLY)
                chain.fd(step)
            fd = step.result()
        return fd

    async def main() -> None:
        await open_often(path)
        path.unlink()
        os.mkfifo(path)
        opening = asyncio.create_task(opened())
        writer = threading.Thread(target=path.write_bytes, args=(b"from the other end",))
        writer.start()
        fd = await opening
        assert await ringloop.os.read(fd, 100) == b"from the other end"
        os.close(fd)
        writer.join()

    ringloop.run(main())


async def test_a_directory_is_refused(path: Path) -> None:
    await open_often(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        await ringloop.open(path, "rb")
    assert caught.value.filename == str(path)


async def test_nothing_is_there(path: Path) -> None:
    await open_often(path)
    path.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        await ringloop.open(path, "rb")
    assert caught.value.filename == str(path)


async def test_another_file_is_read(path: Path) -> None:
    await open_often(path)
    other = path.with_name("other")
    other.write_bytes(b"another file, of another length")
    other.replace(path)
    assert await read_all(path) == b"another file, of another length"


async def test_a_device_is_read(path: Path) -> None:
    await open_often(path)
    path.unlink()
    path.symlink_to("/dev/null")
    assert await read_all(path) == b""


async def test_a_file_of_the_kernels_is_read(path: Path) -> None:
    await open_often(path)
    path.unlink()
    path.symlink_to("/proc/self/status")
    content = await read_all(path)
    assert content.startswith(b"Name:")
    assert content.endswith(b"\n")


async def test_a_listed_file_is_replaced(path: Path) -> None:
    async with ringloop.os.scandir(path.parent) as entries:
        async for entry in entries:
            assert entry.name == "path"
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        await ringloop.open(str(path), "rb")
