"""What of a chain goes in one submission, and where the files are that it has open.

Steps that need no value which is yet to come are linked: the kernel begins each when the one before it has
gone well. What can feed a link is the file that an open before it puts into a slot, and, of a write or send,
the memory that a read before it fills, as far as that was not short: then the kernel begins no more of them,
and chains.py goes on from there. A step that depends on another in any other way, as by `after`, is only
linked to it if its failure has that effect, which not every operation's has.

Only what is opened for reading goes into a slot. Emptying one does not ask the file system what it could not
write (`flush` of the kernel's file operations, by which close() reports for NFS and FUSE), and lets go of the
file later: a program just written could not be executed yet, and a peer would not see the end.
"""

import asyncio
import os
from collections.abc import Container, Mapping
from typing import Any, NamedTuple

from ringloop import operations
from ringloop._chain_steps import Promise, Step
from ringloop._links import can_link, give_slot, links_max, may_be_at_once, take_slot
from ringloop._request import make_request


class Link(NamedTuple):
    """A step and the request that it is."""

    step: Step | None  # None: the chain's own, which closes what the steps left open
    request: Any
    closes: "int | Step | None" = None  # an fd, or who opened into a slot, of those that the chain owns


class OpenFiles:
    """The fds and the slots that the steps of a chain have opened."""

    def __init__(self) -> None:
        self._fds: dict[int, Step] = {}
        self._slots: dict[Step, int] = {}
        self.loop: Any = None

    def link(self, step: Step, requests: Mapping[Step, Any]) -> Link:
        """A link for a step, behind those of the same submission. Raises what wrong arguments are."""
        slots = []
        arguments: dict[int | str, Any] = {}
        for place, promise in step.promises:
            request = requests.get(promise.step)
            slot = request.opened_slot if request is not None else self._slots.get(promise.step, 0)
            if slot:
                slots.append(promise.step)
                arguments[place] = slot
            else:
                arguments[place] = promise.value() if request is None else request.room
        args = tuple(arguments.get(place, value) for place, value in enumerate(step.args))
        kwargs = {name: arguments.get(name, value) for name, value in step.kwargs.items()}
        request = make_request(step.op, args, kwargs)
        closes: int | Step | None = None
        if slots:
            request.use_slot()
        if step.entry.name == "close":
            fd = args[0] if args else kwargs["fd"]
            closes = slots[0] if slots else fd if fd in self._fds else None
        return Link(step, request, closes)

    def closing(self, what: int | Step) -> Link:
        """A link that closes what no step has closed."""
        if not isinstance(what, Step):
            return Link(None, make_request("close", (what,), {}), what)
        request = make_request("close", (self._slots[what],), {})
        request.use_slot()
        return Link(None, request, what)

    def opened(self, step: Step, request: Any) -> None:
        """A step has gone well: what it opened is the chain's."""
        if request.opened_slot:
            self._slots[step] = request.opened_slot
        else:
            self._fds.update(dict.fromkeys(request.fds, step))

    def opened_nothing(self, request: Any) -> None:
        """An open failed, or never began: its slot is empty."""
        if request.opened_slot:
            give_slot(self.loop, request.opened_slot)

    def has_slot(self, step: Step) -> bool:
        """Whether what it opened is in one."""
        return step in self._slots

    def closed(self, what: int | Step) -> None:
        """It is not the chain's any more, if it was: several steps may close it."""
        if not isinstance(what, Step):
            step = self._fds.pop(what, None)
            if step is not None and step.outcome == what:
                step.outcome = -1  # the number may be another file's by now
        elif what in self._slots:
            give_slot(self.loop, self._slots.pop(what))

    def left_open(self, has_failed: bool) -> int | Step | None:
        """One that no step closed: of all of them where the chain failed, else of those that nobody took."""
        for fd, step in self._fds.items():
            if has_failed or not step.is_kept:
                return fd
        return next(iter(self._slots), None)

    def close_at_once(self) -> None:
        """The loop has closed, and all slots with it, or nobody waits for the chain any more."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        self._slots.clear()


class Plan:
    """Which steps of a chain are submitted together."""

    def __init__(self, steps: list[Step], files: OpenFiles) -> None:
        self.is_refused = False  # the kernel would not take some together: they go one by one
        self._steps = steps
        self._files = files
        self._fitting: dict[Step, bool] = {}
        self._users: dict[Step, list[tuple[Step, int | str, Promise]]] | None = None

    def links(self, loop: Any, head: Link) -> list[Link]:
        """What is to be submitted now: `head`, and those behind it that can be linked to it."""
        links = [head]
        if head.step is None or self.is_refused or not head.request.is_for_driver:
            return links
        if not can_link(loop, head.step.op):
            return links
        steps = self._steps_behind(loop, head.step)
        if not steps:
            return links
        requests = {head.step: head.request}
        is_fed = self._choose_slot(loop, head.step, head.request)
        for step in steps:
            if not is_fed:
                break  # no slot is free, or none is there
            try:
                link = self._files.link(step, requests)
            except (Exception, asyncio.CancelledError):
                break  # to be raised in its turn
            if not link.request.is_for_driver:
                break
            is_fed = self._choose_slot(loop, step, link.request)
            links.append(link)
            requests[step] = link.request
        self._give_up_slots(links)
        return links

    def _steps_behind(self, loop: Any, head: Step) -> list[Step]:
        """Those that can be linked behind `head`, but for the last of them that are better done alone."""
        known = {head}
        closed = _closed_by(head)
        steps: list[Step] = []
        for step in self._steps[head.number : head.number - 1 + links_max(loop)]:
            if not self._can_follow(loop, step, known) or not closed.isdisjoint(step.needs):
                break
            steps.append(step)
            known.add(step)
            closed |= _closed_by(step)
        while steps and self._is_better_alone(steps[-1], known):
            steps.pop()
        return steps

    def _choose_slot(self, loop: Any, step: Step, request: Any) -> bool:
        """Whether those behind a step have what they need of it."""
        if not self._fits_a_slot(loop, step):
            return True
        slot = take_slot(loop)
        if slot:
            request.open_into(slot)
        return bool(slot)

    def _give_up_slots(self, links: list[Link]) -> None:
        """What none of the others uses can as well be an fd, by which cached data is read at once."""
        used = {needed for link in links if link.step is not None for needed in link.step.needs}
        for link in links:
            if link.request.opened_slot and link.step not in used:
                self._files.opened_nothing(link.request)
                link.request.open_into(0)

    def _fits_a_slot(self, loop: Any, step: Step) -> bool:
        """Whether it is an open for reading, and every use of the fd is one that can be of a slot."""
        fits = self._fitting.get(step)
        if fits is None:
            fits = self._fitting[step] = self._can_be_in_a_slot(loop, step)
        return fits

    def _can_be_in_a_slot(self, loop: Any, step: Step) -> bool:
        if step.entry.name != "openat" or step.is_kept:
            return False
        flags = step.args[1] if len(step.args) > 1 else step.kwargs.get("flags")
        if not isinstance(flags, int) or flags & (os.O_ACCMODE | os.O_PATH) != os.O_RDONLY:
            return False
        return all(
            promise.function is None and _takes_slot(loop, user, place)
            for user, place, promise in self._users_of(step)
        )

    def _users_of(self, step: Step) -> list[tuple[Step, int | str, Promise]]:
        if self._users is None:
            self._users = {}
            for user in self._steps:
                for place, promise in user.promises:
                    self._users.setdefault(promise.step, []).append((user, place, promise))
        return self._users.get(step, [])

    def _can_follow(self, loop: Any, step: Step, known: Container[Step]) -> bool:
        """Whether a step needs nothing but what is there, or what those before it in the links give it."""
        if step.on_failure_of is not None or step.blocked_by() is not None:
            return False
        if not can_link(loop, step.op):
            return False
        for needed in step.needs:
            if needed in known and needed.entry.name not in operations.BREAK_LINKS:
                return False  # it would begin although that one failed
        for place, promise in step.promises:
            if promise.function is not None:
                return False  # it is called in the step's turn
            is_memory = promise.step.entry.name == "read" and _takes_memory(step, place)
            if promise.step in known and not is_memory and not self._fits_a_slot(loop, promise.step):
                return False
        return True

    def _is_better_alone(self, step: Step, known: Container[Step]) -> bool:
        """Whether it may be done at once when the others are, without the kernel's threads."""
        if not may_be_at_once(step.op):
            return False
        return not any(self._is_of_links(promise.step, known) for _, promise in step.promises)

    def _is_of_links(self, step: Step, known: Container[Step]) -> bool:
        return step in known or self._files.has_slot(step)


def _closed_by(step: Step) -> set[Step]:
    """Whose fd a step closes."""
    return set(step.needs) if step.entry.name == "close" else set()


def _takes_slot(loop: Any, step: Step, place: int | str) -> bool:
    # A worker, who does what the driver has not, would take its number for that of an fd.
    if place not in (0, "fd") or not can_link(loop, step.op):
        return False
    return step.entry.name == "close" or operations.takes_slot(step.entry)


def _takes_memory(step: Step, place: int | str) -> bool:
    # Not those of which the kernel copies the data when it takes the submission, as it does of setxattr.
    return step.entry.name in ("write", "send") and place in (1, "data")
