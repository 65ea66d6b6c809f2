"""The reactor's thread, and the way into it from other threads, which is bounded. Knows nobody who takes it."""

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
        # What waits for the thread, in bytes, by who waits for it.
        self._waiting: dict[Hashable, int] = {}
        self._lock = Lock()

    def enter(self) -> None:
        """The current thread is the reactor's: until it runs, that is not known."""
        self._ident = get_ident()

    def is_current(self) -> bool:
        """Say whether this is the reactor's thread."""
        return get_ident() == self._ident

    @property
    def idle(self) -> bool:
        """Whether nothing waits for the thread."""
        return not self._waiting

    def post(self, whose: Hashable, size: int, most: int, call: Callable[..., Any], *args: Any) -> bool:
        """Call in a later turn of the reactor. Safe in any thread; calls are made in order.

        :param whose: the calls of each are counted apart.
        :param size: what the call weighs while it waits, in bytes.
        :param most: the call is refused when that many bytes wait already.
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
