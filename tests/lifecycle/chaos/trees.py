"""Acts upon directories: listed, walked, searched, copied and removed; the attributes of files."""

import contextlib
import os

import ringloop
from lifecycle.chaos.scene import Act, Dice, Stage


async def scan(stage: Stage, dice: Dice) -> None:
    entries = ringloop.os.scandir(stage.large)
    async with dice.meanwhile(0.3, entries.close), entries:
        async for entry in entries:
            if dice.chance(0.001):
                await entry.stat()


async def walk(stage: Stage, dice: Dice) -> None:
    async for _ in ringloop.os.walk(stage.tree, topdown=dice.chance(0.5)):
        if dice.chance(0.1):
            await dice.nap()


async def search(stage: Stage, dice: Dice) -> None:
    # What others remove meanwhile is an error, as with pathlib.
    with contextlib.suppress(FileNotFoundError):
        async for _ in ringloop.Path(stage.directory).glob("**/*1"):
            if dice.chance(0.1):
                await dice.nap()


async def copy(stage: Stage, _: Dice) -> None:
    copied = await ringloop.shutil.copytree(stage.tree, stage.new_path())
    await ringloop.shutil.rmtree(copied)


async def attributes(stage: Stage, dice: Dice) -> None:
    path = stage.new_path()
    path.touch()
    calls = (
        lambda: ringloop.os.listdir(stage.large),
        lambda: ringloop.os.statvfs(path),
        lambda: ringloop.os.utime(path),
        lambda: ringloop.os.chmod(path, 0o600),
        lambda: ringloop.os.access(path, os.R_OK),
        lambda: ringloop.os.truncate(path, 100),
        lambda: ringloop.os.setxattr(path, "user.chaos", bytes(dice.randrange(1000))),
        lambda: ringloop.os.listxattr(path),
    )
    for _ in range(20):
        await dice.choice(calls)()


ACTS: tuple[Act, ...] = (scan, scan, walk, search, copy, attributes)
