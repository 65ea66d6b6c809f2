"""Logs exceptions at a limited rate, and tells when one of them asks the process to exit. Knows connections by id."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from wshost.logs.limit import MOST, PERIOD
from wshost.logs.text import loggable

_log = Logger("wshost")


def asks_to_exit(error: BaseException) -> SystemExit | KeyboardInterrupt | None:
    """Return this exception if it is a `SystemExit` or `KeyboardInterrupt`, or the first in its group; else None."""
    left = [error]
    while left:
        one = left.pop()
        if isinstance(one, SystemExit | KeyboardInterrupt):
            return one
        if isinstance(one, BaseExceptionGroup):
            left.extend(reversed(one.exceptions))
    return None


class Failures:
    """The failures of one hub.

    :param clock: measures the rate: `MOST` failures are logged in `PERIOD` seconds, more are only counted.
    :param leave: called with a `SystemExit` or `KeyboardInterrupt` that users' code has raised.
    """

    def __init__(self, clock: IReactorTime, leave: Callable[[BaseException], object] | None = None) -> None:
        self._clock = clock
        self._leave = leave
        self._period_end = 0.0
        self._count = 0
        #: How many failures were not logged since the start.
        self.left_out = 0

    def log(self, id: str, what: str, peer: Callable[[], str] | None = None, route: str | None = None) -> None:
        """Log the exception being handled. Errors of the log itself are ignored.

        :param id: the connection's id, or "-".
        :param what: what failed, as a clause: "the handler's init failed".
        :param peer: returns the address of the connection's peer.
        :param route: the route of the connection's request.
        :raises LookupError: when no exception is being handled.
        """
        error = sys.exception()
        if error is None:
            raise LookupError("there is no exception to log")
        with suppress(BaseException):
            self._log(id, what, error, peer, route)
        with suppress(BaseException):
            exit = asks_to_exit(error)
            if exit is not None and self._leave is not None:
                self._leave(exit)

    def _log(self, id: str, what: str, error: BaseException, peer: Callable[[], str] | None, route: str | None) -> None:
        now = self._clock.seconds()
        if now >= self._period_end:
            left_out, self._count = self._count - MOST, 0
            self._period_end = now + PERIOD
            if left_out > 0:
                _log.error("{count} more failures were not logged", count=left_out)
        self._count += 1
        if self._count <= MOST:
            about = {
                "connection": id,
                "peer": _address(peer),
                "route": route or "",
                "what": what,
                "failure": Failure(error),
            }
            text = loggable(_formatted(error).rstrip())
            _log.error("connection {connection}: {what}\n{traceback}", traceback=text, **about)
        else:
            self.left_out += 1


def _address(peer: Callable[[], str] | None) -> str:
    """Return the peer's address, if there is one to tell: any kind of transport may fail."""
    with suppress(Exception):
        return "" if peer is None else peer()
    return ""


def _formatted(error: BaseException) -> str:
    """Return an exception with its traceback as text, even if its own methods fail."""
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:  # these methods may raise anything
        return "".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__name__}, which can't be formatted"
