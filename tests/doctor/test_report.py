"""What the doctor says on a machine where io_uring works; tests/unavailable has the others."""

import os
import re
import sys

import pytest

import ringloop
from doctor.command import ringloop_command, run_python
from support.marks import needs_io_uring

pytestmark = needs_io_uring


@pytest.fixture(scope="module")
def report() -> str:
    child = ringloop_command()
    assert (child.stderr, child.returncode) == ("", 0)
    return child.stdout


def entry(report: str, label: str) -> str:
    """The text beside the label, in one line."""
    found = re.search(rf"^{label}\s+(.*(?:\n .*)*)", report, re.MULTILINE)
    assert found, f"no {label!r} in\n{report}"
    return " ".join(found[1].split())


def test_versions_and_kernel(report: str) -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    assert report.startswith(f"ringloop {ringloop.__version__} on CPython {python}")
    assert entry(report, "kernel") == f"Linux {os.uname().release} on {os.uname().machine}"


def test_permissions(report: str) -> None:
    permitted = entry(report, "permitted")
    for subject in ("kernel.io_uring_disabled", "seccomp", "RLIMIT_MEMLOCK"):
        assert subject in permitted


def test_io_uring_works(report: str) -> None:
    assert entry(report, "io_uring").startswith("works")


def test_sizes(report: str) -> None:
    sizes = re.fullmatch(r"(\d+) entries for submissions, (\d+) for completions", entry(report, "ring"))
    assert sizes
    assert 0 < int(sizes[1]) <= int(sizes[2])


def test_flags_and_features_in_words(report: str) -> None:
    assert "R_DISABLED (5.10): made idle, started by the thread" in entry(report, "setup flags")
    assert "EXT_ARG (5.11): waits take a timeout" in entry(report, "features")


def test_operations_by_name(report: str) -> None:
    operations = entry(report, "operations")
    count = re.match(r"(\d+) available: ", operations)
    assert count
    names = re.split(r" (?:hidden, or )?not in this kernel: ", operations.removeprefix(count[0]))[0].split()
    assert len(names) == int(count[1])
    assert {"NOP", "POLL_ADD", "ACCEPT", "RECV", "SEND", "ASYNC_CANCEL"} <= set(names)


def test_capabilities_and_wake_up(report: str) -> None:
    assert entry(report, "capabilities")
    assert "eventfd" in entry(report, "wake-up")
    assert "set_wakeup_fd" in entry(report, "wake-up")


def test_what_a_loop_would_use(report: str) -> None:
    assert "over the io_uring driver (RINGLOOP_DRIVER is not set)" in entry(report, "loop")


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        ("io_uring", "over the io_uring driver (RINGLOOP_DRIVER=io_uring)"),
        ("epoll", "over the epoll driver (RINGLOOP_DRIVER=epoll)"),
        ("kqueue", "none can be made: RINGLOOP_DRIVER must be 'io_uring' or 'epoll', not 'kqueue'"),
    ],
)
def test_the_environment_is_told(driver: str, words: str) -> None:
    child = ringloop_command(env={"RINGLOOP_DRIVER": driver})
    assert child.returncode == 0
    assert words in entry(child.stdout, "loop")


def test_lines_fit_a_terminal(report: str) -> None:
    assert max(map(len, report.splitlines())) <= 110


def test_version_option() -> None:
    assert ringloop_command("--version").stdout == f"ringloop {ringloop.__version__}\n"


def test_an_unknown_command_is_refused() -> None:
    child = ringloop_command("walk")
    assert child.returncode == 2
    assert "walk" in child.stderr


def test_a_reader_that_has_enough() -> None:
    """The exit status is still the answer, and nothing is said of the pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        done = run_python("-m", "ringloop", stdout=output)
    assert (done.returncode in (0, 1), done.stderr) == (True, "")


def test_a_name_that_nothing_has() -> None:
    """It shows what has a name."""
    report = ringloop_command(env={"RINGLOOP_DISABLE": ""}).stdout
    child = ringloop_command(env={"RINGLOOP_DISABLE": "no_such"})
    assert child.stderr == ""
    assert "io_uring has nothing called 'no_such'" in entry(child.stdout, "loop")
    for label in ("setup flags", "operations"):
        assert entry(child.stdout, label) == entry(report, label)


def test_what_is_hidden_may_be_in_this_kernel() -> None:
    report = ringloop_command(env={"RINGLOOP_DISABLE": "msg_ring"}).stdout
    assert "MSG_RING" in entry(report, "operations").split(" hidden, or not in this kernel: ")[1].split()
