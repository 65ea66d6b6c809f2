"""Limits what is logged of each kind, and says how much was left out. Knows nothing of who logs."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Hashable
from threading import RLock
from typing import Any

from twisted.logger import ILogObserver, Logger, LogLevel
from zope.interface import implementer

#: Events of a kind that are logged in a period, and its length in seconds; the others are counted.
MOST = 20
PERIOD = 10.0
#: So many kinds are told apart in a period; what comes beyond is one more.
KINDS = 200

#: Whose logs a peer may make grow, while they are written for other programs than servers.
_OTHERS = ("twisted", "autobahn", "txaio")
#: What of that is the application's: Python's warnings, and plugins.
_APPLICATIONS = ("twisted.logger", "twisted.plugins")
#: Between who logs by Twisted's older functions and us.
_BETWEEN = ("twisted.logger", "twisted.python.log", "twisted.python.threadable", "twisted.python.context", __name__)


def by_format(event: dict[str, Any]) -> Hashable | None:
    """Return an event's kind: who logs it, the text before anything is filled in, and the class of what failed."""
    return (event.get("log_namespace"), event.get("log_format"), _failed(event))


def by_others(event: dict[str, Any]) -> Hashable | None:
    """Return the kind of an event that the libraries below us have logged, None for those of the application."""
    if event.get("log_namespace") != "log_legacy":
        return by_format(event) if _is_others(event.get("log_namespace", "")) else None
    # Twisted's older functions don't tell who calls them.
    frame = sys._getframe(1)  # noqa: SLF001 - by any other way it takes milliseconds
    while frame.f_back is not None and _within(frame.f_globals.get("__name__", ""), _BETWEEN):
        frame = frame.f_back
    module = frame.f_globals.get("__name__", "")
    return (module, f"line {frame.f_lineno}", _failed(event)) if _is_others(module) else None


def _failed(event: dict[str, Any]) -> str:
    failure = event.get("log_failure")
    return "" if failure is None else str(getattr(failure.type, "__name__", failure.type))


def _is_others(module: str) -> bool:
    return _within(module, _OTHERS) and not _within(module, _APPLICATIONS)


def _within(module: str, parents: tuple[str, ...]) -> bool:
    return any(module == parent or module.startswith(f"{parent}.") for parent in parents)


@implementer(ILogObserver)
class LogLimit:
    """Passes events on to another observer, as many of each kind as a log can bear.

    :param observer: whom to.
    :param kind: returns an event's kind, None for what is not limited.
    :param later: is called with a time in seconds and what is to be called then, from any thread; without that, what
        was left out is said before the next event.
    :param seconds: the time.
    """

    def __init__(
        self,
        observer: ILogObserver,
        kind: Callable[[dict[str, Any]], Hashable | None] = by_format,
        later: Callable[[float, Callable[[], None]], object] | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observer = observer
        self._kind = kind
        self._later = later
        self._seconds = seconds
        self._log = Logger("wshost", observer=observer)
        # Whoever is told may log something itself.
        self._lock = RLock()
        self._counts: dict[Hashable, int] = {}
        self._end = 0.0
        self._awaited = False

    def __call__(self, event: dict[str, Any]) -> None:
        if self._counts:
            self.say()
        kind = self._kind(event)
        if kind is None or self._admits(kind):
            self._observer(event)

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record of the standard library's `logging` is to be logged: it is a filter, too."""
        if self._counts:
            self.say()
        failed = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        return self._admits((record.name, record.levelname, failed))

    def _admits(self, kind: Hashable) -> bool:
        with self._lock:
            if not self._counts:
                self._end = self._seconds() + PERIOD
            if kind not in self._counts and len(self._counts) >= KINDS:
                kind = ("other kinds",)
            count = self._counts[kind] = self._counts.get(kind, 0) + 1
            if count <= MOST:
                return True
            awaited, self._awaited = self._awaited, True
        if not awaited and self._later is not None:
            # No sooner than the period ends, by whatever clock that is.
            self._later(PERIOD + 0.1, self.say)
        return False

    def say(self) -> None:
        """Say how many were left out, if the period is over."""
        with self._lock:
            if not self._counts or self._seconds() < self._end:
                return
            counts, self._counts = self._counts, {}
            self._awaited = False
        for kind, count in counts.items():
            if count > MOST:
                what = ", ".join(filter(None, kind if isinstance(kind, tuple) else (str(kind),)))
                self._log.emit(
                    LogLevel.warn, "{count} more of these were not logged: {what}", count=count - MOST, what=what
                )
