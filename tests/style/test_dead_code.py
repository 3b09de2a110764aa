"""Nothing is defined that nobody uses: by vulture in Python, by counting names in Cython and C.

What only tests use counts as dead. Static C functions are the compiler's business. Arguments are not looked
at: others prescribe the signatures.
"""

import asyncio
import re
from asyncio import base_subprocess
from collections import Counter

import vulture

from style.public import public_attributes, public_names
from style.sources import (
    ROOT,
    c_function_name,
    c_statements,
    listed,
    without_c_comments,
    without_cython_comments,
    without_extern_blocks,
)

WORD = re.compile(r"\b[A-Za-z_]\w*\b")
# A function as a .pyx defines it or a .pxd declares it, in a class or not.
CDEF = re.compile(
    r"^ *(?:cdef|cpdef) (?!class\b|extern\b|enum\b|struct\b|union\b|packed\b)[^=(:#\n]*?\b(\w+)\(",
    re.MULTILINE,
)

# asyncio calls what is defined in place of its own.
OVERRIDDEN = (
    asyncio.BaseEventLoop,
    asyncio.Server,
    asyncio.Transport,
    asyncio.Protocol,
    base_subprocess.BaseSubprocessTransport,
)

# What vulture reports although it is used, with the user.
USED_UNSEEN = {
    "AsyncIndirectBufferedReader": "users: aiofiles has it",
    "AsyncIndirectFileIO": "users: aiofiles has it",
    "OK": "native/ring.h: a member of an enum that stands for one of C",
    "OTHER": "native/ring.h: a member of an enum that stands for one of C",
    "_asyncio_future_blocking": "asyncio.Task: a future that was yielded by an await has it set",
    "_executor_shutdown_called": "asyncio.BaseEventLoop: run_in_executor refuses by it",
    "_get_app_transport": "asyncio.sslproto: SSLProtocol makes its transport by it",
    "abort_clients": "users: asyncio.Server has it from Python 3.13 on",
    "close_clients": "users: asyncio.Server has it from Python 3.13 on",
}


def cython_sources() -> str:
    """All of our Cython, without comments and without what is declared of C."""
    paths = sorted(ROOT.glob("ringloop/*.p[xy][dx]"))
    return "\n".join(without_extern_blocks(without_cython_comments(path.read_text())) for path in paths)


def words(text: str) -> Counter[str]:
    return Counter(WORD.findall(text))


def test_python() -> None:
    finder = vulture.Vulture()
    finder.scavenge([str(path) for path in ROOT.glob("ringloop/**/*.py")])
    used = {
        *words(cython_sources()),
        *public_names(),
        *(name for _, name in public_attributes()),
        *USED_UNSEEN,
    }
    for overridden in OVERRIDDEN:
        used.update(dir(overridden))
    unused = [
        item.get_report()
        for item in finder.get_unused_code()
        if item.name not in used
        and not item.name.startswith("__")
        and not (item.typ == "variable" and item.confidence == 100)  # an argument
    ]
    assert not unused, listed(unused)


def test_cython() -> None:
    source = cython_sources()
    defined = Counter(CDEF.findall(source))
    assert defined
    used = words(source)
    unused = [name for name, count in defined.items() if used[name] == count and not name.startswith("__")]
    assert not unused, listed(unused)


def test_c_that_headers_declare() -> None:
    texts = [without_c_comments(path.read_text()) for path in ROOT.glob("ringloop/native/*.[ch]")]
    declared = {
        name
        for path in ROOT.glob("ringloop/native/*.h")
        for statement, _, _, _ in c_statements(path.read_text())
        if (name := c_function_name(statement))
    }
    assert declared
    heads = Counter(c_function_name(head) for text in texts for head, _, _, _ in c_statements(text))
    used = words("\n".join(texts)) + words(cython_sources())
    unused = [name for name in sorted(declared) if used[name] == heads[name]]
    assert not unused, listed(unused)
