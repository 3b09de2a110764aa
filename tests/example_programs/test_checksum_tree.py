"""examples/checksum_tree.py: what it prints of a tree, on either loop."""

import hashlib
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "examples" / "checksum_tree.py"
LARGE = random.Random(7).randbytes(600_000)  # read in several pieces


@pytest.fixture(params=["ringloop", "asyncio"])
def loop_option(request: pytest.FixtureRequest) -> list[str]:
    """What makes the program take one loop or the other."""
    return ["--loop", request.param]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of all kinds, some below directories."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "text").write_text("one\ntwo needles\n\nfour needle")
    (tmp_path / "a" / "b" / "large").write_bytes(LARGE)
    (tmp_path / "empty").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_bytes(b"needle\0")
    for number in range(200):
        (tmp_path / "a" / "b" / f"{number}").write_text(f"{number}")
    (tmp_path / "link").symlink_to("a", target_is_directory=True)
    (tmp_path / "a" / "round").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "fifo")  # reading it would never end
    return tmp_path


def run(*arguments: str | Path, status: int = 0) -> list[bytes]:
    """The lines that the program prints."""
    command = [sys.executable, PROGRAM, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, timeout=50)
    assert ended.returncode == status, ended.stderr.decode()
    return sorted(ended.stdout.splitlines())


def test_checksums_of_all_regular_files(tree: Path, loop_option: list[str]) -> None:
    expected = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ".encode() + os.fsencode(path)
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink() and "round" not in path.parts and "link" not in path.parts
    ]
    assert len(expected) == 204
    assert run(tree, *loop_option) == sorted(expected)


def test_other_algorithms_and_one_at_a_time(tree: Path, loop_option: list[str]) -> None:
    lines = run(tree / "a" / "b", "--algorithm", "md5", "--at-once", "1", *loop_option)
    path = tree / "a" / "b" / "large"
    assert f"{hashlib.md5(LARGE).hexdigest()}  {path}".encode() in lines
    assert len(lines) == 201


def test_lines_that_match(tree: Path, loop_option: list[str]) -> None:
    path = tree / "a" / "text"
    assert run(tree, "--grep", "ne+dle", *loop_option) == [
        f"{path}:2:two needles".encode(),
        f"{path}:4:four needle".encode(),
    ]


def test_lines_across_pieces(tmp_path: Path, loop_option: list[str]) -> None:
    lines = ["x" * 99] * 4_000
    lines[2_621] = "y" * 99  # the byte at 262,144 is in the middle of it
    (tmp_path / "long").write_text("\n".join(lines))
    assert run(tmp_path, "--grep", "^y{99}$", *loop_option) == [
        f"{tmp_path / 'long'}:2622:{'y' * 99}".encode()
    ]


def test_what_is_not_there_is_told(tmp_path: Path, loop_option: list[str]) -> None:
    assert run(tmp_path / "none", *loop_option, status=1) == []


def test_progress_stands_on_a_terminal_that_has_no_lines(tree: Path, loop_option: list[str]) -> None:
    master, terminal = os.openpty()
    command = [sys.executable, PROGRAM, tree, *loop_option]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
    try:
        ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=terminal, timeout=50)
        shown = os.read(master, 65536).decode()
    finally:
        os.close(master)
        os.close(terminal)
    assert (ended.returncode, len(ended.stdout.splitlines())) == (0, 204)
    assert "files ━" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert shown.endswith("204 of 204 files read\r\n")
