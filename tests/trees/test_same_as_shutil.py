"""Every function does what shutil of the running Python does: result, exception, effect, handlers."""

import inspect
import os
import pathlib
import shutil
from pathlib import Path
from typing import Any

import pytest

import ringloop.shutil
from os_calls.differential import LONG_AGO_NS, Tree, make_tree, tree

# A hundred trees are made: on a slow machine that takes long.
pytestmark = pytest.mark.timeout(100)

LONG = "x" * 300
PATHS = ["file", "directory", "link", "link_to_directory", "broken", "circle", "fifo", "näme", "nothing"]
PATHS += ["file/below", "bare", "a\0b", LONG, "", "directory/"]
FILES = ["file", "directory", "link", "broken", "fifo", "nothing", "file/below", "", "other", "/proc/version"]

Call = tuple[str, tuple[Any, ...], dict[str, Any]]


def calls() -> list[Call]:
    found: list[Call] = []
    for function in ("copyfile", "copymode", "copystat", "copy", "copy2"):
        for src in FILES:
            for dst in ["new", "new/", "nothing/x", *FILES[:5], "link_to_directory", "", "a\0b"]:
                found += [(function, (src, dst), {}), (function, (src, dst), {"follow_symlinks": False})]
        found += [(function, (b"file", b"new"), {}), (function, (pathlib.Path("file"), "new"), {})]
        found += [
            (function, ("file", "new", True), {}),
            (function, ("broken", "link"), {"follow_symlinks": False}),
        ]
    for src in [*PATHS, "file", b"directory", pathlib.Path("directory")]:
        for dst in ("new", "bare", "nothing/new", "file", "directory", src):
            if not isinstance(src, bytes):
                found += [("move", (src, dst), {})]
        if src != "fifo":  # that of shutil waits for a writer, up to Python 3.12
            found += [("rmtree", (src,), {}), ("rmtree", (src, True), {})]
            found += [("rmtree", (src,), {"ignore_errors": True})]
        for options in ({}, {"dirs_exist_ok": True}):
            found += [("copytree", (src, "new"), options), ("copytree", (src, "bare"), options)]
            found += [("copytree", (src, "file"), options), ("copytree", (src, "nothing/new"), options)]
    for options in ({}, {"symlinks": True}, {"ignore_dangling_symlinks": True}):
        found.append(("copytree", ("tree", "new"), options))
        found.append(
            ("copytree", ("tree", "new"), options | {"ignore": shutil.ignore_patterns("f*", "below")})
        )
        found.append(("copytree", ("tree", "new"), options | {"copy_function": "copy"}))
    found += [("rmtree", ("tree",), {}), ("move", ("tree", "tree/new"), {}), ("move", ("tree", "bare"), {})]
    found += [("move", (b"tree/", b"bare/"), {}), ("move", ("tree", "bare/tree/"), {})]
    found += [
        ("rmtree", ("below",), {"dir_fd": "directory"}),
        ("rmtree", ("nothing",), {"dir_fd": "directory"}),
    ]
    return found


def make_tree_of_trees(root: Path) -> None:
    make_tree(root)
    make_tree(root / "tree")
    # Whether these can be copied depends on the order, or they are what is never ready.
    for name in ("circle", "fifo"):
        (root / "tree" / name).unlink()
    for path in ("a/b/c", "a/b/d", "e"):
        (root / "tree" / path).mkdir(parents=True)
        for number in range(5):
            (root / "tree" / path / f"file{number}").write_bytes(path.encode() * number)
    (root / "tree" / "a" / "fifo").symlink_to("/nothing")
    os.mkfifo(root / "tree" / "a" / "b" / "fifo")


def plain(error: BaseException) -> Any:
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        return type(error), [tuple(os.fspath(part) for part in found) for found in error.args[0]]
    message = str(error).replace("PosixPath(", "Path(")
    names = [getattr(error, name, None) for name in ("filename", "filename2")]
    return type(error), message, [name if name is None else os.fspath(name) for name in names]


async def outcome(module: Any, call: Call, place: Tree) -> Any:
    function, args, options = call
    place.stand()
    os.chdir(place.root)
    options = dict(options)
    heard: list[Any] = []
    if "copy_function" in options:
        options["copy_function"] = getattr(module, options["copy_function"])
    if "dir_fd" in options:
        options["dir_fd"] = os.open(options["dir_fd"], os.O_RDONLY)
    if function == "rmtree" and len(args) == 1 and not options.get("ignore_errors"):
        options["onerror"] = lambda func, path, info: heard.append((func, path, plain(info[1])))
    try:
        result = getattr(module, function)(*args, **options)
        if inspect.isawaitable(result):
            result = await result
    except Exception as error:
        result = plain(error)
    finally:
        os.chdir("/")
        if "dir_fd" in options:
            os.close(options["dir_fd"])
    left = place.look()
    kept = {name for name, _, changed, *_ in left if changed == LONG_AGO_NS}
    return result, heard, kept, left


# By the place of a call in `calls()`: on every loop it is the same.
BY_SHUTIL: dict[int, Any] = {}


@pytest.mark.parametrize("function", ["copyfile", "copymode", "copystat", "copy", "copy2", "copytree"])
async def test_copies(function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    await compare(function, tmp_path / "place")


@pytest.mark.parametrize("function", ["move", "rmtree"])
async def test_removes(function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    await compare(function, tmp_path / "place")


async def compare(function: str, root: Path) -> None:
    different = []
    with tree(root, make_tree) as small, tree(root.with_name("other"), make_tree_of_trees) as large:
        for number, call in enumerate(calls()):
            if call[0] != function:
                continue
            place = large if any("tree" in str(arg) for arg in call[1]) else small
            if number not in BY_SHUTIL:
                BY_SHUTIL[number] = await outcome(shutil, call, place)
            expected, found = BY_SHUTIL[number], await outcome(ringloop.shutil, call, place)
            if found != expected:
                different.append(f"{call}\n  shutil:   {expected[:2]}\n  ringloop: {found[:2]}")
                if found[:2] == expected[:2]:
                    changed = set(map(repr, expected[3])) ^ set(map(repr, found[3]))
                    different.append(f"  left: {sorted(changed)} {expected[2] ^ found[2]}")
    assert not different, "\n".join(different)
