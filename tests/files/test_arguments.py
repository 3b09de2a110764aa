"""The arguments of open(): the same files, errors and warnings as builtins.open's."""

import asyncio
import builtins
import io
import itertools
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ringloop
from files.twins import told

MODES = ["r", "rb", "w", "wb", "r+", "r+b", "a", "ab", "x", "xb", "", "q", "rw", "rbt", "b", "r++", "U", "rt"]
OTHERS: list[dict[str, Any]] = [
    {},
    {"buffering": 0},
    {"buffering": 1},
    {"buffering": -5},
    {"buffering": 3},
    {"buffering": "1"},
    {"encoding": "utf-8"},
    {"encoding": "no such"},
    {"encoding": "hex"},
    {"encoding": 3},
    {"errors": "replace"},
    {"errors": 4},
    {"newline": ""},
    {"newline": "x"},
    {"newline": 5},
    {"closefd": False},
    {"encoding": "latin-1", "errors": "ignore", "newline": "\r\n"},
]


async def describe(opening: Any) -> Any:
    """What there is to see of a file, which is closed again; or the error. And the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            file = opening()
            if not isinstance(file, io.IOBase):
                file = await file
        except Exception as error:
            return told(error), [str(one.message) for one in caught]
    seen = [file.mode, file.name, file.readable(), file.writable(), file.seekable(), file.isatty()]
    seen += [getattr(file, name, None) for name in ("encoding", "errors", "line_buffering", "newlines")]
    closing = file.close()
    if closing is not None:
        await closing
    return [str(one).replace("ringloop-", "").replace("blocking-", "") for one in seen], file.closed


@pytest.mark.parametrize("others", OTHERS, ids=str)
def test_combinations(run: Callable[..., Any], tmp_path: Path, others: dict[str, Any]) -> None:
    async def main() -> None:
        for mode, exists in itertools.product(MODES, (True, False)):
            paths = tmp_path / "ringloop-file", tmp_path / "blocking-file"
            for path in paths:
                path.unlink(missing_ok=True)
                if exists:
                    path.write_bytes(b"content\n")
            expected = await describe(lambda: builtins.open(paths[1], mode, **others))  # noqa: B023, SIM115
            found = await describe(lambda: ringloop.open(paths[0], mode, **others))  # noqa: B023
            assert found == expected, (mode, others)
            assert [path.exists() for path in paths] in ([True] * 2, [False] * 2)
            assert not paths[0].exists() or paths[0].read_bytes() == paths[1].read_bytes()

    run(main())


@pytest.mark.parametrize(
    "file", [None, 1.5, -1, "", "nul\0", b"nul\0", 987654, [], "/", b"/dev/null"], ids=repr
)
async def test_odd_files(file: Any) -> None:
    expected = await describe(lambda: builtins.open(file, "rb"))  # noqa: SIM115
    assert await describe(lambda: ringloop.open(file, "rb")) == expected


async def test_an_error_has_the_file_name(tmp_path: Path) -> None:
    for mode in ("r", "w"):
        with pytest.raises(FileNotFoundError) as caught:
            await ringloop.open(tmp_path / "none" / "such", mode)
        assert caught.value.filename == str(tmp_path / "none" / "such")


async def test_an_fd_is_closed_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    os.lseek(fd, 2, os.SEEK_SET)
    async with ringloop.open(fd, "rb", buffering=0, closefd=False) as file:
        assert await file.read(3) == b"234"
        assert os.lseek(fd, 0, os.SEEK_CUR) == 5
        os.lseek(fd, 7, os.SEEK_SET)
        assert await file.read() == b"789"
    os.fstat(fd)
    async with ringloop.open(fd, "rb") as file:
        assert await file.seek(0) == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


async def test_an_fd_whose_opening_was_cancelled_is_still_the_callers(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    task = asyncio.ensure_future(ringloop.open(fd, "r+b"))
    await asyncio.sleep(0)  # its first step, in which it asks what the fd is
    assert task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    os.close(fd)


async def test_an_opener(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"by an opener")
    asked = []

    def opener(path: str, flags: int) -> int:
        asked.append((path, flags))
        return os.open(tmp_path / path, flags)

    async with ringloop.open("file", opener=opener) as file:
        assert await file.read() == "by an opener"
        assert not os.get_inheritable(file.fileno())
    assert asked == [("file", os.O_RDONLY | os.O_CLOEXEC)]
    with pytest.raises(ValueError, match="opener returned -7"):
        await ringloop.open("file", opener=lambda path, flags: -7)
    with pytest.raises(TypeError, match="expected integer from opener"):
        await ringloop.open("file", opener=lambda path, flags: None)
