"""Random calls on a file and on builtins.open's: results, errors, positions and contents are the same."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from files.twins import Twins
from support.loops import FACTORIES

CONTENT = b"".join(b"%d line\n" % number * (number % 3) for number in range(300)) + b"no newline"
SIZES = st.one_of(st.integers(-1, 40), st.sampled_from([100, 4096, 8192, 10_000]))
POSITIONS = st.one_of(st.integers(0, 60), st.sampled_from([4096, len(CONTENT), len(CONTENT) + 10, 9000]))
BYTES = st.one_of(
    st.binary(max_size=30), st.sampled_from([b"a\nb\nc", b"x" * 5000, b"\n" * 20, b"y" * 20_000])
)
#: Off, so small that every write waits for the one before, and so large that none does.
WRITE_BEHIND = st.sampled_from([0, 1, 100, 1 << 20])


class Machine(RuleBasedStateMachine):
    """Keeps both files open on one loop."""

    loop_name = "asyncio"
    mode = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=FACTORIES[self.loop_name])
        self.folder = tempfile.TemporaryDirectory()
        self.twins: Any = None

    def make(self, content: bytes) -> None:
        self.twins = Twins(self.runner, Path(self.folder.name), content)

    def teardown(self) -> None:
        if self.twins is not None and self.twins.ours is not None:
            self.twins.close()
        self.runner.close()
        self.folder.cleanup()

    def written(self) -> None:
        """Without a flush the C of io reads on in a buffer that a write has changed, and differs from its
        own Python form in _pyio."""
        if "+" in self.mode:
            self.twins.same("flush")

    @rule(size=SIZES)
    def read(self, size: int) -> None:
        self.twins.same("read", size)

    @rule(size=SIZES)
    def readline(self, size: int) -> None:
        self.twins.same("readline", size)

    @rule(hint=SIZES)
    def readlines(self, hint: int) -> None:
        self.twins.same("readlines", hint)

    @rule()
    def iterate(self) -> None:
        self.twins.next()

    @rule()
    def flush(self) -> None:
        self.twins.same("flush")

    @rule(size=st.one_of(st.none(), POSITIONS))
    def truncate(self, size: int | None) -> None:
        self.twins.same("truncate", size)


class BinaryMachine(Machine):
    @initialize(
        mode=st.sampled_from(["rb", "r+b", "w+b", "a+b", "wb", "ab"]),
        buffering=st.sampled_from([-1, 0, 2, 16, 100, 8192]),
        write_behind=WRITE_BEHIND,
    )
    def begin(self, mode: str, buffering: int, write_behind: int) -> None:
        self.make(CONTENT)
        self.mode, self.buffering = mode, buffering
        self.write_behind = 0 if mode == "rb" or buffering == 0 else write_behind
        self.twins.open(mode, buffering=buffering, write_behind=self.write_behind)

    @rule(data=BYTES)
    def write(self, data: bytes) -> None:
        self.twins.same("write", data)
        self.written()

    @rule(data=BYTES)
    def write_of_a_bytearray(self, data: bytes) -> None:
        self.twins.same("write", bytearray(data))
        self.written()

    @rule(lines=st.lists(BYTES, max_size=4))
    def writelines(self, lines: list[bytes]) -> None:
        self.twins.same("writelines", lines)
        self.written()

    @rule(position=POSITIONS)
    def seek(self, position: int) -> None:
        self.twins.same("seek", position)

    @rule(offset=st.integers(-50, 50))
    def seek_from_here(self, offset: int) -> None:
        self.twins.same("seek", offset, 1)

    @rule(offset=st.integers(-50, 10))
    def seek_from_the_end(self, offset: int) -> None:
        self.twins.same("seek", offset, 2)

    @rule()
    def tell(self) -> None:
        self.twins.same("tell")

    @precondition(lambda self: self.buffering > 0)
    @rule(size=SIZES)
    def read1(self, size: int) -> None:
        """How much comes depends on what is read ahead: only that it is the right data is the same."""
        if not self.twins.theirs.readable():
            return
        position = self.twins.same("tell")
        data = self.runner.run(self.read1_of_ours(size))
        self.twins.same("seek", position)
        assert data == self.twins.theirs.read(len(data))
        assert data or size == 0 or not self.twins.theirs.read(1)
        self.twins.same("seek", position + len(data))

    async def read1_of_ours(self, size: int) -> bytes:
        return await self.twins.ours.read1(size)

    @precondition(lambda self: self.twins.theirs.readable() and self.buffering != 0)
    @rule()
    def peek(self) -> None:
        position = self.twins.same("tell")
        data = self.runner.run(self.peek_of_ours())
        self.twins.same("tell")
        assert data == self.twins.theirs.read(len(data))
        assert data or not self.twins.theirs.read(1)
        self.twins.same("seek", position)

    async def peek_of_ours(self) -> bytes:
        return await self.twins.ours.peek()

    @precondition(lambda self: self.twins.theirs.readable())
    @rule(size=st.integers(0, 9000))
    def readinto(self, size: int) -> None:
        buffers = bytearray(size), bytearray(size)

        async def ours() -> int:
            return await self.twins.ours.readinto(buffers[0])

        assert self.runner.run(ours()) == self.twins.theirs.readinto(buffers[1])
        assert buffers[0] == buffers[1]

    @rule()
    def reopen(self) -> None:
        self.twins.close()
        self.twins.open(self.mode, buffering=self.buffering, write_behind=self.write_behind)


LETTERS = st.text(st.sampled_from("aé\n\r\u20ac\U0001f600z "), max_size=12)
ENCODINGS = {
    "utf-8": "strict",
    "utf-16": "strict",
    "latin-1": "replace",
    "ascii": "backslashreplace",
    "utf-8-sig": "strict",
}


class TextMachine(Machine):
    @initialize(
        mode=st.sampled_from(["r", "r+", "w+", "a+", "w", "a"]),
        buffering=st.sampled_from([-1, 1, 16, 5000]),
        encoding=st.sampled_from(sorted(ENCODINGS)),
        newline=st.sampled_from([None, "", "\n", "\r\n", "\r"]),
        line=st.sampled_from(["one\ntwo\r\nthree\rfour ", "éa\u20ac\r\n", "z" * 3000 + "\n", "\n\r"]),
        write_behind=WRITE_BEHIND,
    )
    def begin(
        self, mode: str, buffering: int, encoding: str, newline: str | None, line: str, write_behind: int
    ) -> None:
        errors = ENCODINGS[encoding]
        self.make((line * 9).encode(encoding, "ignore" if errors == "backslashreplace" else errors))
        self.arguments = {"buffering": buffering, "encoding": encoding, "errors": errors, "newline": newline}
        self.mode, self.write_behind = mode, 0 if mode == "r" else write_behind
        self.twins.open(mode, write_behind=self.write_behind, **self.arguments)

    @rule(text=LETTERS)
    def write(self, text: str) -> None:
        self.twins.same("write", text)
        self.written()

    @rule(lines=st.lists(LETTERS, max_size=3))
    def writelines(self, lines: list[str]) -> None:
        self.twins.same("writelines", lines)
        self.written()

    @rule()
    def tell_and_come_back(self) -> None:
        self.twins.tell_and_come_back()

    @rule()
    def to_the_start(self) -> None:
        self.twins.same("seek", 0)

    @rule()
    def to_the_end(self) -> None:
        self.twins.same("seek", 0, 2)

    @rule(offset=st.integers(-2, 2))
    def seek_from_here(self, offset: int) -> None:
        self.twins.same("seek", offset, 1)

    @rule()
    def newlines(self) -> None:
        assert self.twins.ours.newlines == self.twins.theirs.newlines

    @rule()
    def reopen(self) -> None:
        self.twins.close()
        self.twins.open(self.mode, write_behind=self.write_behind, **self.arguments)


def run_machine(machine: type[Machine], loop_name: str) -> None:
    machine = type(machine.__name__, (machine,), {"loop_name": loop_name})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.parametrize("machine", [BinaryMachine, TextMachine])
def test_random_calls(machine: type[Machine], loop_name: str) -> None:
    run_machine(machine, loop_name)
