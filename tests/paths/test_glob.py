"""`glob`, `rglob` and `walk` find what pathlib of the running Python finds, in its order."""

import inspect
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

import ringloop
from os_calls.differential import make_tree
from paths.twins import Case, by_pathlib, by_ringloop

PATTERNS = [
    "*",
    "**",
    "**/",
    "*/",
    "*/*",
    "**/*",
    "*/**",
    "**/**",
    "**/below/**",
    "directory/**/inner",
    "directory/*",
    "f*",
    "?ink",
    "[fl]i*",
    "[!f]*",
    "file",
    "FILE",
    "F*",
    "file/",
    "file/x",
    "nothing",
    "nothing/*",
    "..",
    "../*/file",
    "*/..",
    "*/../file",
    "directory/../file",
    "./file",
    "directory//inner",
    "link_to_directory/*",
    "link_to_directory/**",
    "**/inner",
    "**/*inner",
    "broken",
    "brok*",
    "broken/*",
    "circle/*",
    "x**",
    "a/**b/c",
    "**/..",
    "**/../file",
    "*\udcff",
    "n?me",
    "deep/*/*/*",
    "deep/**/e*/..",
    "deep/**/c/**/e*",
    "[",
    "a\0b",
]
NONE = ["", "/", "/file", "//x"]
ROOTS = [".", "directory", "deep/a", "link_to_directory", "file", "nothing", "..", "circle", "directory/.."]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root = tmp_path / "place" / "tree"
    root.parent.mkdir()
    make_tree(root)
    for path in ("deep/a/b/c/d/e", "deep/a/c/x/c/ee", "deep/.hidden/c/e"):
        (root / path).mkdir(parents=True)
    (root / "deep" / "a" / "circle").symlink_to("..")
    (root / "FIle").touch()
    monkeypatch.chdir(root)
    yield root
    shutil.rmtree(root)


def cases() -> list[Case]:
    found = []
    for root in ROOTS:
        for pattern in PATTERNS + NONE:
            found += [Case(root, "glob", pattern), Case(root, "rglob", pattern)]
            if sys.version_info >= (3, 12):
                found += [Case(root, "glob", pattern, case_sensitive=False)]
                found += [Case(root, "rglob", pattern, case_sensitive=True)]
    if sys.version_info >= (3, 13):
        for pattern in ("**", "**/inner", "**/*inner", "**/below/**", "link_to_directory/**/", "**/b/*"):
            found.append(Case(".", "glob", pattern, recurse_symlinks=True))
    return found


async def test_finds_what_pathlib_finds(tree: Path) -> None:
    different = []
    for case in cases():
        expected, found = by_pathlib(case), await by_ringloop(case)
        if found != expected:
            different.append(f"{case!r}\n  pathlib:  {expected}\n  ringloop: {found}")
    assert not different, "\n".join(different)


@pytest.mark.parametrize("path", [".", "directory", "link_to_directory", "deep", "file", "nothing", ".."])
@pytest.mark.parametrize("follow_symlinks", [False, True])
@pytest.mark.parametrize("top_down", [True, False])
async def test_walk(path: str, top_down: bool, follow_symlinks: bool, tree: Path) -> None:
    (tree / "deep" / "a" / "circle").unlink()
    errors: list[str] = []
    found = [
        step
        async for step in ringloop.Path(path).walk(
            top_down, lambda error: errors.append(str(error)), follow_symlinks
        )
    ]
    expected_errors: list[str] = []
    if sys.version_info >= (3, 12):
        expected = list(
            pathlib.Path(path).walk(
                top_down, lambda error: expected_errors.append(str(error)), follow_symlinks
            )
        )
    else:
        expected = walked(path, top_down, expected_errors, follow_symlinks)
    assert [(str(path), *names) for path, *names in found] == [
        (str(path), *names) for path, *names in expected
    ]
    assert errors == expected_errors
    assert all(type(step[0]) is ringloop.Path for step in found)


