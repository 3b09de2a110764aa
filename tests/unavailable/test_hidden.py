"""RINGLOOP_DISABLE: what it names looks absent, and a loop does without it or takes epoll."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import ringloop
from doctor.command import ringloop_command
from ringloop import _core, drivers, hiding, kernel_names, operations
from ringloop.kernel_names import Meaning
from support.marks import needs_io_uring


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The next test's rings lack nothing, and its first refusal is warned of."""
    monkeypatch.setenv("RINGLOOP_DRIVER", "")
    monkeypatch.setenv("RINGLOOP_DISABLE", "")
    monkeypatch.setattr(drivers, "_warned_in_pid", 0)
    yield
    monkeypatch.undo()
    drivers.hide_what_is_disabled()


def names(mask: int, meanings: dict[int, Meaning]) -> set[str]:
    return {meaning.name.lower() for bit, meaning in meanings.items() if mask >> bit & 1}


def found() -> set[str]:
    """All that a new loop's ring has, by the names that RINGLOOP_DISABLE takes."""
    drivers.prove_io_uring()
    report = _core.driver_report("io_uring")
    return {
        *names(report["setup_flags"], kernel_names.SETUP_FLAGS),
        *names(report["features"], kernel_names.FEATURES),
        *names(report["capabilities"], kernel_names.CAPABILITIES),
        *(name.lower() for name in kernel_names.operation_names(report["opcodes"])),
    }


def disable(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setenv("RINGLOOP_DISABLE", what)


@needs_io_uring
@pytest.mark.parametrize(
    "what",
    ["defer_taskrun", "single_issuer", "no_iowait", "multishot_recv", "cancel_any", "statx", "MSG_RING"],
)
def test_what_is_named_is_not_there(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = found()
    disable(monkeypatch, what)
    assert what.lower() not in found()
    disable(monkeypatch, "")
    assert found() == before


@needs_io_uring
def test_several_names_and_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    disable(monkeypatch, " statx , openat,,provided_buffers")
    assert not found() & {"statx", "openat", "multishot_recv"}


@needs_io_uring
@pytest.mark.parametrize("kernel", ["5.15", "6.1", "6.6"])
def test_all_that_came_after_a_kernel(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    disable(monkeypatch, f"after_{kernel}")
    limit = tuple(map(int, kernel.split(".")))
    left = found()
    assert {"nop", "ext_arg", "multishot_poll"} <= left
    for meanings in kernel_names.SETUP_FLAGS, kernel_names.FEATURES, kernel_names.CAPABILITIES:
        for meaning in meanings.values():
            came = tuple(map(int, meaning.kernel.split(".")))
            assert came <= limit or meaning.name.lower() not in left
    for name, came_with in zip(kernel_names.OPERATIONS, kernel_names.OPERATION_KERNELS, strict=True):
        assert tuple(map(int, came_with.split("."))) <= limit or name.lower() not in left


def test_names_stand_for_one_thing_each() -> None:
    all_names = [
        *(meaning.name.lower() for meaning in kernel_names.SETUP_FLAGS.values()),
        *(meaning.name.lower() for meaning in kernel_names.FEATURES.values()),
        *(meaning.name.lower() for meaning in kernel_names.CAPABILITIES.values()),
        *(name.lower() for name in kernel_names.OPERATIONS),
    ]
    assert len(all_names) == len(set(all_names))


def test_the_table_of_operations_has_the_same_kernels() -> None:
    for entry in operations.ENTRIES.values():
        if entry.opcode:
            opcode = kernel_names.OPERATIONS.index(entry.opcode)
            assert entry.kernel == kernel_names.OPERATION_KERNELS[opcode], entry.name


@pytest.mark.parametrize("what", ["defertaskrun", "after_6", "io_uring"])
def test_a_name_of_nothing_is_an_error(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    disable(monkeypatch, f"statx,{what}")
    with pytest.raises(ValueError, match=f"RINGLOOP_DISABLE: io_uring has nothing called '{what}'"):
        ringloop.new_event_loop()


@needs_io_uring
@pytest.mark.parametrize("what", ["ext_arg", "nodrop", "poll_add", "r_disabled", "after_5.10"])
def test_without_what_a_loop_needs_it_takes_epoll(
    what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disable(monkeypatch, what)
    with closing(ringloop.new_event_loop()) as loop:
        assert loop.driver == "epoll"
        assert loop.run_until_complete(asyncio.sleep(0, "done")) == "done"
    assert "RINGLOOP_DISABLE hides what the loop cannot do without" in caplog.text
    with pytest.raises(ringloop.RingUnavailableError, match="take names out of RINGLOOP_DISABLE"):
        ringloop.new_event_loop("io_uring")


@needs_io_uring
def test_an_operation_that_is_hidden_is_executed_by_workers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    disable(monkeypatch, "statx,openat,read")
    for name in "statx", "openat", "read":
        assert operations.OWN_WORKER in ringloop.capabilities()[name].served

    async def main() -> tuple[int, bytes]:
        status = await ringloop.submit("statx", tmp_path / "file")
        async with ringloop.open(tmp_path / "file", "rb", buffering=0) as file:
            return status.st_size, await file.read(2)

    assert ringloop.run(main()) == (3, b"ab")


@needs_io_uring
def test_the_doctor_tells_what_each_absence_costs() -> None:
    child = ringloop_command(env={"RINGLOOP_DISABLE": "after_5.15"})
    assert (child.stderr, child.returncode) == ("", 0)
    report = " ".join(child.stdout.split())
    assert "missing RINGLOOP_DISABLE=after_5.15 hides what it names" in report
    assert "multishot_recv (6.1): without it, a receive is submitted for each message" in report
    assert "DEFER_TASKRUN (6.1): without it, completion work runs in the middle of callbacks" in report
    assert "by ringloop's worker threads, or not at all:" in report


def test_hidden_needs_whole_masks() -> None:
    with pytest.raises(ValueError, match="opcodes must have 32 bytes"):
        _core.hide(0, 0, 0, b"")


def test_opcode_bits() -> None:
    assert hiding.opcode_bits(frozenset({0, 9, 255})) == b"\x01\x02" + bytes(29) + b"\x80"
