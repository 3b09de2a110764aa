"""Where a file stands: after reads past the buffer, of what somebody else opened, after short writes."""

import os
from pathlib import Path
from typing import Any

import pytest

import ringloop
from support.child import run_child
from support.marks import ringloop_only

LINES = b"".join(b"%07d\n" % number for number in range(40_000))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(LINES)
    return path


READS = {
    "all": ("read", ()),
    "much": ("read", (60_000,)),
    "more than there is": ("read", (400_000,)),
    "read1": ("read1", (60_000,)),
    "readinto": ("readinto", (60_000,)),
    "readinto1": ("readinto1", (60_000,)),
}


@pytest.mark.parametrize("target", [319_992, 60_002, 8, -10, -8190])
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("before", [0, 10])
@pytest.mark.parametrize("is_cold", [False, True])
async def test_a_seek_after_a_read_past_the_buffer(
    is_cold: bool, before: int, read: str, target: int, path: Path
) -> None:
    method, arguments = READS[read]
    if is_cold:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    async with ringloop.open(path, "rb") as file:
        assert await file.read(before) == LINES[:before]
        if "into" in method:
            buffer = bytearray(*arguments)
            count = await getattr(file, method)(buffer)
            data = bytes(buffer[:count])
        else:
            data = await getattr(file, method)(*arguments)
        at = before + len(data)
        assert data
        assert data == LINES[before:at]
        if target < 0:
            at = max(at + target, 0)
            assert await file.seek(at - await file.tell(), os.SEEK_CUR) == at
        else:
            at = await file.seek(target)
            assert at == target
        assert await file.read(8) == LINES[at : at + 8]
        assert await file.tell() == at + 8


async def test_a_text_seek_after_a_read_past_the_buffer(path: Path) -> None:
    with open(path, encoding="ascii") as theirs:
        async with ringloop.open(path, encoding="ascii") as ours:
            for read, target in (("readline", 319_992), ("read", 8), ("readline", 60_000)):
                assert await getattr(ours, read)() == getattr(theirs, read)()
                assert await ours.read() == theirs.read()
                assert await ours.seek(target) == theirs.seek(target)
                assert await ours.read(8) == theirs.read(8)
                assert await ours.tell() == theirs.tell()


def opened_behind(path: str, flags: int) -> int:
    fd = os.open(path, flags)
    os.lseek(fd, 5, os.SEEK_SET)
    return fd


def opened_to_append(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_APPEND)


@pytest.mark.parametrize("opener", [opened_behind, opened_to_append])
@pytest.mark.parametrize("mode", ["rb", "r+b", "ab", "a+b"])
@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("is_fd", [False, True])
async def test_what_somebody_else_opened(
    is_fd: bool, buffering: int, mode: str, opener: Any, tmp_path: Path
) -> None:
    results: list[list[Any]] = []
    for way, opening in ("theirs", open), ("ours", ringloop.open):
        path = tmp_path / way
        path.write_bytes(b"0123456789")
        flags = os.O_RDONLY if mode == "rb" else os.O_RDWR
        what: Any = opener(path, flags | (os.O_APPEND if "a" in mode else 0)) if is_fd else path
        result: Any = opening(what, mode, buffering, **({} if is_fd else {"opener": opener}))
        file = await result if way == "ours" else result
        outcome: list[Any] = []
        calls: list[tuple[str, tuple[Any, ...]]] = [("tell", ())]
        if mode != "ab":
            calls += [("read", (2,)), ("tell", ())]
        if mode != "rb":
            calls += [("write", (b"abc",)), ("flush", ()), ("tell", ())]
        if mode != "ab":
            calls += [("read", (5,)), ("tell", ())]
        calls += [("close", ())]
        for name, given in calls:
            done = getattr(file, name)(*given)
            outcome.append(await done if way == "ours" else done)
        results.append([*outcome, path.read_bytes()])
    assert results[0] == results[1]


@ringloop_only
@pytest.mark.parametrize("write", ["os.write", "os.writev", "submit", "append"])
def test_after_a_short_write_the_file_stands_behind_it(
    write: str, ringloop_driver: str, tmp_path: Path
) -> None:
    """io_uring has a thread try the rest, and when that fails forgets to move the position (6.18)."""
    run_child(
        f"""
        import os, resource, ringloop, signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        path = {str(tmp_path / "file")!r}

        async def main():
            fd = os.open(path, os.O_RDWR | os.O_CREAT | (os.O_APPEND if {write!r} == "append" else 0))

            async def write(data):
                if {write!r} == "os.writev":
                    return await ringloop.os.writev(fd, [data[:10], data[10:]])
                if {write!r} == "os.write":
                    return await ringloop.os.write(fd, data)
                if {write!r} == "submit":
                    return await ringloop.submit("write", fd, data)
                return await file.write(data)

            file = await ringloop.open(path, "ab", 0)
            assert await write(b"a" * 9000) == 9000
            assert await write(b"b" * 3000) == 1000
            where = await file.tell() if {write!r} == "append" else os.lseek(fd, 0, os.SEEK_CUR)
            assert where == 10_000, where
            try:
                await write(b"c" * 2000)
            except OSError as error:
                assert error.errno == 27, error
            else:
                raise AssertionError("no error")
            with open(path, "rb") as result:
                assert result.read() == b"a" * 9000 + b"b" * 1000
            await file.close()

        ringloop.run(main())
        """,
        env={"RINGLOOP_DRIVER": ringloop_driver},
    )
