"""Runs the C tests of `ringloop/native`: each `TEST(behaviour)` in a `.c` file here is one test, and so is
each `SAME(behaviour)`, which runs on a ring and on epoll.

What they test and each program are compiled once per run of pytest, by whichever worker comes first, with
the debug build's ENSUREs and, where the compiler can link them, the address and undefined-behaviour
sanitizers. Those that make threads are also compiled with the thread sanitizer. Each behaviour runs in a
process of its own; what it printed is shown when it fails (and with `-rP`, when it does not).
"""

import contextlib
import fcntl
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from support.loops import why_no_ring

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "ringloop" / "native"

# These include ring.c and ring_setup.c, to put a kernel of their own in the place of the system calls.
WHITE_BOX = {"entering", "kernels"}
WHITE_BOX_INCLUDES = {"ring", "ring_setup"}

# All that these test is the driver over io_uring.
OF_RINGS = {"buffers", "endings", "kernels", "queues", "setup", "waiting"}

# These make threads.
THREADED = {"hands", "workers", "pools", "waits"}
# The thread sanitizer knows no threads in a forked child of a process that had some.
NO_THREAD_SANITIZER = {"a_forked_child_frees_the_pool_whatever_its_threads_were_doing"}

COMPILER = os.environ.get("CC", "cc").split()
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wundef", "-Wvla", "-Wpointer-arith"]
WARNINGS += ["-Wstrict-prototypes"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
THREAD_SANITIZER = ["-fsanitize=thread", "-fno-omit-frame-pointer"]
TIMEOUT_S = 50
LACKING = 77  # the status of a program that the machine lacks something for; it says what


def behaviours(programs: Iterable[str], but: Iterable[str] = ()) -> list[tuple[str, str]]:
    """The pairs of program and behaviour."""
    return [
        (program, name)
        for program in sorted(programs)
        for name in re.findall(r"^(?:TEST|SAME)\((\w+)\)", (HERE / f"{program}.c").read_text(), re.MULTILINE)
        if name not in but
    ]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs `command`, its two outputs in one, without a sanitizer that the interpreter was started with."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=environment,
        timeout=TIMEOUT_S,
    )


