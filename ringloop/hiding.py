"""What RINGLOOP_DISABLE hides of io_uring: a ring is then made and used as on a kernel that does not have it.

Called by drivers.py before a ring is made. It is for tests that stand for older kernels, and to go round a
defect of a certain kernel. Invariant: a name that stands for nothing is an error, not ignored.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ringloop import kernel_names
from ringloop.errors import DISABLE_ENVIRONMENT
from ringloop.kernel_names import Meaning

_OPCODES = 256
_AFTER = re.compile(r"after_(\d+)\.(\d+)")


class Hidden(NamedTuple):
    """`struct rl_ring_hidden` of native/ring.h: masks of bits, and the opcodes."""

    setup_flags: int
    features: int
    capabilities: int
    opcodes: frozenset[int]


NOTHING = Hidden(0, 0, 0, frozenset())


def parse(names: str) -> Hidden:
    """Returns what the names, separated by commas, stand for.

    Each is that of a setup flag, a feature, an operation or a capability as the doctor prints them, in any
    case, or "provided_buffers", or "after_5.15" for all that came later than Linux 5.15.
    Raises ValueError for any other.
    """
    known = _by_name()
    hidden = NOTHING
    for name in filter(None, (name.strip().lower() for name in names.split(","))):
        after = _AFTER.fullmatch(name)
        if after is not None:
            for one, version in known.values():
                if version > (int(after[1]), int(after[2])):
                    hidden = _both(hidden, one)
        elif name in known:
            hidden = _both(hidden, known[name][0])
        else:
            raise ValueError(
                f"{DISABLE_ENVIRONMENT}: io_uring has nothing called {name!r}; "
                "`python -m ringloop` lists what it has"
            )
    return hidden


def _both(one: Hidden, other: Hidden) -> Hidden:
    return Hidden(
        one.setup_flags | other.setup_flags,
        one.features | other.features,
        one.capabilities | other.capabilities,
        one.opcodes | other.opcodes,
    )


def _by_name() -> dict[str, tuple[Hidden, tuple[int, ...]]]:
    """What each name hides, and the kernel that brought it."""
    known = {}

    def add(meanings: Mapping[int, Meaning], hiding: Callable[[int], Hidden]) -> None:
        for bit, meaning in meanings.items():
            known[meaning.name.lower()] = hiding(1 << bit), _version(meaning.kernel)

    add(kernel_names.SETUP_FLAGS, lambda mask: NOTHING._replace(setup_flags=mask))
    add(kernel_names.FEATURES, lambda mask: NOTHING._replace(features=mask))
    add(kernel_names.CAPABILITIES, lambda mask: NOTHING._replace(capabilities=mask))
    for opcode, name in enumerate(kernel_names.OPERATIONS):
        one = NOTHING._replace(opcodes=frozenset({opcode}))
        known[name.lower()] = one, _version(kernel_names.OPERATION_KERNELS[opcode])
    # They are there for the multishot receive alone.
    known["provided_buffers"] = known["multishot_recv"]
    return known


def _version(kernel: str) -> tuple[int, ...]:
    return tuple(map(int, kernel.split(".")))


def opcode_bits(opcodes: frozenset[int]) -> bytes:
    """The opcodes as a bit for each of the 256 there can be, the lowest first."""
    return sum(1 << opcode for opcode in opcodes).to_bytes(_OPCODES // 8, "little")
