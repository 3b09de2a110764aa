"""What `copytree` and `rmtree` do beside what shutil does: races with links, failures, cancels, bounds.

That no file descriptor is left open is checked after every test.
"""

import asyncio
import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import ringloop.os
import ringloop.shutil
from os_calls.differential import contents

DEPTH, WIDTH, FILES = 3, 4, 6


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    grow(root, DEPTH)
    return root


def grow(directory: Path, depth: int) -> None:
    directory.mkdir()
    for number in range(FILES):
        (directory / f"file{number}").write_bytes(os.urandom(number * 1_000))
    if depth:
        for number in range(WIDTH):
            grow(directory / f"directory{number}", depth - 1)


async def test_a_tree_is_copied_and_removed(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    assert await ringloop.shutil.copytree(tree, target) == target
    assert contents(target) == contents(tree)
    await ringloop.shutil.rmtree(target)
    assert not target.exists()
    assert tree.exists()


async def test_deep_trees_need_few_fds(tmp_path: Path) -> None:
    top = tmp_path / "top"
    for branch in range(20):
        deep = top / f"branch{branch}" / "/".join("d" * 30)
        deep.mkdir(parents=True)
        (deep / "file").touch()
    opened = 0

    def handler(function: Any, path: Any, error: BaseException) -> None:
        raise error

    tree = ringloop.shutil._RemoveTree(handler)
    real = tree._take_fd

    async def counted(*args: Any) -> None:
        nonlocal opened
        await real(*args)
        opened = max(opened, len(tree.fds))

    tree._take_fd = counted  # type: ignore[method-assign]
    await tree.run(top, None)
    assert not top.exists()
    # Beyond the bound, one goes on to the bottom.
    bound = ringloop.shutil._DIRECTORIES_OPEN_MAX + ringloop.shutil._DIRECTORIES_IN_FLIGHT_MAX
    assert 30 < opened <= bound + 32


async def test_a_link_in_place_of_a_directory_is_not_followed(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody puts it there after the directory above was read."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    real = ringloop.shutil._is_dir

    async def swap(entry: Any) -> bool:
        answer = await real(entry)
        if entry.name == "directory1" and not (tree / "moved").exists():
            (tree / "directory1").rename(tree / "moved")
            (tree / "directory1").symlink_to(precious)
        return answer

    monkeypatch.setattr(ringloop.shutil, "_is_dir", swap)
    heard: list[Any] = []
    await ringloop.shutil.rmtree(tree, onexc=lambda *args: heard.append(args))
    assert (os.path.islink, str(tree / "directory1"), "Cannot call rmtree on a symbolic link") in [
        (function, path, str(error.args[0])) for function, path, error in heard
    ]
    assert (precious / "file").exists()


async def test_the_first_failure_ends_it(tree: Path, tmp_path: Path) -> None:
    class Unexpected(Exception):
        pass

    def copy(src: Any, dst: Any) -> None:
        if src.endswith("file3"):
            raise Unexpected

    with pytest.raises(Unexpected):
        await ringloop.shutil.copytree(tree, tmp_path / "copy", copy_function=copy)
    with pytest.raises(FileNotFoundError):
        await ringloop.shutil.rmtree(tmp_path / "nothing")
    assert len(asyncio.all_tasks()) == 1


async def test_handlers_may_be_coroutines(tree: Path, tmp_path: Path) -> None:
    copied, heard = [], []

    async def copy(src: Any, dst: Any) -> None:
        copied.append(await ringloop.shutil.copy2(src, dst))

    async def hear(function: Any, path: Any, error: BaseException) -> None:
        heard.append((function, path, await ringloop.os.path.exists(path)))

    await ringloop.shutil.copytree(tree, tmp_path / "copy", copy_function=copy)
    assert contents(tmp_path / "copy") == contents(tree)
    assert len(copied) == sum(1 for path in tree.rglob("*") if path.is_file())
    await ringloop.shutil.rmtree(tree / "file0", onexc=hear)
    assert heard == [(os.scandir, tree / "file0", True), (os.rmdir, tree / "file0", True)]


@pytest.mark.parametrize("name", ["copytree", "rmtree"])
async def test_cancelled_it_leaves_no_task_and_no_fd(
    name: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()
    real = ringloop.shutil.entries_of

    async def entries_of(path: Any) -> Any:
        found = await real(path)
        if any(entry.name == "file1" for entry in found) and len(asyncio.all_tasks()) > 4:
            begun.set()
        return found

    monkeypatch.setattr(ringloop.shutil, "entries_of", entries_of)
    args = (tree, tmp_path / "copy") if name == "copytree" else (tree,)
    task = asyncio.create_task(getattr(ringloop.shutil, name)(*args))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_file_that_is_made_as_it_is_read(tmp_path: Path) -> None:
    """Its size is 0, and copy_file_range copies nothing of it."""
    await ringloop.shutil.copyfile("/proc/version", tmp_path / "version")
    assert (tmp_path / "version").read_bytes() == Path("/proc/version").read_bytes()


async def test_a_full_disk_is_told_with_both_names(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OSError, match="No space left") as raised:
        await ringloop.shutil.copyfile(tmp_path / "file", "/dev/full")
    with pytest.raises(OSError, match="No space left") as expected:
        shutil.copyfile(tmp_path / "file", "/dev/full")
    assert raised.value.errno == expected.value.errno == errno.ENOSPC
