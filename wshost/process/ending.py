"""How the process ends: by which signal, with which exit status, and how soon. Knows no server and no handler."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary, WeakMethod, ref

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python.reflect import safe_str

from wshost.process.log_text import escaped, shortened

#: Seconds within which the same signal again is still the first: `timeout`, for one, sends it to the process, and then
#: to its group.
DOUBLED = 0.05
#: Seconds that what is left has to end properly, after the signal that is the second.
GRACE = 0.5
#: Seconds after which the process ends even when the reactor's thread is held up.
LIMIT = 2.0

#: What Twisted calls for each signal that ends a reactor.
_HANDLED = {"SIGINT": "sigInt", "SIGTERM": "sigTerm", "SIGBREAK": "sigBreak"}

_log = Logger("wshost")


def leave(reactor: Any, error: BaseException) -> None:
    """End the process as users' code wants it that has raised this: drain as at SIGTERM, and exit with its status.

    Returns at once and raises nothing. The first one counts; after a signal, only that does. In the reactor's thread.

    :param reactor: the one to stop.
    :param error: a SystemExit, whose code means what it does to Python; or a KeyboardInterrupt, for which it is 130.
    """
    _of(reactor).leave(error)


def watch(reactor: Any, abort: Callable[[], None]) -> None:
    """Let a second signal end the process at once, where Twisted handles the signals.

    That begins when the reactor runs: what `callWhenRunning` is given from now on finds that it has begun.

    :param abort: a method, which is called first, in the reactor's thread, unless its object is gone by then: to end
        what the drain waits for.
    """
    _of(reactor).watch(abort)


def interrupt_quietly(reactor: Any) -> None:
    """Until the reactor starts, let SIGINT end the process as SIGTERM does: without a traceback."""
    ours = threading.current_thread() is threading.main_thread()
    # Whoever was started with SIGINT ignored, in the background of a script, goes on ignoring it.
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Twisted handles it if it finds Python's.
        reactor.addSystemEventTrigger("before", "startup", signal.signal, signal.SIGINT, signal.default_int_handler)


class ExitStatus:
    """What the process will exit with, unless a signal ends it; once it is made.

    Twistd and twist exit with 0 whatever happens. So this waits until all of Python is torn down: threads have ended,
    `atexit` functions were called, and what was written is flushed.

    :param status: 0 to 255.
    :param exit: what ends the process.
    :param torn_down: whether that time has come.
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


#: Goes when the modules go.
_statuses: list[ExitStatus] = []


def status_of(error: BaseException) -> tuple[int, str]:
    """Return what Python would do for this error, had nobody caught it: the exit status, and what it would print.

    :param error: a SystemExit or KeyboardInterrupt.
    """
    code: object = error.code if isinstance(error, SystemExit) else 128 + signal.SIGINT
    if code is None:
        return 0, ""
    if isinstance(code, int):
        # Python takes it for a long of C.
        return int(code) & 0xFF if int(code).bit_length() < 64 else 0xFF, ""
    return 1, safe_str(code)


class Ending:
    """How one reactor ends, and with it the process."""

    def __init__(self, reactor: Any) -> None:
        # Who looks this up has the reactor.
        self._reactor = ref(reactor)
        self._aborts: list[WeakMethod[Callable[[], None]]] = []
        self._watching = False
        # Twisted's handlers, by signal.
        self._handlers: dict[int, Callable[[int, Any], None]] = {}
        # The first signal, and when it came; 0 is none.
        self._first = 0
        self._first_at = 0.0
        # What users' code wants the process to exit with.
        self._status: int | None = None
        # It drains already.
        self._draining = False
        # A second signal was there; and all the same it has not ended.
        self._hurried = False
        self._overdue = False

    def leave(self, error: BaseException) -> None:
        """See the function of this name."""
        if self._status is not None or self._first:
            return
        self._draining = True
        self._known_reactor().callWhenRunning(self._stop)
        self._status, text = status_of(error)
        if self._status:
            _statuses.append(ExitStatus(self._status))
        what = escaped(shortened(f"{type(error).__name__}: {text or self._status}"))
        _log.info("{what}: shutting down, exit status {status}", what=what, status=self._status)
        with suppress(Exception):
            # While twistd runs, sys.stderr is its log.
            print(text, end="\n" * bool(text), file=sys.__stderr__, flush=True)

    def watch(self, abort: Callable[[], None]) -> None:
        """See the function of this name."""
        method = WeakMethod(abort)
        self._aborts = [other for other in self._aborts if other() is not None and other != method] + [method]
        if not self._watching:
            self._watching = True
            reactor = self._known_reactor()
            reactor.addSystemEventTrigger("before", "shutdown", self._drain_begins)
            reactor.callWhenRunning(self._take_signals)

    def _known_reactor(self) -> Any:
        return self._reactor()

    def _drain_begins(self) -> None:
        self._draining = True

    def _stop(self) -> None:
        # It may end already.
        with suppress(ReactorNotRunning):
            self._known_reactor().stop()

    def _take_signals(self) -> None:
        """Take the place of Twisted's handlers, where there are any: they know of no second signal."""
        for name, method in _HANDLED.items():
            number = getattr(signal, name, None)
            handler = getattr(self._known_reactor(), method, None)
            if number is not None and handler is not None and signal.getsignal(number) == handler:
                self._handlers[number] = handler
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Between any two steps of the reactor's thread: what takes longer is for a turn of the reactor.
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
            self._known_reactor().callFromThread(self._hurry)
            # While Python ends, it lets no thread start. A Thread takes locks that this may have come between.
            with suppress(RuntimeError):
                _thread.start_new_thread(self._wait, (number,))

    def _hurry(self) -> None:
        _log.info("Received a second signal, ending now.")
        self._known_reactor().callLater(GRACE, self._crash)
        for method in self._aborts:
            abort = method()
            try:
                if abort is not None:
                    abort()
            except BaseException:
                _log.failure("what is left could not be aborted")

    def _crash(self) -> None:
        """End the reactor's loop, whatever the rest of the drain still waits for."""
        reactor = self._known_reactor()
        if reactor.running:
            _log.warn("wshost waits for nothing more: something else has not stopped")
            reactor.crash()

    def _wait(self, number: int) -> None:
        """In a thread of its own: end the process when the reactor's thread doesn't."""
        time.sleep(LIMIT)
        self._overdue = True
        # Only the main thread may give a signal its default back. `_handle` runs there, unless that thread is lost.
        os.kill(os.getpid(), number)
        time.sleep(LIMIT)
        os._exit(128 + self._first if self._status is None else self._status)

    def _end(self) -> None:
        """End the process, here and now, as the reactor would have."""
        if self._status is not None:
            os._exit(self._status)
        signal.signal(self._first, signal.SIG_DFL)
        os.kill(os.getpid(), self._first)


# Weak, for a reactor does not know that there is more to it.
_endings: WeakKeyDictionary[Any, Ending] = WeakKeyDictionary()


def _of(reactor: Any) -> Ending:
    ending = _endings.get(reactor)
    if ending is None:
        ending = _endings[reactor] = Ending(reactor)
    return ending
