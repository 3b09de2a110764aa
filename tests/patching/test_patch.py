"""`ringloop.patch`: what it replaces, where it takes effect, and how it goes away."""

import asyncio
import io
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import aiofiles
import aiofiles.os
import aiofiles.tempfile
import aiofiles.threadpool
import aiofiles.threadpool.binary
import anyio
import anyio.to_thread
import pytest

# Imported before anything is patched, as programs do.
from aiofiles.os import stat as aiofiles_stat
from anyio import open_file

import ringloop
from patching.threads import recorded


@pytest.fixture
def patched() -> Iterator[ringloop.Patch]:
    with ringloop.patch("anyio", "aiofiles") as patch:
        yield patch


def on_ringloop() -> bool:
    return isinstance(asyncio.get_running_loop(), ringloop.Loop)


def attributes() -> list[Any]:
    return [anyio.to_thread.run_sync, anyio.Path.iterdir, aiofiles.threadpool._open]


@pytest.mark.parametrize("names", [(), ("trio",), ("anyio", "no such"), ("",)])
def test_unknown_names_are_refused(names: tuple[str, ...]) -> None:
    before = attributes()
    with pytest.raises(ValueError, match="'aiofiles' and 'anyio'"):
        ringloop.patch(*names)
    assert attributes() == before


def test_undone() -> None:
    before = attributes()
    first = ringloop.patch("anyio", "aiofiles", "anyio")
    patched = attributes()
    assert all(new is not old for new, old in zip(patched, before, strict=True))
    second = ringloop.patch("anyio")
    assert attributes() == patched
    first.undo()
    first.undo()
    assert attributes() == [*patched[:2], before[2]]
    with second:
        pass
    assert attributes() == before


def test_a_library_without_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = attributes()
    monkeypatch.delattr(aiofiles.tempfile, "_temporary_directory")
    with pytest.raises((ImportError, AttributeError), match="_temporary_directory"):
        ringloop.patch("anyio", "aiofiles")
    assert attributes() == before


async def test_anyio_files(patched: ringloop.Patch, tmp_path: pathlib.Path) -> None:
    with recorded() as threads:
        async with await open_file(tmp_path / "file", "w+b") as file:
            assert await file.write(b"one\ntwo\n") == 8
            assert await file.seek(0) == 0
            assert [line async for line in file] == [b"one\n", b"two\n"]
            assert await file.tell() == 8
            assert await file.truncate(4) == 4
            await file.flush()
            await file.seek(1)
            target = bytearray(9)
            assert await file.readinto(target) == 3
            assert (file.closed, file.readable(), file.name) == (False, True, str(tmp_path / "file"))
        assert file.closed
        async with await anyio.Path(tmp_path / "file").open() as text:
            assert await text.readlines() == ["one\n"]
        assert isinstance(text.wrapped, io.TextIOWrapper) != on_ringloop()
    assert bool(threads) != on_ringloop()


async def test_anyio_paths(patched: ringloop.Patch, tmp_path: pathlib.Path) -> None:
    root = anyio.Path(tmp_path)
    with recorded() as threads:
        await (root / "a" / "b").mkdir(parents=True)
        await (root / "a" / "b").mkdir(exist_ok=True)
        with pytest.raises(FileExistsError):
            await (root / "a").mkdir()
        path = root / "a" / "file"
        await path.touch(0o600)
        with pytest.raises(FileExistsError):
            await path.touch(exist_ok=False)
        assert await path.write_text("text\n") == 5
        assert await path.read_bytes() == b"text\n"
        assert await path.write_bytes(memoryview(b"bytes")) == 5
        assert await path.read_text() == "bytes"
        with pytest.raises(TypeError, match="data must be str, not bytes"):
            await path.write_text(b"")  # type: ignore[arg-type]
        await (root / "link").symlink_to("a/file")
        found = [await (root / "link").is_symlink(), await (root / "link").is_file(), await path.is_dir()]
        found += [await (root / "none").exists(), await (path / "below").exists(), await root.is_mount()]
        found += [
            await anyio.Path("/dev/null").is_char_device(),
            await path.is_fifo(),
            await path.is_socket(),
        ]
        assert found == [True, True, False, False, False, False, True, False, False]
        assert await (root / "link").resolve() == path
        assert (await (root / "link").lstat()).st_size == 6
        assert await (root / "link").samefile(path)
        assert await path.rename(root / "new") == root / "new"
        assert await (root / "new").replace(path) == path
        assert sorted([path.name async for path in root.iterdir()]) == ["a", "link"]
        await (root / "link").unlink()
        await (root / "link").unlink(missing_ok=True)
        await (root / "a" / "b").rmdir()
    assert bool(threads) != on_ringloop()


