"""Turns what a loop does into values that can be compared between two loops."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_OUR_LINE = re.compile(r"(\.py:)\d+")


def normalised(text: str, loop: asyncio.AbstractEventLoop | None = None) -> str:
    """`text` without addresses and line numbers, and with the name of `loop`'s class replaced by `Loop`."""
    text = _OUR_LINE.sub(r"\1N", _ADDRESS.sub("0x", text))
    return text if loop is None else text.replace(type(loop).__name__, "Loop")


def outcome(call: Callable[..., Any], *args: Any, **keywords: Any) -> tuple[str, str, str]:
    """What the call did: ('returned', type, repr) or ('raised', type, message), normalised."""
    try:
        value = call(*args, **keywords)
    except (Exception, asyncio.CancelledError, KeyboardInterrupt, SystemExit) as error:
        return "raised", type(error).__name__, normalised(str(error))
    return "returned", type(value).__name__, normalised(repr(value))


def take_log(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    """What asyncio's logger was told since the last call: (level, message, exception's type or ''), normalised."""
    taken = []
    for record in caplog.records:
        if record.name == "asyncio":
            error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
            taken.append((record.levelname, normalised(record.getMessage()), error))
    caplog.clear()
    return taken
