"""Acts upon one file: read, written, both, line by line, locked, read ahead, opened in vain."""

import contextlib
import os

import ringloop
from lifecycle.chaos.scene import BIG_BYTES, Act, Dice, Stage, give_up_after

LOCK_SECONDS = 0.005
FIFO_SECONDS = 0.01
#: What a call on a file says that somebody has closed in the meantime.
CLOSED = ValueError


async def reads(stage: Stage, dice: Dice) -> None:
    async with ringloop.open(stage.big, "rb", buffering=dice.choice([-1, 0, 5000])) as file:
        calls = (
            lambda: file.read(dice.randrange(200_000)),
            lambda: file.seek(dice.randrange(BIG_BYTES)),
            lambda: file.readinto(bytearray(dice.randrange(1, 300_000))),
            lambda: file.pread(dice.randrange(100_000), dice.randrange(BIG_BYTES)),
            file.readline,
            file.tell,
        )
        async with dice.meanwhile(0.2, file.close):
            with contextlib.suppress(CLOSED):
                for _ in range(50):
                    await dice.choice(calls)()


async def writes(stage: Stage, dice: Dice) -> None:
    path = stage.new_path()
    pieces = (b"a" * 100, b"b" * 100_000, bytearray(300_000), memoryview(b"c" * 5000))
    behind = {"write_behind": dice.choice([1 << 16, 1 << 20])} if dice.chance(0.5) else {}
    async with ringloop.open(path, "wb", **behind) as file:
        calls = (
            *[lambda: file.write(dice.choice(pieces))] * 15,
            *[file.flush] * 5,
            *[lambda: file.truncate(dice.randrange(100_000))] * 5,
            *[file.tell] * 4,
            file.fsync,
        )
        async with dice.meanwhile(0.2, file.close):
            with contextlib.suppress(CLOSED):
                for _ in range(40):
                    await dice.choice(calls)()
    await ringloop.os.unlink(path)


async def both(stage: Stage, dice: Dice) -> None:
    path = stage.new_path()
    path.write_bytes(b"z" * 50_000)
    async with ringloop.open(path, "r+b") as file:
        calls = (
            lambda: file.read(dice.randrange(9000)),
            lambda: file.write(b"w" * dice.randrange(9000)),
            lambda: file.seek(dice.randrange(60_000)),
            file.flush,
            lambda: file.peek(100),
        )
        for _ in range(60):
            await dice.choice(calls)()


async def lines(stage: Stage, dice: Dice) -> None:
    async with (
        ringloop.open(stage.text, encoding="utf-8") as file,
        dice.meanwhile(0.3, file.close),
    ):
        with contextlib.suppress(CLOSED):
            async for _ in file:
                if dice.chance(0.001):
                    await dice.nap()


async def lock(stage: Stage, _: Dice) -> None:
    """A file of its own: one whose close was cancelled is open, and locked, until it is collected."""
    path = stage.new_path()
    path.touch()
    async with ringloop.open(path, "r+b") as first, ringloop.open(path, "r+b") as second:
        await first.lock()
        await give_up_after(LOCK_SECONDS, second.lock())


async def read_ahead(stage: Stage, _: Dice) -> None:
    with open(stage.big, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        await ringloop.prefetch(file.fileno(), 0, BIG_BYTES)


async def nobody_opens_the_other_end(stage: Stage, _: Dice) -> None:
    path = stage.new_path()
    os.mkfifo(path)
    await give_up_after(FIFO_SECONDS, ringloop.open(path, "rb"))


ACTS: tuple[Act, ...] = (reads, writes, both, lines, lock, read_ahead, nobody_opens_the_other_end)
