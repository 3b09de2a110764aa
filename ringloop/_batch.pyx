"""Batches: many operations at once, so many in flight, each with a cookie.

Invariant: no more than `limit` operations have begun and are not yet in the caller's hands, so that a long
source that is read slowly floods neither the kernel nor memory. They begin in the order given, end in any.
"""

import asyncio
import collections

cimport cython
from libc.stdint cimport uint64_t

from ringloop._core cimport LoopCore
from ringloop._flight cimport RL_CAN_READ_CACHED
from ringloop._request cimport Request

cdef dict NO_NAMES = {}            # never written to
cdef object NOTHING = object()     # in the place of a result that there will not be


@cython.final
cdef class Item(Request):
    """One operation of a batch."""

    cdef int tell_completed(self, object owner) except -1:
        cdef Batch batch = owner
        batch.in_flight.discard(self)
        batch.ready.append(self)
        if batch.waiters:
            batch.wake()
        return 0

    cdef int tell_dropped(self, object owner) except -1:
        (<Batch> owner).in_flight.discard(self)
        return 0

    cdef object achieved(self):
        """The result, or the exception that is in its place; whoever gets it owns it."""
        if self.refusal is not None:
            return self.refusal
        try:
            result = self.value() if self.outcome >= 0 else self.result_of_error()
        except ValueError as exc:
            result = exc
        self.collected = True
        return result

    cdef object result_of_error(self):
        failure = self.failure()
        if failure is None:
            return self.value()
        return asyncio.CancelledError() if self.cancel_asked else failure


