"""Batches: many operations at once, so many in flight, each with a cookie.

Invariant: no more than `limit` operations have begun and are not yet in the caller's hands, so that a long
source that is read slowly floods neither the kernel nor memory. They begin in the order given, end in any.
"""

import asyncio
import collections

from ringloop._core cimport LoopCore
from ringloop._request cimport Request, make_request

cdef dict NO_NAMES = {}            # never written to
cdef object NOTHING = object()     # in the place of a result that there will not be


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
        self.ready = collections.deque()
        self.in_flight = set()
        self.waiters = []

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    def __repr__(self):
        return f"<batch in_flight={len(self.in_flight)} ready={len(self.ready)} limit={self.limit}>"

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

    cdef object next_request(self):
        """The next operation, as a request or as what `refused` makes; None: there is none."""
        cdef Request request
        cdef dict kwargs = NO_NAMES
        cdef tuple args
        cdef object cookie = self.taken
        if self.held is not None:
            request, self.held = self.held, None
            return request
        try:
            item = next(self.source)
        except StopIteration:
            if not self.added:
                return None
            op, args, kwargs, cookie = self.added.popleft()
        else:
            if self.has_cookies:
                item, cookie = item
            if type(item) is tuple and item:
                op, args = item[0], item[1:]
            else:
                op, *rest = item
                args = tuple(rest)
        index = self.taken
        self.taken += 1
        try:
            request = make_request(op, args, kwargs)
        except Exception as exc:
            return self.refused(index, cookie, exc)
        request.cookie = cookie
        request.index = index
        return request

    cdef object refused(self, Py_ssize_t index, object cookie, object exc):
        return index, cookie, exc

    cdef int pump(self) except -1:
        """Begins what may begin now."""
        cdef Request request
        cdef bint native = isinstance(self.loop, LoopCore)
        while len(self.in_flight) + len(self.ready) < self.limit:
            item = self.next_request()
            if item is None:
                break
            if isinstance(item, tuple):
                self.ready.append(item)
                continue
            request = item
            if native and request.spec.at_once:
                if not (<LoopCore> self.loop).take_inline_turn():
                    # Others run first.
                    self.held = request
                    self.loop.call_soon(self.go_on)
                    break
                request.has_turn = True
            try:
                if request.launch(self.loop, self, True):
                    self.ready.append(request)
                else:
                    self.in_flight.add(request)
            except Exception as exc:
                self.ready.append(self.refused(request.index, request.cookie, exc))
        if self.ready:
            self.wake()
        return 0

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

    def _completed(self, request):
        self.in_flight.discard(request)
        self.ready.append(request)
        self.wake()

    def _dropped(self, request):
        self.in_flight.discard(request)

    cdef tuple outcome(self, object item):
        """(index, cookie, result or exception); whoever gets it owns it."""
        cdef Request request
        if isinstance(item, tuple):
            return item
        request = item
        try:
            result = request.value() if request.outcome >= 0 else self.result_of_error(request)
        except ValueError as exc:
            result = exc
        request.collected = True
        return request.index, request.cookie, result

    cdef object result_of_error(self, Request request):
        failure = request.failure()
        if failure is None:
            return request.value()
        return asyncio.CancelledError() if request.cancel_asked else failure

    async def _next(self):
        """The next outcome; None: nothing is outstanding."""
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
        return self.outcome(self.ready.popleft())

    def __aiter__(self):
        return self

    async def __anext__(self):
        outcome = self.outcome(self.ready.popleft()) if self.ready else await self._next()
        if outcome is None:
            raise StopAsyncIteration
        _, cookie, result = outcome
        return cookie, result

    def __await__(self):
        return self._all().__await__()

    async def _all(self):
        cdef list results = []
        try:
            while (outcome := await self._next()) is not None:
                keep_result(results, outcome)
                while self.ready:
                    keep_result(results, self.outcome(self.ready.popleft()))
        except asyncio.CancelledError:
            await self.aclose()
            raise
        return [result for result in results if result is not NOTHING]

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
        while self.ready:
            item = self.ready.popleft()
            if isinstance(item, Request):
                (<Request> item).give_back()
        return 0

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, exc, traceback):
        await self.aclose()


cdef int keep_result(list results, tuple outcome) except -1:
    """At its place."""
    cdef Py_ssize_t index = outcome[0]
    if index == len(results):
        results.append(outcome[2])
        return 0
    while index >= len(results):
        results.append(NOTHING)
    results[index] = outcome[2]
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
