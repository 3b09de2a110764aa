"""What the functions return is used as a coroutine is; what they hold they give back; they starve nobody."""

import asyncio
import gc
import inspect
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ringloop
import ringloop.os
from support import leaks

# posix.utime() has no signature that can be read.
FUNCTIONS = [name for name in ringloop.os.__all__ if inspect.isroutine(getattr(os, name, None))]
# What a later Python added.
LATER = ["parent_mode"]
SIGNATURES = [name for name in FUNCTIONS if name != "utime"]


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature_is_the_same_or_a_later_ones(name: str) -> None:
    def parameters(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

    try:
        expected = parameters(getattr(os, name))
    except ValueError:
        pytest.skip("this Python's own has no signature that can be read")
    found = parameters(getattr(ringloop.os, name))
    assert [added for added in found if added in expected or added[0] not in LATER] == expected


def test_every_function_is_documented() -> None:
    assert not [name for name in ringloop.os.__all__ if not getattr(ringloop.os, name).__doc__]
    assert not [name for name in ringloop.os.path.__all__ if not getattr(ringloop.os.path, name).__doc__]


def test_constants_are_there_and_functions_that_block_are_not() -> None:
    assert ringloop.os.O_RDONLY == os.O_RDONLY
    with pytest.raises(AttributeError, match="has no attribute 'system'"):
        ringloop.os.system  # noqa: B018


async def test_usable_as_a_coroutine() -> None:
    expected = os.stat("/")
    assert await ringloop.os.stat("/") == expected
    assert await asyncio.create_task(ringloop.os.stat("/")) == expected
    assert await asyncio.gather(ringloop.os.stat("/"), ringloop.os.stat("/")) == [expected] * 2
    assert await asyncio.wait_for(ringloop.os.stat("/"), 10) == expected
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(ringloop.os.stat("/"))
    assert task.result() == expected


def test_usable_by_a_runner(run: Callable[..., Any]) -> None:
    with asyncio.Runner() as runner:
        assert runner.run(ringloop.os.stat("/")) == os.stat("/")
    assert run(ringloop.os.stat("/")) == os.stat("/")


async def test_awaited_once_only() -> None:
    call = ringloop.os.stat("/")
    await call
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await call


def test_never_awaited() -> None:
    call = ringloop.os.stat("/")
    with pytest.warns(RuntimeWarning, match="coroutine 'stat' was never awaited"):
        del call


async def test_stat_result_has_all_that_os_tells(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 10_000)
    for times in ((1, 2), (-5_000_000_001, 10**18 + 999), (10**9 * 9_500_000_000, 1)):
        os.utime(file, ns=times)
        for path in (file, "/dev/null", "/"):
            expected, found = os.stat(path), await ringloop.os.stat(path)
            for name in dir(expected):
                if name.startswith("st_"):
                    assert getattr(found, name) == getattr(expected, name), name
            assert found == expected
            assert repr(found) == repr(expected)


async def test_nothing_is_left_after_many_calls(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    name = str(tmp_path / "file")

    async def all_of_them() -> None:
        fd = await ringloop.os.open(name, os.O_RDWR)
        await ringloop.os.read(fd, 10)
        await ringloop.os.pread(fd, 10, 0)
        await ringloop.os.pwrite(fd, b"data", 0)
        await ringloop.os.preadv(fd, [bytearray(10)], 0)
        await ringloop.os.close(fd)
        await ringloop.os.stat(name)
        await ringloop.os.listdir(tmp_path)
        await ringloop.os.readlink("/proc/self/exe")
        await ringloop.os.rename(name, name)
        with pytest.raises(FileNotFoundError):
            await ringloop.os.unlink(name + "x")

    for _ in range(200):
        await all_of_them()
    gc.collect()
    fds, memory = leaks.open_fds(), leaks.resident_bytes()
    for _ in range(2_000):
        await all_of_them()
    gc.collect()
    assert leaks.open_fds() == fds
    assert leaks.resident_bytes() - memory < 2_000_000


async def test_reading_what_is_cached_starves_no_timer(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 65_536)
    fd = await ringloop.os.open(tmp_path / "file", os.O_RDONLY)
    fired = asyncio.Event()
    try:
        for _ in range(5):
            fired.clear()
            asyncio.get_running_loop().call_later(0.001, fired.set)
            started = time.monotonic()
            while not fired.is_set():
                await ringloop.os.pread(fd, 65_536, 0)
            assert time.monotonic() - started < 1
    finally:
        os.close(fd)


async def test_a_large_read_is_whole(tmp_path: Path) -> None:
    """More than is read at once on the loop's own thread."""
    content = os.urandom(3 << 20)
    (tmp_path / "large").write_bytes(content)
    fd = os.open(tmp_path / "large", os.O_RDONLY)
    try:
        assert await ringloop.os.pread(fd, len(content), 0) == content
        assert await ringloop.os.pread(fd, 2 << 20, 7) == content[7 : 7 + (2 << 20)]
        assert await ringloop.os.read(fd, len(content) + 1) == content
        assert await ringloop.submit("read", fd, len(content), 0) == content
    finally:
        os.close(fd)


def test_imported_when_asked_for(run_child: Callable[..., Any]) -> None:
    run_child("""
        import sys, ringloop
        assert not [name for name in sys.modules if name.startswith("ringloop") and "_os" in name]
        assert ringloop.os.path.join("a", "b") == "a/b"
        import ringloop.os.path
        from ringloop.os.path import exists
        import os
        assert ringloop.os is not os
    """)


def test_auditing_hooks_are_told_what_they_are_told_of_os(
    tmp_path: Path, run_child: Callable[..., Any]
) -> None:
    run_child(f"""
        import asyncio, os, sys
        import ringloop.os

        os.chdir({str(tmp_path)!r})
        told = []
        def hook(event, args):
            if (event.startswith("os.") or event == "open") and not str(args[0]).startswith("/"):
                told.append((event, args))
        sys.addaudithook(hook)

        def calls(os):
            yield os.mkdir("d"); yield os.rmdir("d"); yield os.open("f", 66, 0o600)
            yield os.rename("f", "g"); yield os.link("g", b"h"); yield os.symlink("a", "b")
            yield os.unlink("b")
            yield os.replace("h", "i"); yield os.remove("i"); yield os.truncate("g", 5)
            yield os.chmod("g", 0o600)
            yield os.chown("g", -1, 5); yield os.utime("g"); yield os.utime("g", ns=(1, 2))
            yield os.utime("g", (3, 4)); yield os.listdir(); yield os.listdir("."); yield os.listxattr("g")
            yield os.remove("g")

        async def main():
            for call in calls(ringloop.os):
                await call

        [None for _ in calls(os)]
        expected = told[:]
        loop = new_event_loop()
        told.clear()
        loop.run_until_complete(main())
        loop.close()
        assert told == expected, [pair for pair in zip(told, expected) if pair[0] != pair[1]]
    """)


class OtherLoop(asyncio.SelectorEventLoop):
    """A kind of loop that no test has used before."""


def test_the_use_of_threads_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ringloop")

    async def main() -> None:
        for _ in range(2):
            await ringloop.os.stat("/")

    with asyncio.Runner(loop_factory=OtherLoop) as runner:
        runner.run(main())
    told = [record for record in caplog.records if record.name == "ringloop"]
    assert [record.levelname for record in told] == ["DEBUG"]
    assert "test_calls.OtherLoop" in told[0].getMessage()
