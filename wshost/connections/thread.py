"""The reactor's thread, and a bounded way for other threads to call into it. Knows none of the callers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock, get_ident
from typing import Any


class ReactorThread:
    """The thread of one reactor.

    :param reactor: provides `IReactorTime` and `IReactorFromThreads`.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._ident = get_ident()
        # How many bytes wait for the thread, by the `whose` of their calls.
        self._waiting: dict[Hashable, int] = {}
        self._lock = Lock()

    def enter(self) -> None:
        """Note that the current thread is the reactor's. Until the reactor runs, its thread is not known."""
        self._ident = get_ident()

    def is_current(self) -> bool:
        """Say whether this is the reactor's thread."""
        return get_ident() == self._ident

    def may_wait(self) -> bool:
        """Say whether a caller in this thread may wait for what the reactor will do."""
        return self.is_current()

    @property
    def idle(self) -> bool:
        """Whether nothing waits for the thread."""
        return not self._waiting

    def waiting(self, whose: Hashable) -> int:
        """Return how many bytes wait for the thread in calls of this poster. Safe in any thread."""
        return self._waiting.get(whose, 0)

    def post(self, whose: Hashable, size: int, most: int, call: Callable[..., Any], *args: Any) -> bool:
        """Call in a later turn of the reactor. Safe in any thread; calls are made in order.

        :param whose: waiting calls are counted apart for each value of this.
        :param size: how many bytes the call counts for while it waits.
        :param most: the call is refused when this many bytes wait already.
        :returns: False when it was refused.
        """
        with self._lock:
            waiting = self._waiting.get(whose, 0)
            if waiting >= most:
                return False
            self._waiting[whose] = waiting + size
        self._reactor.callFromThread(self._make, whose, size, call, args)
        return True

    def _make(self, whose: Hashable, size: int, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        with self._lock:
            waiting = self._waiting.pop(whose) - size
            if waiting:
                self._waiting[whose] = waiting
        call(*args)
