"""Turns what a loop does into values that can be compared between two loops."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

# In this order: what differs between two loops or two runs, and what stands for it.
_VARYING = [
    (re.compile(r"\b0x[0-9a-fA-F]+"), "0x"),
    (re.compile(r"[^\s\"]*/(asyncio|ringloop)/\w+\.py"), "<loop's module>"),
    (re.compile(r"(\.py:|line |module>:)\d+"), r"\1N"),
    (re.compile(r"when=[-\d.e+]+"), "when=N"),
]
_STACK = re.compile(
    r"(Object created at \(most recent call last\):\n)(  File .*\n    .*\n)*?(  File .*\n    .*)(?=\n\S|$)"
)


def normalised(text: str, loop: asyncio.AbstractEventLoop | None = None) -> str:
    """`text` without addresses, line numbers, times and the loop's paths; `loop`'s class becomes `Loop`."""
    for pattern, replacement in _VARYING:
        text = pattern.sub(replacement, text)
    return text if loop is None else text.replace(type(loop).__name__, "Loop")


def outcome(call: Callable[..., Any], *args: Any, **keywords: Any) -> tuple[str, str, str]:
    """What the call did: ('returned', type, repr) or ('raised', type, message), normalised."""
    try:
        value = call(*args, **keywords)
    except (Exception, asyncio.CancelledError, KeyboardInterrupt, SystemExit) as error:
        return "raised", type(error).__name__, normalised(str(error))
    return "returned", type(value).__name__, normalised(repr(value))


def take_log(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    """What asyncio's logger was told since the last call: (level, normalised message, exception type or "").

    Of a source traceback only the innermost frame is kept, and of that no text if it is the loop's: asyncio's
    own frames are among the ten that it remembers.
    """
    taken = []
    for record in caplog.records:
        if record.name == "asyncio":
            error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
            message = _STACK.sub(lambda match: match[1] + _innermost(match[3]), record.getMessage())
            taken.append((record.levelname, normalised(message), error))
    caplog.clear()
    return taken


def _innermost(frame: str) -> str:
    return frame.partition(",")[0] if normalised(frame).startswith('  File "<loop') else frame
