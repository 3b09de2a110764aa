"""Acts of the table of operations: submitted one by one, in batches and in chains."""

import contextlib
import os

import ringloop
from lifecycle.chaos.scene import Act, Dice, Stage


async def batch(stage: Stage, dice: Dice) -> None:
    calls = [("stat", stage.big), ("stat", stage.missing), ("stat", stage.tree), ("nop",)]
    chosen = dice.choices(calls, k=dice.randrange(400))
    async with ringloop.batch(chosen, limit=dice.choice([1, 7, 256])) as results:
        async for _ in results:
            pass


async def batch_of_opens(stage: Stage, _: Dice) -> None:
    async with ringloop.batch([("open", stage.big, os.O_RDONLY)] * 50, limit=20) as results:
        async for _, fd in results:
            os.close(fd)


async def chain(stage: Stage, dice: Dice) -> None:
    with contextlib.suppress(FileNotFoundError):
        async with ringloop.chain() as links:
            fd = links.open(dice.choice([stage.big, stage.missing]), os.O_RDONLY)
            links.read(fd, dice.randrange(1, 100_000))
            links.close(fd)


async def links(_: Stage, dice: Dice) -> None:
    """All is submitted together: what of /proc is not in memory, and a pipe's reader waits for its peer."""
    reader, writer = os.pipe()
    with open(reader, "rb", 0), open(writer, "wb", 0) as end:

        def feed() -> None:
            end.write(b"x" * 50)

        async with dice.meanwhile(1, feed), ringloop.chain() as steps:
            for _ in range(dice.randrange(1, 4)):
                fd = steps.open("/proc/self/status", os.O_RDONLY)
                steps.read(fd, 6)
                if dice.chance(0.5):
                    steps.read(reader, 5)
                steps.close(fd)


async def submitted(_: Stage, dice: Dice) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb", 0), open(writer, "wb", 0) as end:
        operation = ringloop.submit("read", reader, 100)
        try:
            await dice.nap()
            if dice.chance(0.5):
                end.write(b"x" * 50)
                await operation
        finally:
            # Before its file is closed, which others might open again under the same number.
            operation.cancel()


ACTS: tuple[Act, ...] = (batch, batch_of_opens, chain, links, submitted)
