"""Every method does what pathlib of the running Python does: result, order, exception, effect."""

import os
import sys
from pathlib import Path, PurePath
from typing import Any

import pytest

from paths.twins import Case, different

# Hundreds of trees are made: on a slow machine that takes long.
pytestmark = pytest.mark.timeout(100)

LONG = "x" * 300
PATHS = [
    "file",
    "directory",
    "link",
    "link_to_directory",
    "broken",
    "circle",
    "circle/x",
    "fifo",
    "näme",
    "not-utf8-\udcff",
    "nothing",
    "file/below",
    "a\0b",
    LONG,
    "",
    ".",
    "/",
    "/dev/null",
    "/proc",
    "directory/../file",
    "./directory//below",
]
QUESTIONS = ["is_dir", "is_file", "is_symlink", "is_mount", "is_fifo", "is_socket", "is_block_device"]
QUESTIONS += ["is_char_device", "exists", "owner", "group", "readlink", "resolve", "absolute"]
QUESTIONS += ["iterdir", "expanduser", "read_bytes"]
OF_STATUS = ["stat", "lstat"]


def looking() -> list[Case]:
    cases = []
    for path in PATHS:
        # The content of a FIFO is waited for; what is in /proc, and when, changes.
        asked = [name for name in QUESTIONS if path not in ("fifo", "/proc") or name not in ("read_bytes",)]
        asked = [name for name in asked if path != "/proc" or name != "iterdir"]
        cases += [Case(path, name) for name in asked]
        if path != "/proc":
            cases += [Case(path, name) for name in OF_STATUS]
            cases += [Case(path, "stat", follow_symlinks=False)]
        cases += [Case(path, "samefile", other) for other in ("file", "nothing", "", ".")]
        cases += [Case(path, "samefile", PurePath("file"))]
        cases += [Case(path, "resolve", True), Case(path, "resolve", strict=True)]
    for path in ("~", "~/x", "~root", "~nobody-of-that-name/x", "x/~", "/~"):
        cases.append(Case(path, "expanduser"))
    cases += [Case(".", "home"), Case(".", "cwd")]
    cases += [Case("file", "read_text"), Case("file", "read_text", "ascii"), Case("näme", "read_text")]
    cases += [Case("not-utf8-\udcff", "read_text", "no-such-codec"), Case("directory", "read_text")]
    cases += [Case("file", "read_text", encoding="utf-16", errors="strict")]
    if sys.version_info >= (3, 12):
        cases += [Case(path, "exists", follow_symlinks=False) for path in PATHS]
        cases += [Case(path, "is_junction") for path in PATHS]
    if sys.version_info >= (3, 13):
        for name in ("is_dir", "is_file", "owner", "group"):
            cases += [Case(path, name, follow_symlinks=False) for path in PATHS]
        cases += [Case("file", "read_text", "utf-8", None, "\n")]
    return cases


def changing() -> list[Case]:
    cases = []
    for path in [path for path in PATHS if not path.startswith("/")]:
        cases += [Case(path, "mkdir"), Case(path, "mkdir", 0o700, True, True), Case(path, "rmdir")]
        cases += [Case(path, "mkdir", exist_ok=True)]
        # Joined, not written with a slash: below the empty path that would be the root directory.
        cases += [Case(os.path.join(path, "new/deep"), "mkdir", parents=True)]
        cases += [Case(path, "unlink"), Case(path, "unlink", True), Case(path, "unlink", missing_ok=True)]
        cases += [Case(path, "touch"), Case(path, "touch", 0o600, False), Case(path, "chmod", 0o600)]
        cases += [Case(path, "lchmod", 0o600), Case(path, "rename", "new"), Case("file", "rename", path)]
        cases += [Case(path, "replace", PurePath("other")), Case(path, "replace", "directory")]
        cases += [Case(path, "symlink_to", "file"), Case("new", "symlink_to", path)]
        cases += [Case(path, "hardlink_to", "file"), Case("new", "hardlink_to", path)]
        cases += [Case("new", "symlink_to", PurePath(path), True)]
        if path != "fifo":
            cases += [Case(path, "write_bytes", b"new"), Case(path, "write_text", "néw")]
    cases += [Case("file", "write_bytes", "text"), Case("file", "write_text", b"bytes")]
    cases += [Case("file", "write_text", "a\nb", "utf-16", "strict", "\r\n"), Case("new", "touch", 0o640)]
    cases += [Case("file", "write_text", "é", "ascii"), Case("file", "write_bytes", bytearray(100_000))]
    cases += [Case("file", "rename", b"bytes"), Case("file", "chmod", "x"), Case("new", "mkdir", "x")]
    cases += [Case("bare", "rmdir"), Case("directory/below", "rmdir"), Case("x/y/z", "mkdir", 0o711, True)]
    if sys.version_info >= (3, 15):
        cases += [Case("x/y/z", "mkdir", 0o711, True, parent_mode=0o755)]
    if sys.version_info >= (3, 14):
        cases += copying()
    return cases


def copying() -> list[Case]:
    cases = []
    unique = ["file", "directory", "link", "link_to_directory", "broken", "nothing", "bare", ""]
    for path in unique:
        for target in ("new", PurePath("new"), "other", "directory", "bare", "nothing/new", path):
            cases += [Case(path, "copy", target), Case(path, "copy_into", target)]
            cases += [Case(path, "move", target), Case(path, "move_into", target)]
        cases += [Case(path, "copy", "new", follow_symlinks=False)]
        cases += [Case(path, "copy", "new", preserve_metadata=True)]
        cases += [Case(path, "copy", "new", follow_symlinks=False, preserve_metadata=True)]
    cases += [Case("directory", "copy", "directory/below/new"), Case("directory", "move", "directory/new")]
    cases += [Case("file", "copy", "link"), Case("file", "move", "link")]
    return cases


@pytest.mark.parametrize("cases, is_fresh", [(looking, False), (changing, True)])
async def test_same_outcome(
    cases: Any, is_fresh: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await different(cases(), tmp_path / "place", monkeypatch.chdir, is_fresh)
    assert not found, "\n".join(found)
