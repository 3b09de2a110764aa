"""Acts with child processes."""

import asyncio
import contextlib
from asyncio.subprocess import PIPE

from lifecycle.chaos.scene import Act, Dice, Stage


async def child(_: Stage, dice: Dice) -> None:
    process = await asyncio.create_subprocess_exec(dice.choice(["cat", "true"]), stdin=PIPE, stdout=PIPE)
    try:
        await process.communicate(b"x" * dice.choice([0, 10, 1 << 20]))
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        # Not `wait()`: asyncio's own waits for the end of an output that nobody reads any more.
        process._transport.close()


ACTS: tuple[Act, ...] = (child,)
