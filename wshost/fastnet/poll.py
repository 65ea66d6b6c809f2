"""Watches many descriptors by an epoll of its own, which the event loop watches as one. Knows no connection.

An event loop makes several objects for each descriptor, and several system calls to begin and to end its watch. Here
it is one object, and one call each. But when one descriptor alone is ready, waking two epolls takes longer than waking
one. So a descriptor that is busy, but mostly ready alone, is handed to the event loop; and while few are ready, all new
ones are.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

#: The kernel reports so many descriptors at once.
MOST = 1024
#: A descriptor is handed to the loop when it was ready alone so many times, each time within so many wake-ups of the
#: last one. So at most about as many as the latter are handed over, however many there are.
ALONE, RECENT = 16, 4_096
#: After so many times that one alone was ready, new descriptors are handed to the loop at once.
QUIET = 16

# Values of `select`, which other systems than Linux lack.
_IN, _OUT, _ENDED = 0x001, 0x004, 0x018


class Watching(Protocol):
    """The part of an asyncio event loop that watches descriptors."""

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> object: ...
    def remove_reader(self, fd: int, /) -> object: ...
    def add_writer(self, fd: int, callback: Callable[[], object], /) -> object: ...
    def remove_writer(self, fd: int, /) -> object: ...


class Direct:
    """An event loop that makes its calls in copies of one context. That of the code which asks may be some user's."""

    def __init__(self, loop: Watching, context: Context) -> None:
        self._loop = loop
        self._context = context
        self.remove_reader = loop.remove_reader
        self.remove_writer = loop.remove_writer

    def add_reader(self, fd: int, callback: Callable[[], object]) -> None:
        self._context.copy().run(self._loop.add_reader, fd, callback)

    def add_writer(self, fd: int, callback: Callable[[], object]) -> None:
        self._context.copy().run(self._loop.add_writer, fd, callback)

    def note_ready(self, count: int) -> None:
        """Do nothing; see `Poll`."""


class Watch:
    """What is called for one descriptor, and in which context."""

    __slots__ = ("alone", "context", "events", "handed_over", "reader", "wake", "writer")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.events = 0
        # How often it was ready alone, and at which wake-up for the last time.
        self.alone = self.wake = 0
        self.handed_over = False
        self.reader: Callable[[], object] | None = None
        self.writer: Callable[[], object] | None = None


class Poll:
    """The descriptors. Its methods mean the same as an asyncio event loop's.

    :param loop: watches all that are watched here.
    :param context: each descriptor gets a copy of it, in which its calls are made.
    :param failed: gets the context of an exception that a callback has raised, as a loop's `call_exception_handler`.
    """

    def __init__(self, loop: Watching, context: Context, failed: Callable[[dict[str, Any]], object]) -> None:
        self._loop = loop
        self._context = context
        self._failed = failed
        self._epoll = select.epoll()
        # How often it was woken; and how many times one alone was ready since there were several.
        self._wakes = 0
        self._alone = 0
        self._watches: dict[int, Watch] = {}
        context.copy().run(loop.add_reader, self._epoll.fileno(), self._run)

    def add_reader(self, fd: int, callback: Callable[[], object]) -> None:
        watch = self._watches.get(fd) or self._watch()
        watch.reader = callback
        if watch.handed_over:
            watch.context.run(self._loop.add_reader, fd, callback)
        self._change(fd, watch, watch.events | _IN)

    def add_writer(self, fd: int, callback: Callable[[], object]) -> None:
        watch = self._watches.get(fd) or self._watch()
        watch.writer = callback
        if watch.handed_over:
            watch.context.run(self._loop.add_writer, fd, callback)
        self._change(fd, watch, watch.events | _OUT)

    def _watch(self) -> Watch:
        watch = Watch(self._context.copy())
        watch.handed_over = self._alone >= QUIET
        return watch

    def remove_reader(self, fd: int) -> None:
        watch = self._watches.get(fd)
        if watch is not None:
            watch.reader = None
            if watch.handed_over:
                self._loop.remove_reader(fd)
            self._change(fd, watch, watch.events & _OUT)

    def remove_writer(self, fd: int) -> None:
        watch = self._watches.get(fd)
        if watch is not None:
            watch.writer = None
            if watch.handed_over:
                self._loop.remove_writer(fd)
            self._change(fd, watch, watch.events & _IN)

    def _change(self, fd: int, watch: Watch, events: int) -> None:
        before = watch.events
        if events != before and not watch.handed_over:
            if not before:
                self._epoll.register(fd, events)
            elif events:
                self._epoll.modify(fd, events)
            else:
                # Also of a descriptor that is closed next: while another process has a copy, epoll would report it.
                self._epoll.unregister(fd)
        watch.events = events
        if events:
            self._watches[fd] = watch
        else:
            self._watches.pop(fd, None)

    def _note_alone(self, fd: int, watch: Watch) -> None:
        """Hand a descriptor to the loop if it has been ready alone often enough."""
        watch.alone = watch.alone + 1 if self._wakes - watch.wake <= RECENT else 1
        watch.wake = self._wakes
        if watch.alone >= ALONE and watch.events == _IN and watch.reader is not None and not watch.handed_over:
            self._epoll.unregister(fd)
            watch.handed_over = True
            watch.context.run(self._loop.add_reader, fd, watch.reader)

    def note_ready(self, count: int) -> None:
        """Note how many descriptors were ready at the same time, here or at a port, where new ones come from."""
        if count == 1:
            self._alone += 1
        elif count:
            self._alone = 0

    def _run(self) -> None:
        """Make the calls for all that is ready, each descriptor once: timers may count on it."""
        self._wakes += 1
        for _ in range(len(self._watches) // MOST + 1):
            ready = self._epoll.poll(0, MOST)
            self.note_ready(len(ready))
            for fd, events in ready:
                watch = self._watches.get(fd)
                if watch is None:
                    # A call for another descriptor has ended this watch.
                    continue
                # After its end, a descriptor has no other events.
                if events & (_IN | _ENDED) and watch.reader is not None:
                    self._call(watch, watch.reader)
                if events & (_OUT | _ENDED) and watch.writer is not None:
                    self._call(watch, watch.writer)
                if len(ready) == 1:
                    self._note_alone(fd, watch)
            if len(ready) < MOST:
                break

    def _call(self, watch: Watch, callback: Callable[[], object]) -> None:
        try:
            watch.context.run(callback)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the others are ready, too
            self._failed({"message": "a callback of a descriptor failed", "exception": error})
