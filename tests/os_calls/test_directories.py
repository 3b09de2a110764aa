"""Directories: `scandir` and its entries, `walk`, `fwalk`, and the functions of `os.path`."""

import asyncio
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ringloop.os
from os_calls.differential import make_tree


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root = tmp_path / "tree"
    make_tree(root)
    monkeypatch.chdir(root)
    yield root
    shutil.rmtree(root)


def known(entry: os.DirEntry[Any]) -> tuple[Any, ...]:
    return entry.name, entry.path, entry.inode(), repr(entry), os.fspath(entry)


@pytest.mark.parametrize("path", [None, ".", b".", "directory", "directory/", Path("directory")], ids=repr)
async def test_entries_are_those_of_os(path: Any, tree: Path) -> None:
    os.unlink("circle")  # what it is cannot be told
    with os.scandir(path) as blocking:
        expected = {
            (*known(e), e.is_dir(), e.is_file(), e.is_symlink(), e.is_dir(follow_symlinks=False))
            for e in blocking
        }
    found = set()
    async with ringloop.os.scandir(path) as entries:
        async for e in entries:
            kinds = (
                await e.is_dir(),
                await e.is_file(),
                await e.is_symlink(),
                await e.is_dir(follow_symlinks=False),
            )
            found.add((*known(e), *kinds))
    assert found == expected


async def test_entries_tell_their_status(tree: Path) -> None:
    async for entry in ringloop.os.scandir("."):
        for follows in (True, False):
            try:
                expected: Any = os.stat(entry.path, follow_symlinks=follows)
            except OSError as error:
                with pytest.raises(type(error)) as raised:
                    await entry.stat(follow_symlinks=follows)
                assert str(raised.value) == str(error)
            else:
                assert await entry.stat(follow_symlinks=follows) == expected
                assert await entry.stat(follow_symlinks=follows) == expected


async def test_entries_of_a_file_descriptor(tree: Path) -> None:
    fd = os.open("directory", os.O_RDONLY)
    try:
        for _ in range(2):  # it is rewound
            found = {entry.path: (await entry.stat()).st_size async for entry in ringloop.os.scandir(fd)}
            assert sorted(found) == ["below", "inner"]
            assert found["inner"] == 5
    finally:
        os.close(fd)


async def test_a_huge_directory_comes_in_parts(tmp_path: Path) -> None:
    names = {f"{number:05}" + "x" * 200 for number in range(6_000)}
    for name in names:
        os.mknod(tmp_path / name)
    assert {entry.name async for entry in ringloop.os.scandir(tmp_path)} == names
    assert set(await ringloop.os.listdir(tmp_path)) == names
    entries = await ringloop.os.scandir(tmp_path)
    assert (await anext(entries)).name in names
    await entries.close()
    with pytest.raises(StopAsyncIteration):
        await anext(entries)
    unclosed = await ringloop.os.scandir(tmp_path)
    with pytest.warns(ResourceWarning, match="unclosed scandir iterator"):
        del unclosed


@pytest.mark.parametrize("path", ["nothing", "file", "", 9_999], ids=repr)
async def test_scandir_fails_as_that_of_os(path: Any, tree: Path) -> None:
    with pytest.raises(OSError) as expected:  # noqa: PT011
        os.scandir(path)
    with pytest.raises(type(expected.value)) as found:
        await ringloop.os.scandir(path)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("options", [{}, {"topdown": False}, {"followlinks": True}], ids=repr)
@pytest.mark.parametrize("top", [".", b".", "directory", "nothing", "file"], ids=repr)
async def test_walk(top: Any, options: dict[str, bool], tree: Path) -> None:
    expected_errors: list[str] = []
    errors: list[str] = []
    expected = list(os.walk(top, onerror=lambda error: expected_errors.append(str(error)), **options))
    found = [
        step
        async for step in ringloop.os.walk(top, onerror=lambda error: errors.append(str(error)), **options)
    ]
    assert found == expected
    assert errors == expected_errors


async def test_walk_goes_where_the_caller_lets_it(tree: Path) -> None:
    seen = []
    async for path, directories, _ in ringloop.os.walk("."):
        seen.append(path)
        directories[:] = [name for name in directories if name == "directory"]
    assert seen == [".", "./directory"]


@pytest.mark.parametrize("topdown", [True, False])
@pytest.mark.parametrize("top", [".", b".", "directory"], ids=repr)
async def test_fwalk(top: Any, topdown: bool, tree: Path) -> None:
    expected = [(*step[:3], os.fstat(step[3]).st_ino) for step in os.fwalk(top, topdown)]
    found = []
    async for path, directories, others, fd in ringloop.os.fwalk(top, topdown):
        found.append((path, directories, others, os.fstat(fd).st_ino))
    assert found == expected


@pytest.mark.parametrize(
    "name",
    [
        "exists",
        "getatime",
        "getctime",
        "getmtime",
        "getsize",
        "isdir",
        "isfile",
        "islink",
        "ismount",
        "lexists",
        "realpath",
    ],
)
async def test_path(name: str, tree: Path) -> None:
    paths: list[Any] = [
        ".",
        "/",
        "/proc",
        "a\0b",
        "nothing/../file",
        "./directory//below/../inner",
        "",
        b"link",
    ]
    for path in [*paths, *os.listdir("."), *os.listdir(b"."), "circle/x/..", "broken/y", Path("link"), 9_999]:
        try:
            expected: Any = getattr(os.path, name)(path)
        except Exception as error:
            with pytest.raises(type(error)) as raised:
                await getattr(ringloop.os.path, name)(path)
            assert str(raised.value) == str(error)
        else:
            assert await getattr(ringloop.os.path, name)(path) == expected, path


STRICT = [
    True,
    *(getattr(os.path, name) for name in ("ALLOW_MISSING", "ALL_BUT_LAST") if hasattr(os.path, name)),
]


@pytest.mark.parametrize("strict", STRICT, ids=str)
@pytest.mark.parametrize(
    "path", ["link", "circle", "broken", "nothing", "nothing/x", "file/x", "link/x", "./file/"]
)
async def test_strict_realpath(tree: Path, path: str, strict: Any) -> None:
    try:
        expected = os.path.realpath(path, strict=strict)
    except OSError as error:
        with pytest.raises(type(error)) as found:
            await ringloop.os.path.realpath(path, strict=strict)
        assert found.value.errno == error.errno
        return
    assert await ringloop.os.path.realpath(path, strict=strict) == expected


async def test_samefile(tree: Path) -> None:
    assert await ringloop.os.path.samefile("file", "link")
    assert not await ringloop.os.path.samefile("file", "directory")


async def test_many_directories_at_once(tree: Path) -> None:
    lists = await asyncio.gather(*(ringloop.os.listdir("directory") for _ in range(1_000)))
    assert all(sorted(names) == ["below", "inner"] for names in lists)


async def test_makedirs_of_directories_above_with_their_own_mode(tree: Path) -> None:
    await ringloop.os.makedirs("new/deep/er", 0o700, parent_mode=0o711)
    found = [stat.S_IMODE(os.stat(path).st_mode) for path in ("new", "new/deep", "new/deep/er")]
    assert found == [0o711, 0o711, 0o700]
