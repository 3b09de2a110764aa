"""`ringloop.aiofiles`: what aiofiles' own tests do not ask. (Those are in suites/.)"""

import asyncio
import inspect
import io
import itertools
import os
import shutil
import stat
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import aiofiles as theirs
import aiofiles.base
import aiofiles.os
import aiofiles.ospath
import aiofiles.tempfile
import aiofiles.tempfile.temptypes
import aiofiles.threadpool
import aiofiles.threadpool.binary
import aiofiles.threadpool.text
import pytest

import ringloop
from ringloop import aiofiles as ours


def part(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


@pytest.mark.parametrize("path", ["tempfile", "threadpool", "os", "ospath"])
def test_every_public_name_is_there(path: str) -> None:
    from ringloop.aiofiles import ospath  # noqa: F401

    assert set(theirs.__all__) <= set(ours.__all__)
    assert set(part(theirs, path).__all__) <= set(part(ours, path).__all__)


def test_classes_have_the_same_members() -> None:
    for path in ("threadpool.binary", "threadpool.text", "tempfile.temptypes", "base"):
        for name, kind in vars(part(theirs, path)).items():
            if isinstance(kind, type) and kind.__module__.startswith("aiofiles"):
                members = {member for member in dir(kind) if not member.startswith("_")}
                assert members <= set(dir(getattr(part(ours, path), name))), name


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """On ringloop's loop nothing may be executed by a thread of an executor."""

    def refuse(*args: Any) -> None:
        raise AssertionError(f"executed by a thread: {args}")

    monkeypatch.setattr(ringloop.Loop, "run_in_executor", refuse)


async def test_no_thread_takes_part(no_threads: None, tmp_path: Path) -> None:
    tempfile.gettempdir()
    for mode, buffering in (("wb", 0), ("wb", -1), ("w", -1)):
        async with ours.open(tmp_path / "file", mode, buffering, executor=None) as file:
            await file.writelines([b"line\n" if "b" in mode else "line\n"] * 3)
            assert (await file.seekable(), await file.writable(), file.readable()) == (True, True, False)
        async with ours.open(tmp_path / "file", mode.replace("w", "r"), buffering) as file:
            assert len([line async for line in file]) == 3
            assert not await file.isatty()
    assert [entry.name for entry in await ours.os.scandir(tmp_path)] == ["file"]
    assert await ours.os.path.getsize(tmp_path / "file") == 15
    assert await ours.os.getcwd() == os.getcwd()
    await ours.os.wrap(os.chmod)(tmp_path / "file", 0o600)
    for make in (ours.tempfile.TemporaryFile, ours.tempfile.NamedTemporaryFile):
        async with make("w+", dir=tmp_path) as file:
            await file.write("text")
    async with ours.tempfile.SpooledTemporaryFile(3) as file:
        await file.write(b"1234")
    async with ours.tempfile.TemporaryDirectory() as path:
        await ours.os.makedirs(os.path.join(path, "a", "b"))
    assert not os.path.exists(path)


async def test_executor(tmp_path: Path) -> None:
    """On another loop than ringloop's the caller's threads do all; here only what nothing else can do."""
    on_ringloop = isinstance(asyncio.get_running_loop(), ringloop.Loop)
    with ThreadPoolExecutor(1, "ours") as executor:
        where = ours.os.wrap(lambda: threading.current_thread().name)
        assert (await where(executor=executor)).startswith("ours")
        async with ours.open(tmp_path / "file", "w", executor=executor) as file:
            assert isinstance(file._file, io.TextIOWrapper) != on_ringloop
            await file.write("text")
        assert (await ours.os.stat(tmp_path / "file", loop=None, executor=executor)).st_size == 4


async def test_a_blocking_file(tmp_path: Path) -> None:
    for mode in ("w+", "w+b", "wb"):
        with open(tmp_path / "file", mode) as blocking:
            file = ours.threadpool.wrap(blocking)
            assert type(file).__name__ == type(theirs.threadpool.wrap(blocking)).__name__
            data: Any = "text" if mode == "w+" else b"text"
            assert await file.write(data) == 4
            if "+" in mode:
                assert await file.seek(0) == 0
                assert await file.read() == data
            assert file.mode == blocking.mode
            assert f"wrapping {blocking!r}" in repr(file)


async def test_a_registered_type_and_a_replaced_open() -> None:
    """What aiofiles' documentation advises for tests."""
    ours.threadpool.wrap.register(mock.MagicMock)(ours.threadpool.AsyncBufferedIOBase)
    fake = mock.MagicMock()
    with mock.patch("ringloop.aiofiles.threadpool.sync_open", return_value=fake) as opened:
        async with ours.open("name", "w") as file:
            await file.write("data")
    fake.write.assert_called_once_with("data")
    assert opened.call_args.args[:2] == ("name", "w")
    assert fake.__exit__.called


@pytest.mark.parametrize("mode", ["rb", "r+b", "r", "r+"])
async def test_detach(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\n")
    file = await ours.open(path, mode)
    if "b" in mode:
        await file.readline()
    if "+" in mode:
        await file.write(b"ONE" if "b" in mode else "ONE")
        with pytest.raises(BlockingIOError):
            file.detach()
        await file.flush()
    below = file.detach()
    assert isinstance(below, io.FileIO if "b" in mode else io.BufferedIOBase)
    assert below.read() == {"rb": b"two\n", "r+b": b"\n", "r": b"one\ntwo\n", "r+": b"\ntwo\n"}[mode]
    below.close()
    with pytest.raises(ValueError, match="detached"):
        await file.close()


async def test_scandir(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("directory")
    (tmp_path / "broken").symlink_to("none")
    os.mkfifo(tmp_path / "fifo")
    fd = os.open(tmp_path, os.O_RDONLY)
    for where in (tmp_path, str(tmp_path), os.fsencode(tmp_path), fd):
        with os.scandir(where) as expected, await ours.os.scandir(where) as found:
            assert described(found) == described(expected)
            assert list(found) == []
    os.close(fd)
    with pytest.raises(NotADirectoryError):
        await ours.os.scandir(tmp_path / "file")


def described(entries: Any) -> list[Any]:
    found = []
    for entry in entries:
        seen = [entry.name, entry.path, entry.inode(), os.fspath(entry), repr(entry)]
        for follow in (True, False):
            seen += [entry.is_dir(follow_symlinks=follow), entry.is_file(follow_symlinks=follow)]
            try:
                seen.append(entry.stat(follow_symlinks=follow).st_ino)
            except OSError as error:
                seen.append((type(error), error.errno))
        found.append([*seen, entry.is_symlink()])
    return sorted(found, key=lambda seen: str(seen[0]))


async def test_functions_are_coroutine_functions(tmp_path: Path) -> None:
    assert inspect.iscoroutinefunction(ours.os.stat)
    assert ours.os.stat.__name__ == "stat"
    calls = [("sameopenfile", (0, 0)), ("abspath", ("x",)), ("ismount", ("/",)), ("samefile", ("/", "/.."))]
    for name, arguments in calls:
        assert await getattr(ours.os.path, name)(*arguments) == getattr(os.path, name)(*arguments)
    with pytest.raises(TypeError):
        await ours.os.stat()
    with pytest.raises(FileNotFoundError):
        await ours.os.rename(tmp_path / "a", tmp_path / "b")


# --- temporary files


async def test_a_temporary_file_is_nobody_elses(tmp_path: Path) -> None:
    async with ours.tempfile.NamedTemporaryFile(dir=tmp_path, prefix="p", suffix=".s") as file:
        assert stat.S_IMODE(os.stat(file.name).st_mode) == 0o600
        assert not os.get_inheritable(file.fileno())
        assert (Path(file.name).parent, Path(file.name).suffix) == (tmp_path, ".s")
    async with ours.tempfile.NamedTemporaryFile(dir=os.fsencode(tmp_path)) as file:
        assert isinstance(file.name, bytes)
    async with ours.tempfile.TemporaryFile(dir=tmp_path) as file:
        assert os.listdir(tmp_path) == []
        assert file.name == file.fileno()
        assert await file.write(b"data") == 4
    async with ours.tempfile.TemporaryDirectory(dir=tmp_path) as path:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("others", [{"mode": "q"}, {"encoding": "no such"}, {"mode": "w", "buffering": 0}])
async def test_wrong_arguments_leave_nothing(tmp_path: Path, others: dict[str, Any]) -> None:
    others = {"mode": "w+", **others}
    for name in ("NamedTemporaryFile", "TemporaryFile"):
        with pytest.raises((ValueError, LookupError)) as expected:
            getattr(tempfile, name)(dir=tmp_path, **others)
        with pytest.raises(expected.type) as found:
            await getattr(ours.tempfile, name)(dir=tmp_path, **others)
        assert str(found.value) == str(expected.value)
    for kwargs in ({"dir": tmp_path / "none"}, {"dir": tmp_path, "prefix": b"p", "suffix": "s"}):
        with pytest.raises((FileNotFoundError, TypeError)):
            await ours.tempfile.TemporaryFile(**kwargs)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("delete_on_close", [True, False])
async def test_when_a_named_file_goes(tmp_path: Path, delete_on_close: bool) -> None:
    async with ours.tempfile.NamedTemporaryFile(dir=tmp_path, delete_on_close=delete_on_close) as file:
        await file.close()
        assert os.path.exists(file.name) != delete_on_close
    assert not os.path.exists(file.name)
    async with ours.tempfile.NamedTemporaryFile(dir=tmp_path, delete=False) as file:
        pass
    os.unlink(file.name)
    file = await ours.tempfile.NamedTemporaryFile(dir=tmp_path)
    name = file.name
    left = [file]
    del file
    with pytest.warns(ResourceWarning, match="unclosed file"):
        left.clear()
    assert not os.path.exists(name)


async def test_a_spooled_text(tmp_path: Path) -> None:
    async with ours.tempfile.SpooledTemporaryFile(8, "w+", encoding="utf-16", dir=tmp_path) as file:
        await file.write("ä\n")
        assert (file.name, file.mode, file.encoding, await file.isatty()) == (None, "w+", "utf-16", False)
        await file.writelines(["b\n", "c\n"])
        assert file.name is not None
        position = await file.tell()
        await file.seek(0)
        assert await file.readlines() == ["ä\n", "b\n", "c\n"]
        assert await file.tell() == position
        await file.rollover()
    assert file.closed
    async with ours.tempfile.SpooledTemporaryFile(8, dir=tmp_path) as file:
        assert await file.truncate(9) == 9
        assert await file.read() == bytes(9)


async def test_what_is_in_a_directory_goes_with_it(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    async with ours.tempfile.TemporaryDirectory(dir=tmp_path) as name:
        inner = Path(name, "a", "b")
        inner.mkdir(parents=True)
        (inner / "file").touch(0)
        (inner / "link").symlink_to(tmp_path / "kept")
        inner.chmod(0)
    assert os.listdir(tmp_path) == ["kept"]
    assert os.listdir(tmp_path / "kept") == ["file"]
    directory = await ours.tempfile.TemporaryDirectory(dir=tmp_path)
    shutil.rmtree(directory.name)
    await directory.close()
    left = [await ours.tempfile.TemporaryDirectory(dir=tmp_path)]
    with pytest.warns(ResourceWarning, match="Implicitly cleaning up"):
        left.clear()
    assert os.listdir(tmp_path) == ["kept"]


async def test_a_cancelled_temporary_file_leaves_nothing(tmp_path: Path) -> None:
    """Cancelled after every number of steps that it may take."""
    makers = ours.tempfile.NamedTemporaryFile, ours.tempfile.TemporaryFile, ours.tempfile.TemporaryDirectory
    for steps, make in itertools.product(range(30), makers):
        task = asyncio.ensure_future(make(dir=tmp_path)._coro)
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        try:
            made = await task
        except asyncio.CancelledError:
            continue
        await made.close()
    assert os.listdir(tmp_path) == []
