"""What a ringloop.Path is beside its calls: a pure path, with anyio's methods and those of newer Pythons."""

import asyncio
import copy
import errno
import inspect
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ringloop
from os_calls.differential import make_tree

ASYNCHRONOUS = [
    "absolute",
    "chmod",
    "copy",
    "copy_into",
    "cwd",
    "exists",
    "expanduser",
    "group",
    "hardlink_to",
    "home",
    "is_block_device",
    "is_char_device",
    "is_dir",
    "is_fifo",
    "is_file",
    "is_junction",
    "is_mount",
    "is_socket",
    "is_symlink",
    "lchmod",
    "lstat",
    "mkdir",
    "move",
    "move_into",
    "open",
    "owner",
    "read_bytes",
    "read_text",
    "readlink",
    "rename",
    "replace",
    "resolve",
    "rmdir",
    "samefile",
    "stat",
    "symlink_to",
    "touch",
    "unlink",
    "write_bytes",
    "write_text",
]
ITERATORS = ["glob", "iterdir", "rglob", "walk"]
PURE = [
    "anchor",
    "as_posix",
    "as_uri",
    "drive",
    "from_uri",
    "full_match",
    "info",
    "is_absolute",
    "is_relative_to",
    "joinpath",
    "match",
    "name",
    "parent",
    "parents",
    "parser",
    "parts",
    "relative_to",
    "root",
    "stem",
    "suffix",
    "suffixes",
    "with_name",
    "with_segments",
    "with_stem",
    "with_suffix",
]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root = tmp_path / "tree"
    make_tree(root)
    monkeypatch.chdir(root)
    yield root
    shutil.rmtree(root)


def test_it_has_all_methods_of_the_newest_python() -> None:
    assert not [name for name in (*ASYNCHRONOUS, *ITERATORS, *PURE) if not hasattr(ringloop.Path, name)]


def test_it_has_all_that_pathlib_has() -> None:
    deprecated = {"link_to"}
    assert {name for name in dir(pathlib.Path) if not name.startswith("_")} - deprecated <= {
        *dir(ringloop.Path)
    }


def test_arguments_are_those_of_pathlib() -> None:
    for name in (*ASYNCHRONOUS, *ITERATORS):
        if not hasattr(pathlib.Path, name) or name in ("copy", "copy_into"):  # these take **kwargs
            continue
        expected = inspect.signature(getattr(pathlib.Path, name)).parameters
        found = inspect.signature(getattr(ringloop.Path, name)).parameters
        for argument, parameter in expected.items():
            assert found[argument].kind is parameter.kind, (name, argument)
            assert found[argument].default == parameter.default, (name, argument)


@pytest.mark.parametrize(
    "spelled", ["", ".", "/", "//a", "a/b.tar.gz", "../a", "/a/./b//c/", "~", ".x", "a/..", "a."]
)
def test_it_is_a_pure_path(spelled: str) -> None:
    path, pure = ringloop.Path(spelled), pathlib.PurePosixPath(spelled)
    assert isinstance(path, pathlib.PurePath | os.PathLike)
    assert path == pure
    assert hash(path) == hash(pure)
    for name in ("parts", "anchor", "name", "suffix", "suffixes", "stem", "root", "drive"):
        assert getattr(path, name) == getattr(pure, name)
    assert os.fspath(path) == str(path) == str(pure)
    assert bytes(path) == bytes(pure)
    assert list(path.parents) == list(pure.parents)
    assert repr(path) == f"Path({path.as_posix()!r})"
    assert pathlib.Path(path) == pathlib.Path(spelled)
    for made in (path / "x", "x" / path, path.joinpath("y"), path.parent, path.with_segments("z")):
        assert type(made) is ringloop.Path
    assert all(type(parent) is ringloop.Path for parent in path.parents)
    for again in (pickle.loads(pickle.dumps(path)), copy.copy(path), copy.deepcopy(path)):
        assert again == path
        assert type(again) is ringloop.Path


def test_what_came_with_python_3_12() -> None:
    path = ringloop.Path("/a/b")
    assert path.relative_to("/a/c/d", walk_up=True) == ringloop.Path("../../b")
    assert path.relative_to("/a") == ringloop.Path("b")
    for other, walk_up in (("/x", False), ("x", True), ("/a/../x", True)):
        with pytest.raises(ValueError, match=r"is not in the subpath|different anchors|cannot be walked"):
            path.relative_to(other, walk_up=walk_up)
    assert path.match("B", case_sensitive=False)
    assert path.match("/A/b", case_sensitive=False)
    assert not path.match("/b", case_sensitive=False)
    assert not path.match("B")
    assert not ringloop.Path("b").match("a/b", case_sensitive=False)
    with pytest.raises(ValueError, match="empty pattern"):
        path.match("", case_sensitive=False)


def test_from_uri() -> None:
    for path in ("/a/b", "/a b/\N{SNOWMAN}", "/not-utf8-\udcff", "/long/er.txt"):
        assert ringloop.Path.from_uri(ringloop.Path(path).as_uri()) == ringloop.Path(path)
    assert ringloop.Path.from_uri("file://localhost/foo/bar") == ringloop.Path("/foo/bar")
    assert ringloop.Path.from_uri("file:/foo/bar") == ringloop.Path("/foo/bar")
    for uri in ("foo/bar", "/foo/bar", "file:foo/bar", "http://x/y"):
        with pytest.raises(ValueError, match=r"URI|scheme|file:"):
            ringloop.Path.from_uri(uri)


