"""Long calls on what is in memory: others run in between, and a call that is cancelled then loses nothing."""

import asyncio
import fcntl
import os
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ringloop
from support.waiting import until_asleep

SIZE = 4 << 20
LINE = b"0123456789abcde\n"
CALLS: list[tuple[str, tuple[int, ...], bytes]] = [
    ("read", (SIZE,), LINE * (SIZE // 16)),
    ("read", (-1,), LINE * (SIZE // 16)),
    ("readline", (), b"x" * SIZE),
    ("readline", (SIZE - 5,), b"x" * SIZE),
    ("readlines", (), LINE * (SIZE // 16)),
    ("__anext__", (), b"x" * SIZE),
]
IDS = ["read", "all", "line", "limit", "lines", "next"]


class Counter:
    """Counts how often others had their turn while a call was done."""

    def __init__(self) -> None:
        self.turns = 0

    async def during(self, call: Any) -> Any:
        task = asyncio.ensure_future(call)
        while not task.done():
            self.turns += 1
            await asyncio.sleep(0)
        return task.result()


def joined(found: Any) -> bytes:
    text = "".join(found)
    return text.encode()


@pytest.mark.parametrize("newline", [None, "", "\n", "\r\n"])
@pytest.mark.parametrize(("method", "arguments", "content"), CALLS, ids=IDS)
async def test_others_run_while_text_is_read(
    tmp_path: Path, method: str, arguments: Any, content: bytes, newline: str | None
) -> None:
    (tmp_path / "file").write_bytes(content)
    counter = Counter()
    async with ringloop.open(tmp_path / "file", newline=newline) as file:
        found = await counter.during(getattr(file, method)(*arguments))
        assert joined(found) == content[: arguments[0] if arguments and arguments[0] >= 0 else SIZE]
    assert counter.turns > 4


async def test_others_run_while_all_is_decoded(tmp_path: Path) -> None:
    """As often as while so much is read in lines."""
    (tmp_path / "file").write_bytes(LINE * SIZE)
    counter = Counter()
    async with ringloop.open(tmp_path / "file") as file:
        assert len(await counter.during(file.read())) == 16 * SIZE
    assert counter.turns > 16 * SIZE // (512 * 1024)


async def test_others_run_while_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(LINE * (SIZE // 16))
    counter = Counter()
    async with ringloop.open(tmp_path / "file", "rb", buffering=2 * SIZE) as file:
        await file.peek(1)
        assert await counter.during(file.readlines()) == [LINE] * (SIZE // 16)
    assert counter.turns > 4


@pytest.mark.parametrize("mode", ["w", "wb"])
async def test_others_run_while_nothing_is_written(tmp_path: Path, mode: str) -> None:
    counter = Counter()
    async with ringloop.open(tmp_path / "file", mode) as file:
        nothing: Any = "" if mode == "w" else b""
        await counter.during(file.writelines(nothing for _ in range(100_000)))
    assert counter.turns > 4


def calls() -> list[Callable[[Any], Any]]:
    return [
        lambda file: file.read(SIZE - 3),
        lambda file: file.readlines(),
        lambda file: file.readline(),
        lambda file: file.read(),
    ]


@pytest.mark.parametrize("number", range(4), ids=["read", "readlines", "readline", "all"])
@pytest.mark.parametrize("mode", ["r", "rb"])
@pytest.mark.parametrize("turns", [2, 3, 5, 9])
async def test_what_a_cancelled_call_had_gathered_is_read_again(
    tmp_path: Path, number: int, mode: str, turns: int
) -> None:
    content = b"x" * SIZE + b"\nlast\n" if number == 2 else b"first\n" + LINE * (SIZE // 16)
    (tmp_path / "file").write_bytes(content)
    async with ringloop.open(tmp_path / "file", mode) as file:
        first = await file.read(3)
        position = await file.tell()
        task = asyncio.ensure_future(calls()[number](file))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done = await asyncio.wait([task])
        if next(iter(done[0])).cancelled():
            if number != 1:
                assert await file.tell() == position
            line = await file.readline()
            found = first + line
            assert found == (content if mode == "rb" else content.decode())[: content.index(b"\n") + 1]
            rest = await file.read()
            assert found + rest == (content if mode == "rb" else content.decode())


#: Encoding, and bytes that are none in it.
ENCODINGS = [
    ("utf-8", b"\xff"),
    ("utf-8-sig", b"\xe2\x28"),
    ("utf-16", b"\x00\xdc"),
    ("utf-32", b"\xff\xff\xff\xff"),
    ("utf-7", b"\xff"),
    ("cp1252", b"\x81"),
    ("ascii", b"\x80"),
    ("shift_jis", b"\x80"),
    ("gb18030", b"\xff"),
    ("iso2022_jp", b"\x80"),
]
PLACES = [(), (700_000,), (262_144, 262_146), (20_000, 524_286, 1_100_000)]


@pytest.mark.parametrize("newline", [None, "", "\r"])
@pytest.mark.parametrize("errors", ["strict", "replace", "surrogateescape", "surrogatepass", "ignore"])
@pytest.mark.parametrize(("encoding", "wrong"), ENCODINGS, ids=[name for name, _ in ENCODINGS])
def test_all_of_a_long_text_is_decoded_as_by_io(
    tmp_path: Path, encoding: str, wrong: bytes, errors: str, newline: str | None
) -> None:
    """Also what is told of an error, and the endings that were seen."""

    async def read_here(before: int) -> Any:
        async with ringloop.open(path, encoding=encoding, errors=errors, newline=newline) as file:
            first = await file.read(before)
            try:
                rest: Any = await file.read()
            except UnicodeDecodeError as error:
                return first, str(error), error.start, error.end, len(error.object)
            return first, rest, file.newlines, await file.tell(), await file.read()

    def read_there(before: int) -> Any:
        with open(path, encoding=encoding, errors=errors, newline=newline) as file:
            first = file.read(before)
            try:
                rest = file.read()
            except UnicodeDecodeError as error:
                return first, str(error), error.start, error.end, len(error.object)
            return first, rest, file.newlines, file.tell(), file.read()

    path = tmp_path / "file"
    characters = "" if encoding in ("ascii", "cp1252") else "\u3042\u4e9c"
    units = [f"x{'-' * n}{characters}{end}" for n, end in enumerate(["\r\n", "\r", "\n", "", "\r\n"] * 5)]
    unit = "".join(units)
    content = (unit * (1_500_000 // len(unit.encode()))).encode(encoding)
    with asyncio.Runner() as runner:
        for places in PLACES:
            spoilt = content
            for place in places:
                spoilt = spoilt[:place] + wrong + spoilt[place:]
            path.write_bytes(spoilt)
            for before in (0, 3):
                assert runner.run(read_here(before)) == read_there(before)


async def test_lines_that_a_cancelled_call_had_read_without_a_buffer_are_read_again() -> None:
    reader, writer = os.pipe()
    async with ringloop.open(reader, "rb", buffering=0) as file:
        os.write(writer, b"one\ntwo\nthr")
        task = asyncio.ensure_future(file.readlines())
        left = b"...."
        while int.from_bytes(left, "little"):
            await asyncio.sleep(0)
            left = fcntl.ioctl(reader, termios.FIONREAD, bytes(4))
        await until_asleep()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        os.write(writer, b"ee\n")
        os.close(writer)
        assert await file.readlines() == [b"one\n", b"two\n", b"three\n"]


async def test_an_ending_of_two_characters_in_two_pieces(tmp_path: Path) -> None:
    lines = [b"x" * length + b"\r\n" for length in (8191, 8190, 16_383, 5, 8192, 3)]
    (tmp_path / "file").write_bytes(b"".join(lines))
    async with ringloop.open(tmp_path / "file", newline="\r\n") as file:
        assert [line.encode() async for line in file] == lines
