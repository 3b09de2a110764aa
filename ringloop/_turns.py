"""Walking through what is in memory: without a system call in between, others would not run meanwhile."""

from collections.abc import Iterable
from typing import Generic, Self, TypeVar

from ringloop._os_listing import turn

ITEMS_A_TURN = 16

Item = TypeVar("Item")


class InTurns(Generic[Item]):
    """Gives each item, to `async for`. Others run from time to time."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._given = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        self._given += 1
        if self._given % ITEMS_A_TURN == 0:
            await turn()
        for item in self._items:
            return item
        raise StopAsyncIteration