cdef class Batch:
    """Many operations at once, made by `ringloop.batch`.

    `async for cookie, result in batch` gives results in the order of completion, `await batch` a list of
    all in the order given. The result of an operation that failed is its exception. Asking for a result when
    nothing is outstanding ends at once. Leaving `async with batch` cancels what is in flight, and waits.
    """

    def __init__(self, ops=(), *, cookies=None, limit=256):
        if limit < 1:
            raise ValueError("limit must be at least 1")
        self.limit = limit
        self.has_cookies = cookies is not None
        self.source = zip(ops, cookies, strict=True) if self.has_cookies else iter(ops)
        self.added = collections.deque()
        self.ready = []
        self.in_flight = set()
        self.waiters = []

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    def __repr__(self):
        return f"<batch in_flight={len(self.in_flight)} ready={self.ready_count()} limit={self.limit}>"

    # --- what is to be done

    def add(self, op, /, *args, cookie=None, **kwargs):
        """Adds an operation behind all others. Its cookie, any object, comes with its result.

        Operations begin when somebody awaits or iterates, not before. RuntimeError after a cancel.
        """
        if self.cancelled:
            raise RuntimeError("the batch was cancelled")
        self.added.append((op, args, kwargs, cookie))
        if self.waiters:
            self.pump()

    cdef Item next_item(self):
        """The next operation; None: there is none."""
        cdef Item item
        cdef object asked
        cdef object cookie = self.taken
        cdef dict kwargs = NO_NAMES
        cdef Py_ssize_t first = 1  # of the operation's arguments
        if self.held is not None:
            item, self.held = self.held, None
            return item
        try:
            asked = next(self.source)
        except StopIteration:
            if not self.added:
                return None
            op, asked, kwargs, cookie = self.added.popleft()
            first = 0
        else:
            if self.has_cookies:
                asked, cookie = asked
            if type(asked) is not tuple or not asked:
                op, *rest = asked
                asked = (op, *rest)
            op = (<tuple> asked)[0]
        item = Item.__new__(Item)
        item.cookie = cookie
        item.index = self.taken
        self.taken += 1
        try:
            item.ask(op, asked, first, kwargs)
        except Exception as exc:
            item.refusal = exc
        return item

    cdef int pump(self) except -1:
        """Begins what may begin now."""
        cdef Item item
        cdef LoopCore loop = self.loop if isinstance(self.loop, LoopCore) else None
        while len(self.in_flight) + self.ready_count() < self.limit:
            item = self.next_item()
            if item is None:
                break
            if item.refusal is not None:
                self.ready.append(item)
                continue
            if loop is not None and item.spec.at_once and not loop.take_inline_turn():
                # Others run first.
                self.held = item
                loop.call_soon(self.go_on)
                break
            try:
                self.launch(loop, item)
            except Exception as exc:
                item.refusal = exc
                self.ready.append(item)
        if self.ready:
            self.wake()
        return 0

    cdef int launch(self, LoopCore loop, Item item) except -1:
        """Begins an operation, which has its turn if it needs one."""
        if loop is None:
            item.launch_thread(self.loop, self)
        else:
            item.loop = loop
            if item.spec.at_once and not self.reads_with_others(loop, item) and item.is_done_at_once():
                self.ready.append(item)
                return 0
            item.launch_in_flight(self)
        self.in_flight.add(item)
        return 0

    cdef bint reads_with_others(self, LoopCore loop, Item item) except -1:
        """Whether it is one of many reads that a ring does while they are submitted, by one system call.

        It does so where RWF_NOWAIT is known, which the first read of an fd finds out.
        """
        cdef uint64_t fds = item.small_read()
        if fds == 0 or not loop.driver.capabilities & RL_CAN_READ_CACHED:
            return False
        if self.tried_fds & fds == 0:
            self.tried_fds |= fds
            return False
        return item.refusals() & fds == 0

    def go_on(self):
        """The loop's next pass: more may be done at once."""
        if self.held is not None:
            self.go_on_pumping()
            self.wake()

    cdef int go_on_pumping(self) except -1:
        """As pump(); what the source raises is for those who wait for its results, after them."""
        if self.failure is None:
            try:
                self.pump()
            except Exception as exc:
                self.failure = exc
        return 0

    # --- what came of it

    cdef int wake(self) except -1:
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        return 0

    cdef Py_ssize_t ready_count(self) noexcept:
        return len(self.ready) - self.given

    cdef Item next_ready(self):
        """The oldest of those that are ready, of which there is one."""
        cdef Item item = self.ready[self.given]
        self.ready[self.given] = None
        self.given += 1
        if self.given == len(self.ready):
            self.ready.clear()
            self.given = 0
        return item

    async def _next(self):
        """The next that is over; None: nothing is outstanding."""
        loop = asyncio.get_running_loop()
        if self.loop is None:
            self.loop = loop
        elif self.loop is not loop:
            raise RuntimeError("the batch runs on another event loop")
        while not self.ready:
            self.go_on_pumping()
            if self.ready:
                break
            if not self.in_flight and self.held is None:
                if self.failure is not None:
                    failure, self.failure = self.failure, None
                    raise failure
                return None
            waiter = loop.create_future()
            self.waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self.waiters:
                    self.waiters.remove(waiter)
        return self.next_ready()

    def __aiter__(self):
        return self

    async def __anext__(self):
        cdef Item item = self.next_ready() if self.ready else await self._next()
        if item is None:
            raise StopAsyncIteration
        return item.cookie, item.achieved()

    def __await__(self):
        return self._all().__await__()

    async def _all(self):
        cdef list results = []
        cdef Item item
        try:
            while (item := await self._next()) is not None:
                keep_result(results, item)
                while self.ready:
                    keep_result(results, self.next_ready())
        except BaseException as exc:
            # What was opened is given back with its item: a traceback must not keep them.
            results.clear()
            item = None
            if isinstance(exc, asyncio.CancelledError):
                await self.aclose()
            raise
        return [
            (<Item> result).achieved() if type(result) is Item else result
            for result in results if result is not NOTHING]

    # --- the end

    def cancel(self):
        """Cancels what is in flight and drops what has not begun.

        What was in flight is still given: as CancelledError, or as what it achieved all the same.
        """
        self.cancelled = True
        self.source = iter(())
        self.added.clear()
        self.held = None
        for request in list(self.in_flight):
            request.cancel()
        self.wake()

    async def aclose(self):
        """Cancels the batch and waits until nothing of it is in flight. Results are given back."""
        self.cancel()
        self.give_back()
        while self.in_flight:
            waiter = self.loop.create_future()
            self.waiters.append(waiter)
            await waiter
            self.give_back()

    cdef int give_back(self) except -1:
        cdef Item item
        while self.ready:
            item = self.next_ready()
            if item.refusal is None:
                item.give_back()
        return 0

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, exc, traceback):
        await self.aclose()


cdef int keep_result(list results, Item item) except -1:
    """At its place; what owns fds until somebody gets them as the item itself."""
    result = item if item.spec is not None and item.spec.opens else item.achieved()
    if item.index == len(results):
        results.append(result)
        return 0
    while item.index >= len(results):
        results.append(NOTHING)
    results[item.index] = result
    return 0


def batch(ops=(), *, cookies=None, limit=256):
    """Makes a batch of operations, of which no more than `limit` are in flight.

    `ops` is an iterable of tuples, the name of an operation and its arguments, and is read no faster than
    they begin; `cookies` an iterable of as many objects that come with the results, else the numbers from
    0 on. `Batch.add` adds more. Nothing begins before somebody awaits or iterates:

        sizes = await ringloop.batch([("stat", path) for path in paths])
        async for path, status in ringloop.batch((("stat", path) for path in paths), cookies=paths):
            ...
    """
    return Batch(ops, cookies=cookies, limit=limit)
