"""The event loop policy, for programs that choose their loop by one. Imported on first use only.

Policies are deprecated in 3.14, where to name `asyncio.DefaultEventLoopPolicy` or to call
`asyncio.set_event_loop_policy` warns, and gone in 3.16. Our own use of them warns nobody: on 3.14 and later
the undeprecated names of the same objects are taken.
"""

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from ringloop.running import new_event_loop

if TYPE_CHECKING:
    from asyncio import DefaultEventLoopPolicy as _DefaultPolicy
elif sys.version_info < (3, 14):
    _DefaultPolicy = asyncio.DefaultEventLoopPolicy
else:
    _DefaultPolicy = asyncio.unix_events._DefaultEventLoopPolicy


class EventLoopPolicy(_DefaultPolicy):
    """asyncio's default policy, with ringloop's loops.

    `asyncio.set_event_loop_policy(ringloop.EventLoopPolicy())` makes them the default of the process. All
    else, such as what `get_event_loop()` finds or makes and the child watcher, is as the running Python's
    default policy has it.
    """

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Returns a new ringloop; see `ringloop.new_event_loop`."""
        return new_event_loop()


def set_policy() -> None:
    """Installs the policy for this process, without the warning that 3.14 gives for it."""
    setter: Any = asyncio.events
    if sys.version_info < (3, 14):
        setter.set_event_loop_policy(EventLoopPolicy())
    else:
        setter._set_event_loop_policy(EventLoopPolicy())
