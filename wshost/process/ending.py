"""Ends the process: by a signal, or with an exit status, and in limited time. Knows no server and no handler."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary, WeakMethod, ref

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python.reflect import safe_str

from wshost.logs.text import loggable

#: If a signal comes twice within so many seconds, it counts once: timeout(1), for example, sends it to the process and
#: to its process group.
DOUBLED = 0.05
#: Seconds from the second signal until the reactor's loop ends, even if something has not stopped by then.
GRACE = 0.5
#: Seconds from the second signal until the process ends, even if the reactor's thread is blocked.
LIMIT = 2.0

# The reactor's methods that handle signals, by signal.
_HANDLED = {"SIGINT": "sigInt", "SIGTERM": "sigTerm", "SIGBREAK": "sigBreak"}

_log = Logger("wshost")


def leave(reactor: Any, error: BaseException) -> None:
    """End the process because users' code has raised this: drain as after SIGTERM, then exit with the error's status.

    Returns at once, and never raises. Called in the reactor's thread. Only the first call counts; a call after a signal
    does nothing.

    :param reactor: the reactor to stop.
    :param error: a SystemExit, which gives the same status as in plain Python; or a KeyboardInterrupt, which gives 130.
    """
    _of(reactor).leave(error)


def stop(reactor: Any) -> None:
    """Stop the reactor, unless it stops already. A signal may come at the same time. Called in the reactor's thread."""
    _of(reactor).stop()


def watch(reactor: Any, abort: Callable[[], None]) -> None:
    """Let a second signal end the process at once, where Twisted handles signals.

    It takes effect when the reactor starts, before calls that are given to `callWhenRunning` later.

    :param abort: a method that aborts everything that the drain waits for. It is called at the second signal, in the
        reactor's thread, unless its object is gone by then.
    """
    _of(reactor).watch(abort)


def interrupt_quietly(reactor: Any) -> None:
    """Until the reactor starts, let SIGINT end the process without a traceback, as SIGTERM does."""
    ours = threading.current_thread() is threading.main_thread()
    # If the process was started with SIGINT ignored, as in the background of a script, it continues to ignore SIGINT.
    if ours and signal.getsignal(signal.SIGINT) in {signal.default_int_handler, signal.SIG_DFL}:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Twisted replaces the handler of SIGINT only if that is Python's own.
        reactor.addSystemEventTrigger("before", "startup", signal.signal, signal.SIGINT, signal.default_int_handler)


def end_by(number: int) -> None:
    """Make the process end by a signal, as if nobody had handled it, but only when Python ends: `atexit` is honoured.

    A shell's script ends with a program that SIGINT has ended. It goes on after one that exits with a status.

    :param number: the signal. From now on, it ends the process at once.
    """
    signal.signal(number, signal.SIG_DFL)
    _statuses.append(ExitStatus(number, partial(os.kill, os.getpid())))


class ExitStatus:
    """Makes the process exit with this status, unless a signal ends it.

    twistd and twist always exit with 0. So this object ends the process itself, when Python deletes it at the very end:
    threads have ended, `atexit` functions were called, and output was flushed.

    :param status: 0 to 255; or a signal, for another `exit`.
    :param exit: ends the process.
    :param torn_down: returns whether the interpreter is finalizing.
    """

    def __init__(
        self, status: int, exit: Callable[[int], Any] = os._exit, torn_down: Callable[[], bool] = sys.is_finalizing
    ) -> None:
        self._status = status
        self._exit = exit
        self._torn_down = torn_down

    def __del__(self) -> None:
        if self._torn_down():
            self._exit(self._status)


# Python deletes these with its modules, at the very end.
_statuses: list[ExitStatus] = []


def status_of(error: BaseException) -> tuple[int, str]:
    """Return the exit status and the text that Python would end with if nobody caught this error.

    :param error: a SystemExit or KeyboardInterrupt.
    """
    code: object = error.code if isinstance(error, SystemExit) else 128 + signal.SIGINT
    if code is None:
        return 0, ""
    if isinstance(code, int):
        # Python converts it to a C long, or to -1 if it does not fit.
        return int(code) & 0xFF if int(code).bit_length() < 64 else 0xFF, ""
    return 1, safe_str(code)