class Own(ringloop.Path):
    """A subclass: what is made of it is of its class."""


async def test_a_subclass_makes_its_own(tree: Path) -> None:
    path = Own("directory")
    found = [child async for child in path.iterdir()]
    found += [child async for child in path.glob("*")] + [step[0] async for step in path.walk()]
    found += [await path.absolute(), await path.resolve(), await Own.cwd(), await Own("link").readlink()]
    found += [await Own("file").rename("new"), await Own("new").copy("newer")]
    assert {type(child) for child in found} == {Own}


@pytest.mark.parametrize(
    "path", ["file", "directory", "link", "link_to_directory", "broken", "circle", "a\0b"]
)
async def test_info_is_remembered(path: str, tree: Path) -> None:
    async def answers(info: Any) -> list[Any]:
        found = [await info.is_symlink()]
        for question in (info.exists, info.is_dir, info.is_file):
            found += [await question(), await question(follow_symlinks=False)]
        return found

    paths = {child.name: child async for child in ringloop.Path().iterdir()}
    expected: list[Any] = []
    if sys.version_info >= (3, 14):
        info = pathlib.Path(path).info
        expected = [info.is_symlink()]
        for question in (info.exists, info.is_dir, info.is_file):
            expected += [question(), question(follow_symlinks=False)]
    else:
        links = {True: os.stat, False: os.lstat}
        expected = [os.path.islink(path)]
        for mode in (0, 0o040000, 0o100000):
            for look in links.values():
                try:
                    found = look(path).st_mode
                except (OSError, ValueError):
                    expected.append(False)
                else:
                    expected.append(found & 0o170000 == mode or not mode)
    infos = [ringloop.Path(path).info]
    if path in paths:
        infos.append(paths[path].info)
    for info in infos:
        assert await answers(info) == expected
    if path in ("file", "broken"):
        os.unlink(path)
        assert await answers(infos[0]) == expected
        assert not await ringloop.Path(path).info.exists(follow_symlinks=False)


async def test_copies_and_moves(tree: Path) -> None:
    path = ringloop.Path("directory")
    await (path / "inner").chmod(0o751)
    target = await path.copy("copied", preserve_metadata=True)
    assert target == ringloop.Path("copied")
    assert (tree / "copied" / "inner").read_bytes() == b"inner"
    assert (tree / "copied" / "inner").stat().st_mtime_ns == (tree / "directory" / "inner").stat().st_mtime_ns
    assert (tree / "copied" / "inner").stat().st_mode & 0o777 == 0o751
    assert await ringloop.Path("link").copy_into("bare", follow_symlinks=False) == ringloop.Path("bare/link")
    assert os.readlink("bare/link") == "file"
    assert await path.move_into("copied") == ringloop.Path("copied/directory")
    assert not await path.exists()
    assert await (await ringloop.Path("file").move("moved")).read_bytes() == b"0123456789" * 100
    for refused, target in (("copied", "copied"), ("copied", "copied/x"), ("moved", "moved")):
        with pytest.raises(OSError, match="Source") as raised:
            await ringloop.Path(refused).copy(target)
        assert raised.value.errno == errno.EINVAL
        assert (raised.value.filename, raised.value.filename2) == (refused, target)
    with pytest.raises(ValueError, match="has an empty name"):
        await ringloop.Path("/").copy_into("bare")


async def test_moves_to_another_file_system(tree: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tree.stat().st_dev:
        pytest.skip("there is one file system")
    target = ringloop.Path(other) / f"ringloop-test-{os.getpid()}"
    try:
        moved = await ringloop.Path("directory").move(target)
        assert moved == target
        assert sorted([path.name async for path in target.iterdir()]) == ["below", "inner"]
        assert not await ringloop.Path("directory").exists()
    finally:
        shutil.rmtree(target)


async def test_mkdir_of_directories_above_with_their_own_mode(tree: Path) -> None:
    await ringloop.Path("new/deep/er").mkdir(0o700, parents=True, parent_mode=0o711)
    found = [os.stat(path).st_mode & 0o777 for path in ("new", "new/deep", "new/deep/er")]
    assert found == [0o711, 0o711, 0o700]


async def test_many_at_once(tree: Path) -> None:
    found = await asyncio.gather(*(ringloop.Path("file").stat() for _ in range(1_000)))
    assert {status.st_size for status in found} == {1_000}
    texts = await asyncio.gather(*(ringloop.Path("file").read_text() for _ in range(200)))
    assert set(texts) == {"0123456789" * 100}


async def test_open_is_awaited_or_entered(tree: Path) -> None:
    async with ringloop.Path("file").open("rb") as file:
        assert await file.read(10) == b"0123456789"
    file = await ringloop.Path("file").open()
    assert await file.readline() == "0123456789" * 100
    await file.close()


def test_the_default_encoding_is_warned_of() -> None:
    program = """
import asyncio, sys, ringloop
path = ringloop.Path(sys.argv[1])
async def main():
    await path.write_text("text")
    await path.read_text()
    async with path.open() as file:
        pass
ringloop.run(main())
"""
    argument = os.path.join(os.path.dirname(__file__), "nothing-that-is-there", "x")
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-W", "error", "-c", program, argument],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "EncodingWarning: 'encoding' argument not specified" in done.stderr
    assert 'File "<string>", line 5, in main' in done.stderr
