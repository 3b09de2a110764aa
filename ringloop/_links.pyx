"""Links: requests that are submitted as one, of which each begins when the one before it has gone well.

And slots: places in the driver's table of files, which a linked request can open into and those behind it
read from, while an fd is known only from a completion. chains.py decides what is linked. A short read counts
as a failure here, and what begins after one that failed is for the caller to decide: all links are soft.

Invariant: who takes a slot gives it back empty.
"""

from libc.stdint cimport uint32_t

from ringloop._core cimport LoopCore
from ringloop._request cimport Request, Spec, spec_of

cdef enum:
    LINKS_MAX = 32  # more would keep the queue from others


def links_max(LoopCore loop):
    """How many can be submitted as one."""
    return min(<uint32_t> LINKS_MAX, loop.driver.sq_entries)


def can_link(loop, op):
    """Whether the operation `op` of the table can be one of several that are submitted as one."""
    cdef Spec spec = spec_of(op)
    cdef LoopCore core
    if not isinstance(loop, LoopCore) or spec.opcode < 0 or spec.success != 0:
        return False
    core = loop
    return core.driver != NULL and core.driver.calls.has_opcode(core.driver, <unsigned char> spec.opcode) != 0


def may_be_at_once(op):
    """Whether the operation is done at once if the kernel has in memory what it takes."""
    return spec_of(op).at_once


def take_slot(LoopCore loop):
    """The number of an empty slot, or 0 if there is none."""
    return loop.take_slot()


def give_slot(LoopCore loop, int slot):
    """Gives one back that is empty."""
    loop.give_slot(slot)


def launch_links(LoopCore loop, list requests, owner):
    """Submits them as one.

    `owner` is told of each that was submitted by `_completed(request)`, or by `_dropped(request)`. Where the
    first is cancelled in line, none was, and `owner` is told of the first alone.
    """
    cdef Request request
    cdef Request linked = None
    cdef bint waits = False
    for request in reversed(requests):
        request.join(loop, owner, linked)
        request.bounded = False
        waits |= request.spec.waits
        linked = request
    # One of them runs at a time: the first stands for all in the line, and the last in the bound.
    linked.bounded = not waits
    loop.submit(linked)


def cancel_links(LoopCore loop):
    """Asks again for the end of those whose end was asked for: some may not have begun then."""
    if loop.driver != NULL:
        loop.cancel_links()