class Ending:
    """Ends one reactor, and with it the process."""

    def __init__(self, reactor: Any) -> None:
        # A weak reference: `_endings` must not keep the reactor alive. While a method runs, its caller does.
        self._reactor: Callable[[], Any] = ref(reactor)
        self._aborts: list[WeakMethod[Callable[[], None]]] = []
        self._watching = False
        # Twisted's signal handlers, by signal.
        self._handlers: dict[int, Callable[[int, Any], None]] = {}
        # The first signal, 0 before there was one, and its time.
        self._first = 0
        self._first_at = 0.0
        # The exit status that users' code has asked for.
        self._status: int | None = None
        # The server is draining.
        self._draining = False
        # A second signal has come; and the process has not ended within `LIMIT`.
        self._hurried = False
        self._overdue = False

    def leave(self, error: BaseException) -> None:
        """See the module's function of this name."""
        if self._status is not None or self._first:
            return
        self._draining = True
        self._reactor().callWhenRunning(self._stop)
        self._status, text = status_of(error)
        if self._status:
            _statuses.append(ExitStatus(self._status))
        what = loggable(f"{type(error).__name__}: {text or self._status}")
        _log.info("{what}: shutting down, exit status {status}", what=what, status=self._status)
        with suppress(Exception):
            # While twistd runs, sys.stderr is its log.
            print(text, end="\n" * bool(text), file=sys.__stderr__, flush=True)

    def stop(self) -> None:
        """See the module's function of this name."""
        if not self._first:
            # A signal that comes from now on would stop the reactor once more.
            self._draining = True
            self._stop()

    def watch(self, abort: Callable[[], None]) -> None:
        """See the module's function of this name."""
        method = WeakMethod(abort)
        self._aborts = [other for other in self._aborts if other() is not None and other != method] + [method]
        if not self._watching:
            self._watching = True
            reactor = self._reactor()
            reactor.addSystemEventTrigger("before", "shutdown", self._drain_begins)
            reactor.callWhenRunning(self._take_signals)

    def _drain_begins(self) -> None:
        self._draining = True

    def _stop(self) -> None:
        # The reactor may be stopping already.
        with suppress(ReactorNotRunning):
            self._reactor().stop()

    def _take_signals(self) -> None:
        """Replace Twisted's signal handlers, where it has set some: they treat a second signal like the first."""
        for name, method in _HANDLED.items():
            number = getattr(signal, name, None)
            handler = getattr(self._reactor(), method, None)
            if number is not None and handler is not None and signal.getsignal(number) == handler:
                self._handlers[number] = handler
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # A signal interrupts the reactor's thread anywhere. So only set attributes here; the reactor does the rest.
        if self._overdue:
            self._end()
        elif not self._first:
            self._first = number
            self._first_at = time.monotonic()
            if not self._draining:
                self._handlers[number](number, frame)
        elif self._hurried or (number == self._first and time.monotonic() - self._first_at < DOUBLED):
            pass
        else:
            self._hurried = True
            self._reactor().callFromThread(self._hurry)
            try:
                # `threading.Thread` would take locks, which the interrupted code may hold.
                _thread.start_new_thread(self._wait, (number,))
            except RuntimeError:
                # While Python finalizes, no thread can start: in Python 3.12, also while it waits for users' threads.
                if not self._reactor().running:
                    self._end()

    def _hurry(self) -> None:
        _log.info("Received a second signal, ending now.")
        self._reactor().callLater(GRACE, self._crash)
        for method in self._aborts:
            abort = method()
            try:
                if abort is not None:
                    abort()
            except BaseException:
                _log.failure("connections could not be aborted")

    def _crash(self) -> None:
        """End the reactor's loop, even if something has not stopped yet."""
        reactor = self._reactor()
        if reactor.running:
            _log.warn("ending now: wshost has stopped, but another part of the process has not")
            reactor.crash()

    def _wait(self, number: int) -> None:
        """End the process if the reactor's thread doesn't. Runs in a thread of its own."""
        time.sleep(LIMIT)
        self._overdue = True
        # Only the main thread can restore a signal's default: `_handle` runs there, unless C code there never returns.
        os.kill(os.getpid(), number)
        time.sleep(LIMIT)
        os._exit(128 + self._first if self._status is None else self._status)

    def _end(self) -> None:
        """End the process at once, with the status that it would have had after draining."""
        if self._status is not None:
            os._exit(self._status)
        signal.signal(self._first, signal.SIG_DFL)
        os.kill(os.getpid(), self._first)


# By reactor. An entry goes when its reactor goes.
_endings: WeakKeyDictionary[Any, Ending] = WeakKeyDictionary()


def _of(reactor: Any) -> Ending:
    ending = _endings.get(reactor)
    if ending is None:
        ending = _endings[reactor] = Ending(reactor)
    return ending
