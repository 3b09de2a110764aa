"""Every operation of the table gives what the blocking call gives, and is served as the table says."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ringloop
from operations.cases import BAD, GOOD, Case
from operations.world import World, is_ringloop, mounts_learnt
from ringloop.kernel_names import OPERATIONS as OPCODES
from ringloop.operations import (
    DRIVER,
    DRIVER_WORKER,
    ENTRIES,
    INLINE,
    OWN_WORKER,
    READINESS,
    RING,
    RING_WORKER,
    TIMER,
)
from support.marks import needs_io_uring

FDS = {name for name, entry in ENTRIES.items() if entry.result in ("fd", "fds", "(fd, address)")}


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[tuple[World, World]]:
    """Two worlds that are alike: one for the operation, one for the blocking call."""
    with contextlib.ExitStack() as stack:
        yield World(tmp_path / "ours", stack), World(tmp_path / "theirs", stack)


def runs_here(name: str) -> bool:
    """Whether the running loop has the operation."""
    needs_ringloop = ENTRIES[name].waits or name == "msg_ring"
    return is_ringloop(asyncio.get_running_loop()) or not needs_ringloop


def normal(world: World, name: str, value: Any) -> Any:
    """A result in a form that can be compared; fds are closed."""
    if name == "accept":
        fd = value[0] if isinstance(value, tuple) else value
        return kind_of(fd)
    if name == "pipe":
        return sorted(map(kind_of, value))
    if name in FDS:
        return kind_of(value, world)
    if name == "waitid":
        return (value.si_code, value.si_status) if isinstance(value, os.waitid_result) else value
    if name == "getdents64":
        return sorted(one[0] if isinstance(one, tuple) else one for one in value)
    if name == "epoll_wait":
        return [events for _, events in value]
    if name == "statfs":
        return value.f_bsize, value.f_blocks, value.f_namemax, value.f_flag, value.f_fsid
    return world.told(value)


def kind_of(fd: int, world: World | None = None) -> str:
    assert not os.get_inheritable(fd)
    target = os.readlink(f"/proc/self/fd/{fd}")
    os.close(fd)
    return target.partition(":")[0] if world is None else world.told(target).partition(":")[0]


def assert_same_failure(
    ours: World, error: BaseException, theirs: World, expected: BaseException, name: str
) -> None:
    def told(world: World, error: BaseException) -> tuple[Any, ...]:
        names = (getattr(error, attribute, None) for attribute in ("filename", "filename2"))
        return tuple(world.told(name) if isinstance(name, str) else None for name in names)

    assert type(error) is type(expected)
    assert getattr(error, "errno", None) == getattr(expected, "errno", None)
    # These functions of os do not tell the path.
    if name not in ("utimensat", "mknod"):
        assert told(ours, error) == told(theirs, expected)


async def submitted(name: str, case: Case) -> Any:
    return await ringloop.submit(name, *case[0])


@pytest.mark.parametrize("name", ENTRIES)
async def test_result_is_that_of_the_blocking_call(name: str, worlds: tuple[World, World]) -> None:
    ours, theirs = worlds
    case, oracle = GOOD[name](ours), GOOD[name](theirs)
    if name == "msg_ring":
        pytest.skip("test_message_between_rings has it")
    if not runs_here(name):
        with pytest.raises(RuntimeError, match=f"{name}.*ringloop's loop"):
            ringloop.submit(name, *case[0])
        return
    try:
        expected = normal(theirs, name, oracle[1]())
    except OSError as error:
        with pytest.raises(OSError, match=r".*") as caught:
            await submitted(name, case)
        assert_same_failure(ours, caught.value, theirs, error, name)
        return
    assert normal(ours, name, await submitted(name, case)) == expected
    assert ours.state() == theirs.state()


@pytest.mark.parametrize("name", BAD)
async def test_failure_is_that_of_the_blocking_call(name: str, worlds: tuple[World, World]) -> None:
    ours, theirs = worlds
    if not runs_here(name):
        return
    case, oracle = BAD[name](ours), BAD[name](theirs)
    loop = asyncio.get_running_loop()
    driver = getattr(loop, "driver", None)
    if driver and not ringloop.capabilities(driver)[name].served:
        with pytest.raises(OSError, match="Invalid argument"):
            await submitted(name, case)
        return
    with pytest.raises(OSError, match=r".*") as expected:
        oracle[1]()
    with pytest.raises(OSError, match=r".*") as caught:
        await submitted(name, case)
    assert_same_failure(ours, caught.value, theirs, expected.value, name)
    assert ours.state() == theirs.state()


def test_every_operation_has_its_cases() -> None:
    without_failure = {"nop", "pipe", "timeout", "getcwd"}
    assert set(GOOD) == set(ENTRIES)
    assert set(BAD) >= set(ENTRIES) - without_failure


@pytest.mark.parametrize("name", [name for name in ENTRIES if name != "msg_ring"])
async def test_served_as_the_table_says(name: str, worlds: tuple[World, World]) -> None:
    loop = asyncio.get_running_loop()
    if not is_ringloop(loop):
        return
    served = ringloop.capabilities(loop.driver)[name].served  # type: ignore[attr-defined]
    case = GOOD[name](worlds[0])
    before = loop._counters()  # type: ignore[attr-defined]
    operation = ringloop.submit(name, *case[0])
    inline = operation.done()
    with contextlib.suppress(OSError):
        normal(worlds[0], name, await operation)
    after = loop._counters()  # type: ignore[attr-defined]
    works = after["works_completed"] - before["works_completed"]
    if inline:
        assert served[0] == INLINE
    elif served[-1] == OWN_WORKER:
        assert works >= 1
    else:
        assert set(served) <= {INLINE, RING, RING_WORKER, DRIVER, READINESS, TIMER, DRIVER_WORKER}
        assert after["submitted"] > before["submitted"]


@pytest.mark.parametrize(
    "name", [name for name, entry in ENTRIES.items() if "inline" in entry.served and name != "write"]
)
async def test_what_is_cached_is_done_at_once(name: str, worlds: tuple[World, World]) -> None:
    loop = asyncio.get_running_loop()
    if not is_ringloop(loop):
        return
    await mounts_learnt(worlds[0])
    # A file with data still to be written is not closed at once.
    arguments = (worlds[0].open("file", os.O_RDONLY),) if name == "close" else GOOD[name](worlds[0])[0]
    operation = ringloop.submit(name, *arguments)
    assert operation.done()
    normal(worlds[0], name, await operation)


def test_opcodes_are_the_kernels() -> None:
    for entry in ENTRIES.values():
        assert (entry.opcode == "") != (entry.number == "")
        assert not entry.opcode or entry.opcode in OPCODES


@needs_io_uring
def test_capabilities_are_those_of_this_machine() -> None:
    table = ringloop.capabilities("io_uring")
    assert list(table) == list(ENTRIES)
    assert table["read"].served == ("inline", "ring")
    assert table["flock"].served == ("own worker",)
    assert table["flock"].cancelled == "while it runs"
    assert table["fsync"].cancelled == "before it begins"


def test_capabilities_without_io_uring() -> None:
    table = ringloop.capabilities("epoll")
    assert list(table) == list(ENTRIES)
    assert table["recv"].served == ("readiness",)
    assert table["read"].served == ("inline", "readiness", "driver worker")
    assert table["timeout"].served == ("timer",)
    assert table["flock"].served == ("own worker",)
    assert [name for name in table if not table[name].served] == ["msg_ring"]
