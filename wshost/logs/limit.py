"""Limits how many events of a kind are logged, and logs how many were left out. Imports no other module of wshost."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Hashable
from threading import Lock, RLock
from typing import Any, ClassVar

from twisted.logger import ILogObserver, Logger, LogLevel
from zope.interface import implementer

#: How many events of a kind are logged in a period, and the period in seconds. Further events are only counted.
MOST = 20
PERIOD = 10.0
#: How many kinds are told apart in a period. All further kinds count as one.
KINDS = 200

# Libraries whose events a peer may cause.
_LIBRARIES = ("twisted", "autobahn", "txaio")
# Modules of these libraries that log for the application: Python's warnings, and plugins.
_APPLICATIONS = ("twisted.logger", "twisted.plugins")
# Modules in the call stack between a call of Twisted's older log functions and this module.
_BETWEEN = ("twisted.logger", "twisted.python.log", "twisted.python.threadable", "twisted.python.context", __name__)


def by_format(event: dict[str, Any]) -> Hashable | None:
    """Return an event's kind: its namespace, its format without the values, and the class of its exception."""
    return (event.get("log_namespace"), event.get("log_format"), _failed(event))


def by_library(event: dict[str, Any]) -> Hashable | None:
    """Return the kind of an event that Twisted or Autobahn has logged; None for an event of the application."""
    if event.get("log_namespace") != "log_legacy":
        return by_format(event) if _is_library(event.get("log_namespace", "")) else None
    # Events of Twisted's older log functions don't say which module has logged them: look at the call stack.
    frame = sys._getframe(1)  # noqa: SLF001 - other ways take milliseconds
    while frame.f_back is not None and _within(frame.f_globals.get("__name__", ""), _BETWEEN):
        frame = frame.f_back
    module = frame.f_globals.get("__name__", "")
    return (module, f"line {frame.f_lineno}", _failed(event)) if _is_library(module) else None


def _failed(event: dict[str, Any]) -> str:
    failure = event.get("log_failure")
    return "" if failure is None else str(getattr(failure.type, "__name__", failure.type))


def _is_library(module: str) -> bool:
    return _within(module, _LIBRARIES) and not _within(module, _APPLICATIONS)


def _within(module: str, parents: tuple[str, ...]) -> bool:
    return any(module == parent or module.startswith(f"{parent}.") for parent in parents)


@implementer(ILogObserver)
class LogLimit:
    """Passes events on to another observer, at most `MOST` of each kind in `PERIOD` seconds.

    :param observer: gets the events, and how many were left out.
    :param kind: returns an event's kind, or None for an event that is not limited.
    :param later: schedules a call, given seconds and a function; called in any thread. Without it, the number of events
        left out is logged only before the next event.
    :param seconds: returns the time.
    :param least: events of a lower level are neither passed on nor counted.
    """

    #: How many events all limits of this process have left out.
    left_out: ClassVar[int] = 0
    _counting: ClassVar[Lock] = Lock()

    def __init__(
        self,
        observer: ILogObserver,
        kind: Callable[[dict[str, Any]], Hashable | None] = by_format,
        later: Callable[[float, Callable[[], None]], object] | None = None,
        seconds: Callable[[], float] = time.monotonic,
        least: Any = LogLevel.debug,
    ) -> None:
        self._observer = observer
        self._kind = kind
        self._later = later
        self._seconds = seconds
        self._least = least
        self._log = Logger("wshost", observer=observer)
        # Reentrant, as the observer may log something itself.
        self._lock = RLock()
        self._counts: dict[Hashable, int] = {}
        self._period_end = 0.0
        # `later` has been called for this period.
        self._scheduled = False

    def __call__(self, event: dict[str, Any]) -> None:
        if self._counts:
            self.log_left_out()
        if (event.get("log_level") or LogLevel.info) < self._least:
            return
        kind = self._kind(event)
        if kind is None or self._admits(kind):
            self._observer(event)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record of the standard library's `logging`, as a filter of that package does."""
        if self._counts:
            self.log_left_out()
        failed = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        return self._admits((record.name, record.levelname, failed))

    def _admits(self, kind: Hashable) -> bool:
        with self._lock:
            if not self._counts:
                self._period_end = self._seconds() + PERIOD
            if kind not in self._counts and len(self._counts) >= KINDS:
                kind = ("other kinds",)
            count = self._counts[kind] = self._counts.get(kind, 0) + 1
            if count <= MOST:
                return True
            scheduled, self._scheduled = self._scheduled, True
        with LogLimit._counting:
            LogLimit.left_out += 1
        if not scheduled and self._later is not None:
            # A little later than the end of the period, as `later` may use another clock.
            self._later(PERIOD + 0.1, self.log_left_out)
        return False

    def log_left_out(self) -> None:
        """Log how many events were left out, if the period is over."""
        with self._lock:
            if not self._counts or self._seconds() < self._period_end:
                return
            counts, self._counts = self._counts, {}
            self._scheduled = False
        for kind, count in counts.items():
            if count > MOST:
                what = ", ".join(filter(None, kind if isinstance(kind, tuple) else (str(kind),)))
                self._log.emit(
                    LogLevel.warn, "{count} more of these were not logged: {what}", count=count - MOST, what=what
                )