def compile_c(sources: list[Path], target: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [*COMPILER, "-std=gnu11", *WARNINGS, *flags, f"-I{NATIVE}", f"-I{HERE}"]
    return run([*command, *map(str, sources), "-o", str(target), "-lpthread"])


@pytest.fixture(scope="session")
def sanitizers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The flags of the sanitizers that the compiler can link."""
    directory = tmp_path_factory.mktemp("sanitizers")
    source = directory / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    done = compile_c([source], directory / "empty", *SANITIZERS)
    return SANITIZERS if done.returncode == 0 else []


@pytest.fixture(scope="session")
def thread_sanitizer(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The flags of the thread sanitizer. Skips where it cannot be linked, or cannot run: it wants its own
    places in the address space, which newer kernels may have given away."""
    directory = tmp_path_factory.mktemp("thread-sanitizer")
    source = directory / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    if (
        compile_c([source], directory / "empty", *THREAD_SANITIZER).returncode != 0
        or run([str(directory / "empty")]).returncode != 0
    ):
        pytest.skip("the compiler has no thread sanitizer that runs here")
    return THREAD_SANITIZER


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run of pytest that all of its workers see."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def program(shared: Path, sanitizers: list[str]) -> Callable[[str], Path]:
    """Compiles the program of that name, the first time."""
    return Programs(shared / "native", sanitizers)


@pytest.fixture(scope="session")
def threaded_program(shared: Path, thread_sanitizer: list[str]) -> Callable[[str], Path]:
    """Compiles the program of that name with the thread sanitizer, the first time."""
    return Programs(shared / "native-threads", thread_sanitizer)


class Programs:
    """The programs with one choice of sanitizers, in a folder that several workers share.

    What is there is whole: it is made under another name, by one worker at a time.
    """

    def __init__(self, folder: Path, sanitizers: list[str]) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._flags = ["-O1", "-g", "-DRINGLOOP_DEBUG=1", *sanitizers]

    def __call__(self, name: str) -> Path:
        left_out = WHITE_BOX_INCLUDES if name in WHITE_BOX else set()
        sources = [source for source in sorted(NATIVE.glob("*.c")) if source.stem not in left_out]
        objects = [self._made(source, f"{source.stem}.o", "-c") for source in sources]
        return self._made(HERE / f"{name}.c", name, *map(str, objects))

    def _made(self, source: Path, name: str, *flags: str) -> Path:
        target = self._folder / name
        with self._alone(name):
            if not target.exists():
                unfinished = self._folder / f"{name}.new"
                done = compile_c([source], unfinished, *self._flags, *flags)
                if done.returncode != 0:
                    pytest.fail(f"{source.name} does not compile:\n{done.stdout}", pytrace=False)
                unfinished.rename(target)
        return target

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        with (self._folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@pytest.fixture(scope="session")
def liburing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where there is nothing to compare with."""
    directory = tmp_path_factory.mktemp("liburing")
    source = directory / "headers.c"
    source.write_text("#include <liburing.h>\n#ifndef IORING_SETUP_DEFER_TASKRUN\n#error old\n#endif\n")
    if compile_c([source], directory / "headers.o", "-c").returncode != 0:
        pytest.skip("the headers of liburing, 2.3 or later, are not installed")


@pytest.mark.parametrize(("name", "behaviour"), behaviours(source.stem for source in HERE.glob("*.c")))
def test_behaviour(
    name: str, behaviour: str, program: Callable[[str], Path], request: pytest.FixtureRequest
) -> None:
    if name in OF_RINGS and (reason := why_no_ring()):
        pytest.skip(reason)
    if name == "liburing":
        request.getfixturevalue("liburing")
    behave(program(name), behaviour)


@pytest.mark.parametrize(("name", "behaviour"), behaviours(THREADED, NO_THREAD_SANITIZER))
def test_behaviour_under_the_thread_sanitizer(
    name: str, behaviour: str, threaded_program: Callable[[str], Path]
) -> None:
    behave(threaded_program(name), behaviour)


def behave(program: Path, behaviour: str) -> None:
    """Runs one behaviour, and fails as it does."""
    try:
        done = run([str(program), behaviour])
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout
        pytest.fail(f"did not end within {TIMEOUT_S} s:\n{output}", pytrace=False)
    print(done.stdout)
    if done.returncode == LACKING:
        pytest.skip(done.stdout.strip())
    if done.returncode != 0:
        pytest.fail(f"status {done.returncode}:\n{done.stdout}", pytrace=False)


@pytest.mark.parametrize("flags", [("-O2",), ("-O1", "-DRINGLOOP_DEBUG=1")], ids=["release", "debug"])
@pytest.mark.parametrize("source", sorted(NATIVE.glob("*.c")), ids=lambda source: source.stem)
def test_compiles_without_a_warning(source: Path, flags: tuple[str, ...], tmp_path: Path) -> None:
    done = compile_c([source], tmp_path / "object.o", "-Wmissing-prototypes", "-c", *flags)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("header", sorted(NATIVE.glob("*.h")), ids=lambda header: header.stem)
def test_header_stands_by_itself(header: Path, tmp_path: Path) -> None:
    source = tmp_path / "alone.c"
    source.write_text(f'#include "{header.name}"\n#include "{header.name}"\n')
    done = compile_c([source], tmp_path / "alone.o", "-c", "-Wno-unused-function")
    assert done.returncode == 0, done.stdout


def test_ensure_aborts_in_a_debug_build_only(tmp_path: Path) -> None:
    source = tmp_path / "broken.c"
    source.write_text('#include "ensure.h"\nint main(void)\n{\n    ENSURE(!sizeof(int));\n    return 1;\n}\n')
    for flags, status in ([], 1), (["-DRINGLOOP_DEBUG=1"], -signal.SIGABRT):
        done = compile_c([source], tmp_path / "broken", *flags)
        assert done.returncode == 0, done.stdout
        done = run([str(tmp_path / "broken")])
        assert done.returncode == status
    assert "broken.c:4: invariant broken: !sizeof(int)" in done.stdout


def test_all_of_the_interface_is_compared_with_liburing() -> None:
    abi = (NATIVE / "abi.h").read_text()
    names = re.findall(r"\b(RL_\w+) = |#define (RL_\w+)|^struct (rl_\w+)", abi, re.MULTILINE)
    compared = set(re.findall(r"\w+", (HERE / "liburing.c").read_text()))
    assert len(names) > 70
    assert {name for group in names for name in group if name} - compared == set()
