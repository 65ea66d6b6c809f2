"""Makes calls when the signals come that don't end the process. Knows nothing of what they are for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

#: Logs are opened again at these, where the system has them.
HANGUP = tuple(getattr(signal, name) for name in ("SIGHUP", "SIGUSR1") if hasattr(signal, name))

#: Certificates are read again at this one.
RELOAD = HANGUP[:1]


def call_at(numbers: tuple[int, ...], reactor: Any, call: Callable[[int], object]) -> None:
    """Make this call whenever one of the signals comes, in the reactor's thread, once the reactor runs.

    Does nothing in another thread than the main one: only that one may set handlers.

    :param call: gets the signal.
    """

    def handle(number: int, _: FrameType | None) -> None:
        # The interrupted code may be anywhere.
        reactor.callFromThread(call, number)

    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            signal.signal(number, handle)


def call_after(numbers: tuple[int, ...], reactor: Any, call: Callable[[int], object]) -> None:
    """Make this call, too, after those of before: as `call_at` otherwise."""

    def handle(earlier: Any, number: int, frame: FrameType | None) -> None:
        if callable(earlier):
            earlier(number, frame)
        reactor.callFromThread(call, number)

    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            signal.signal(number, partial(handle, signal.getsignal(number)))