def walked(path: str, top_down: bool, errors: list[str], follow_symlinks: bool) -> list[tuple[Any, ...]]:
    """What Python 3.12 says, by os.walk(): that has links to directories among the directories."""
    found = []
    for top, directories, others in os.walk(
        path, top_down, lambda error: errors.append(str(error)), follow_symlinks
    ):
        links = [] if follow_symlinks else [d for d in directories if os.path.islink(os.path.join(top, d))]
        names = [entry.name for entry in os.scandir(top) if entry.name in {*others, *links}]
        found.append((pathlib.Path(top), [d for d in directories if d not in links], names))
    return found


async def test_walk_goes_where_the_caller_lets_it(tree: Path) -> None:
    seen = []
    async for path, directories, _ in ringloop.Path().walk():
        seen.append(str(path))
        directories[:] = [name for name in directories if name == "directory"]
    assert seen == [".", "directory"]


async def test_names_without_regard_to_case(tree: Path) -> None:
    found = {str(path) async for path in ringloop.Path().glob("fil?", case_sensitive=False)}
    assert found == {"file", "FIle"}
    found = {str(path) async for path in ringloop.Path().rglob("INNER", case_sensitive=False)}
    assert found == {"directory/inner"}


async def test_through_links(tree: Path) -> None:
    found = {str(path) async for path in ringloop.Path().glob("**/inner", recurse_symlinks=True)}
    assert found == {"directory/inner", "link_to_directory/inner"}
    found = {str(path) async for path in ringloop.Path("directory").glob("**", recurse_symlinks=True)}
    assert found == {"directory", "directory/inner", "directory/below"}


FULL_MATCHES = [
    ("a/b.py", "a/*.py", True),
    ("a/b.py", "*.py", False),
    ("a/b/c.py", "a/**/*.py", True),
    ("a/c.py", "a/**/c.py", True),
    ("a", "a/**", False),
    ("a/b", "a/**", True),
    ("", "**", True),
    ("", "*", False),
    ("a", "**/a", True),
    ("/a", "**/a", False),
    ("/a/b", "**/b", True),
    ("/a", "/*", True),
    ("/", "**", True),
    ("/", "/", True),
    ("/a/b/c", "/**/c", True),
    ("a/b/a/c", "**/a/*", True),
    ("a/b", "a/b/", True),
    ("a/b", "**/**", True),
    ("A/b", "a/B", False),
    ("a\nb", "a?b", True),
    ("axb", "a[!y]b", True),
    ("a/b", "a**b", False),
    ("ab", "a**b", True),
]


@pytest.mark.parametrize("path, pattern, expected", FULL_MATCHES)
def test_full_match(path: str, pattern: str, expected: bool) -> None:
    assert ringloop.Path(path).full_match(pattern) is expected
    assert ringloop.Path(path).full_match(ringloop.Path(pattern)) is expected


def test_full_match_without_regard_to_case() -> None:
    assert ringloop.Path("A/b").full_match("a/**/B", case_sensitive=False)
    assert not ringloop.Path("A/b").full_match("a/**/B", case_sensitive=True)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="PurePath has it from 3.13 on")
@hypothesis.given(
    path=st.text("ab/", max_size=8), pattern=st.text("ab?*/", max_size=8), sensitive=st.booleans()
)
def test_ours_is_that_of_python(path: str, pattern: str, sensitive: bool) -> None:
    from ringloop._globbing import full_match

    plain, pure = (str(p) if p.parts else "" for p in (pathlib.PurePath(path), pathlib.PurePath(pattern)))
    expected = pathlib.PurePath(path).full_match(pattern, case_sensitive=sensitive)
    assert full_match(plain, pure, sensitive) is expected


async def test_a_directory_may_change_while_it_is_iterated(tree: Path) -> None:
    async for path in ringloop.Path("deep").iterdir():
        await path.rename(path.with_name(path.name + "-renamed"))
    assert {path.name async for path in ringloop.Path("deep").iterdir()} == {"a-renamed", ".hidden-renamed"}


async def test_iterators_are_asynchronous(tree: Path) -> None:
    path = ringloop.Path()
    for iterator in (path.iterdir(), path.glob("*"), path.rglob("*"), path.walk()):
        assert inspect.isasyncgen(iterator)
        await anext(iterator)
        await iterator.aclose()
