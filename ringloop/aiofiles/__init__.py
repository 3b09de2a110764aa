"""The API of aiofiles over ringloop's files, so that one line of import is all that changes.

    from ringloop import aiofiles

    async with aiofiles.open("log") as file:
        async for line in file:
            print(line)

Under ringloop's loop no thread takes part where ringloop has the operation. `executor` is for what can only
be done by a thread: a blocking file object that was wrapped, the interpreter's own stdin, stdout and stderr,
a function given to `os.wrap`; under another loop it serves all, as aiofiles' own.

Where this differs from aiofiles: `raw` and `buffer` are ringloop's file objects, whose methods are awaited;
`detach()`, which is not awaited, refuses a file with data that is not flushed.
"""

from ringloop.aiofiles import os, tempfile
from ringloop.aiofiles.threadpool import (
    open,
    stderr,
    stderr_bytes,
    stdin,
    stdin_bytes,
    stdout,
    stdout_bytes,
)

__all__ = [
    "open",
    "os",
    "stderr",
    "stderr_bytes",
    "stdin",
    "stdin_bytes",
    "stdout",
    "stdout_bytes",
    "tempfile",
]
