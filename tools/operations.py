"""Writes docs/operations.md from the table of operations: `operations.py [--print]`."""

import argparse
import inspect
from pathlib import Path

from ringloop.operations import ALIASES, ENTRIES, REQUIRED, Entry

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "operations.md"

HEAD = """\
# Operations

<!-- Written by tools/operations.py from the table in ringloop/operations.py. -->

What `ringloop.submit`, `ringloop.batch` and `ringloop.chain` take, by name. `ringloop.capabilities()` and
`python -m ringloop` tell how the machine at hand serves them.

- **Since** is the first Linux that has the operation, in the ring or as a system call. Where the ring has it
  not, a worker thread makes the system call.
- **Served**: *inline*, at once, if the kernel has in memory what it takes; *ring*, by the ring without a
  thread; *ring worker*, by the kernel's own threads; *own worker*, by ringloop's. The first is tried first.
- **Cancelled**: when a cancel ends the operation itself: *while it runs*, or only *before it begins*. The
  await raises CancelledError in either case, and does so at once, unless the caller lent memory: then when
  the kernel is done with it.
- **Waits** (for peers, timers or children): may never end by itself. Such operations need ringloop's loop;
  all others also run on any other asyncio loop, by its threads. They do not count among the 512 operations
  that may be in flight; of the others those beyond wait for their turn, in order.
- **Result**: *bytes* were read; *integer* is the system call's; *fd* and *fds* are the caller's to close, and
  are closed if nobody gets them; *stat* is an `os.stat_result`. An error raises OSError as the system call's
  function in the standard library does.

A path is str, bytes or an os.PathLike; an fd may be an object with `fileno()`. A cancelled `waitid` may have
reaped the child, and a cancelled receive, or read of a pipe, may have received: what came is lost. `msg_ring`
wakes the loop of another ring, whose completion has user_data 0. Ringloop's workers are 32 threads: as many
`flock` that wait leave none for others.

"""


def signature(entry: Entry) -> str:
    """What callers write."""
    if entry.arrange is not None:
        parameters = inspect.signature(entry.arrange).parameters.values()
        words = []
        keyword_only = False
        for parameter in parameters:
            if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
                keyword_only = True
                words.append("*")
            has_default = parameter.default is not parameter.empty
            words.append(parameter.name + (f"={parameter.default!r}" if has_default else ""))
    else:
        words = [
            argument.name + ("" if argument.default is REQUIRED else f"={argument.default!r}")
            for argument in entry.arguments
            if argument.name
        ]
    return f"`{entry.name}({', '.join(words)})`"


def row(entry: Entry) -> str:
    """The operation's line in the table."""
    cells = (
        signature(entry),
        entry.call,
        entry.kernel,
        ", ".join(entry.served),
        "while it runs" if entry.interruptible else "before it begins",
        "yes" if entry.waits else "",
        entry.result,
    )
    return f"| {' | '.join(cells)} |"


def document() -> str:
    """The whole document."""
    heads = ("Operation", "System call", "Since", "Served", "Cancelled", "Waits", "Result")
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *map(row, ENTRIES.values())]
    aliases = ", ".join(f"`{alias}` for `{name}`" for alias, name in ALIASES.items())
    return f"{HEAD}{chr(10).join(lines)}\n\nOther names: {aliases}.\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--print", action="store_true", help="print it instead")
    if parser.parse_args().print:
        print(document(), end="")
    else:
        DOCUMENT.write_text(document())
