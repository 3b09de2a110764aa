"""ringloop: asyncio's event loop on io_uring.

    ringloop.run(main())                                    # as asyncio.run
    asyncio.Runner(loop_factory=ringloop.new_event_loop)    # from 3.12 on also asyncio.run(…, loop_factory=…)
    ringloop.install()                                      # the default of the whole process

`python -m ringloop` tells whether io_uring works here, and why not if it does not.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ringloop.errors import RingUnavailableError
from ringloop.loop import Loop
from ringloop.running import HAS_POLICIES, install, new_event_loop, run

if TYPE_CHECKING:
    from ringloop import aiofiles as aiofiles
    from ringloop import os as os
    from ringloop import shutil as shutil
    from ringloop._batch import Batch as Batch
    from ringloop._batch import batch as batch
    from ringloop._opening import open as open
    from ringloop.chains import Chain as Chain
    from ringloop.chains import chain as chain
    from ringloop.operations import Capability as Capability
    from ringloop.operations import capabilities as capabilities
    from ringloop.patching import Patch as Patch
    from ringloop.patching import patch as patch
    from ringloop.path import Path as Path
    from ringloop.policy import EventLoopPolicy as EventLoopPolicy
    from ringloop.priorities import io_priority as io_priority
    from ringloop.priorities import prefetch as prefetch
    from ringloop.submission import Operation as Operation
    from ringloop.submission import submit as submit
    from ringloop.submission import syscall as syscall

__version__ = "0.1.0"

__all__ = ["Loop", "RingUnavailableError", "__version__", "install", "new_event_loop", "run"]
__all__ += ["Batch", "Capability", "Chain", "Operation", "Patch", "Path"]
__all__ += ["batch", "capabilities", "chain", "io_priority", "open", "patch", "prefetch", "submit", "syscall"]
if HAS_POLICIES:
    __all__ += ["EventLoopPolicy"]


# What is imported when somebody first uses it, and from where.
_MODULES = ("aiofiles", "os", "shutil")
_OPERATIONS = {
    "Batch": "_batch",
    "Capability": "operations",
    "Chain": "chains",
    "Operation": "submission",
    "Patch": "patching",
    "Path": "path",
    "batch": "_batch",
    "capabilities": "operations",
    "chain": "chains",
    "io_priority": "priorities",
    "open": "_opening",
    "patch": "patching",
    "prefetch": "priorities",
    "submit": "submission",
    "syscall": "submission",
}


def __getattr__(name: str) -> Any:
    """Imports what not every program needs, on first use.

    EventLoopPolicy: Python 3.14 deprecates what it is made of, 3.16 has it no more.
    """
    if name in _MODULES:
        return importlib.import_module(f"ringloop.{name}")
    if name in _OPERATIONS:
        value = getattr(importlib.import_module(f"ringloop.{_OPERATIONS[name]}"), name)
        globals()[name] = value
        return value
    if name != "EventLoopPolicy":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not HAS_POLICIES:
        raise AttributeError(
            "ringloop.EventLoopPolicy: this Python has no event loop policies; use ringloop.run(main()), "
            "asyncio.run(main(), loop_factory=ringloop.new_event_loop) or ringloop.install()"
        )
    from ringloop.policy import EventLoopPolicy

    globals()[name] = EventLoopPolicy
    return EventLoopPolicy


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