@pytest.mark.parametrize("name", ["nul\0", "/proc/self/fd/link/x", "x" * 300])
async def test_a_path_that_cannot_be(patched: ringloop.Patch, tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / "round").symlink_to("round")
    for path in (tmp_path / name, tmp_path / "round"):
        for method in ("exists", "is_file", "is_symlink", "resolve"):
            found: list[Any] = []
            for result in (getattr(path, method), getattr(anyio.Path(path), method)):
                try:
                    answer = result()
                    found.append(str(await answer if hasattr(answer, "send") else answer))
                except Exception as error:
                    found.append((type(error), str(error)))
            assert found[0] == found[1], (path, method)


async def test_a_blocking_file_that_was_asked_for(patched: ringloop.Patch, tmp_path: pathlib.Path) -> None:
    file = await anyio.to_thread.run_sync(open, tmp_path / "file", "w")
    with file:
        assert file.write("blocking") == 8
        async_file = anyio.wrap_file(file)
        assert await async_file.write(" wrapped") == 8
    assert (await anyio.to_thread.run_sync(os.stat, tmp_path / "file")).st_size == 16


async def test_a_cancelled_scope_writes_nothing(patched: ringloop.Patch, tmp_path: pathlib.Path) -> None:
    async with await open_file(tmp_path / "file", "wb") as file:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await file.write(b"data")
        assert scope.cancelled_caught
        assert await file.tell() == 0


async def test_a_call_is_not_abandoned(patched: ringloop.Patch) -> None:
    """As with a thread: what came is returned, and the cancellation is heard afterwards."""
    reader, writer = os.pipe()
    came = []
    async with await open_file(reader, "rb", 0) as file:

        async def read(scope: anyio.CancelScope) -> None:
            with scope:
                came.append(await file.read(10))
                await asyncio.get_running_loop().create_future()

        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()
            group.start_soon(read, scope)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            await anyio.wait_all_tasks_blocked()
            os.write(writer, b"late")
        assert scope.cancelled_caught
        assert came == [b"late"]
    os.close(writer)


async def test_the_callers_limiter_holds(patched: ringloop.Patch, tmp_path: pathlib.Path) -> None:
    limiter = anyio.CapacityLimiter(1)
    path = anyio.Path(tmp_path, limiter=limiter)
    async with anyio.create_task_group() as group:
        await limiter.acquire_on_behalf_of(group)
        task = asyncio.ensure_future(path.exists())
        await anyio.wait_all_tasks_blocked()
        assert not task.done()
        limiter.release_on_behalf_of(group)
        assert await task


async def test_aiofiles(patched: ringloop.Patch, tmp_path: pathlib.Path) -> None:
    with recorded() as threads:
        async with aiofiles.open(tmp_path / "file", "w+b") as file:
            assert isinstance(file, aiofiles.threadpool.binary.AsyncBufferedReader)
            await file.write(b"one\ntwo\n")
            await file.seek(0)
            assert [line async for line in file] == [b"one\n", b"two\n"]
        assert (await aiofiles_stat(tmp_path / "file")).st_size == 8
        assert await aiofiles.os.path.isfile(tmp_path / "file")
        assert [entry.name for entry in await aiofiles.os.scandir(tmp_path)] == ["file"]
        async with aiofiles.tempfile.TemporaryDirectory(dir=tmp_path) as name:
            await aiofiles.os.mkdir(os.path.join(name, "below"))
        async with aiofiles.tempfile.NamedTemporaryFile(dir=tmp_path) as file:
            assert os.path.exists(file.name)
        async with aiofiles.tempfile.SpooledTemporaryFile(max_size=2, dir=tmp_path) as file:
            await file.write(b"rolled over")
            assert await file.fileno() > 2
    assert bool(threads) != on_ringloop()
    assert os.listdir(tmp_path) == ["file"]


async def test_files_outlive_the_patch(tmp_path: pathlib.Path) -> None:
    with ringloop.patch("aiofiles", "anyio"):
        opening = aiofiles.open(tmp_path / "file", "w")
        file = await opening
    await file.write("after")
    await file.close()
    assert (tmp_path / "file").read_text() == "after"


async def test_a_replaced_open_is_called(
    patched: ringloop.Patch, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As aiofiles' documentation has it for tests."""
    monkeypatch.setattr(aiofiles.threadpool, "sync_open", lambda *args, **kwargs: io.BytesIO(b"fake"))
    async with aiofiles.open("/no/such/file", "rb") as file:
        assert await file.read() == b"fake"
