"""Every call of the table does what `os` does: result, exception, errno, file names, message, effect."""

import itertools
import os
from pathlib import Path

import pytest

import ringloop.os
from os_calls.cases import CASES
from os_calls.differential import by_os, by_ringloop, make_tree, tree

BY_FUNCTION = {
    name: list(cases)
    for name, cases in itertools.groupby(
        sorted(CASES, key=lambda case: case.function), lambda case: case.function
    )
}


@pytest.mark.parametrize("function", BY_FUNCTION)
async def test_same_outcome(function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    different = []
    with tree(tmp_path / "place", make_tree) as place:
        for case in BY_FUNCTION[function]:
            expected = by_os(getattr(os, function), case, place)
            found = await by_ringloop(getattr(ringloop.os, function), case, place)
            if found != expected:
                different.append(f"{case}\n  os:       {expected[:3]}\n  ringloop: {found[:3]}")
                if found[:3] == expected[:3]:
                    different += [f"  os left:       {expected[3]}", f"  ringloop left: {found[3]}"]
    assert not different, "\n".join(different)
