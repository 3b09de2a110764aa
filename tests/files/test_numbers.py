"""Arguments that must be integers: a float is refused, and what has `__index__` is taken, as by io."""

from pathlib import Path
from typing import Any

import pytest

import ringloop
from files.twins import told


class Three:
    def __index__(self) -> int:
        return 3

    def __repr__(self) -> str:
        return "three"


async def outcome(call: Any) -> Any:
    try:
        result = call()
        return await result if hasattr(result, "__await__") else result
    except Exception as error:
        return told(error)


@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("value", [1.5, "1", None, Three(), True, 2.0], ids=repr)
async def test_numbers_of_binary_files(tmp_path: Path, buffering: int, value: Any) -> None:
    paths = tmp_path / "ringloop", tmp_path / "blocking"
    for path in paths:
        path.write_bytes(b"0123456789" * 10)
    async with ringloop.open(paths[0], "rb+", buffering=buffering) as file:
        with open(paths[1], "rb+", buffering=buffering) as blocking:
            for name, arguments in (
                ("seek", (value,)),
                ("seek", (0, value)),
                ("truncate", (value,)),
                ("read", (value,)),
                ("readline", (value,)),
            ):
                expected = await outcome(lambda: getattr(blocking, name)(*arguments))  # noqa: B023
                found = await outcome(lambda: getattr(file, name)(*arguments))  # noqa: B023
                assert found == expected, (name, arguments)
                assert await file.tell() == blocking.tell()
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("mode", ["rb+", "r+"])
async def test_floats_are_no_positions(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    async with ringloop.open(path, mode) as file:
        for call in (
            lambda: file.pread(1.5, 0),
            lambda: file.pread(1, 0.5),
            lambda: file.pwrite(b"x", 1.5),
            lambda: file.seek(0, 1.5),
            lambda: file.truncate(2.0),
            lambda: file.lock(start=0.5),
            lambda: file.unlock(start=0, length=1.0),
        ):
            with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
                await call()
    assert path.read_bytes() == b"0123456789"


@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("mode", ["rb+", "wb+", "ab+"])
async def test_positions_beyond_a_tebibyte(tmp_path: Path, mode: str, buffering: int) -> None:
    paths = tmp_path / "ringloop", tmp_path / "blocking"
    for path in paths:
        path.write_bytes(b"x" * 23)
    far = 1 << 40
    async with ringloop.open(paths[0], mode, buffering=buffering) as file:
        with open(paths[1], mode, buffering=buffering) as blocking:
            for arguments in (
                (far, 1),
                (5, 1),
                (far,),
                (-10, 1),
                (7, 1),
                (far, 2),
                (1 << 62, 1),
                (1, 1),
                ((1 << 63) - 1,),
                (1, 1),
                (0, 1 << 40),
                (3, 1 << 32),
            ):
                expected = await outcome(lambda: blocking.seek(*arguments))  # noqa: B023
                found = await outcome(lambda: file.seek(*arguments))  # noqa: B023
                assert found[0] == expected[0] if isinstance(expected, tuple) else found == expected
                assert await file.tell() == blocking.tell()
                if blocking.tell() < 1 << 60:  # beyond that Pythons differ in what they read at once
                    assert (await file.read(5)) == blocking.read(5)
