"""Chooses the reactor that `twistd wshost` runs on, and sets its clock. Knows no option."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import ReactorBase
from twisted.internet.error import ConnectionLost
from twisted.internet.main import installReactor
from twisted.internet.tcp import Connection

from wshost.process import ending


def install() -> None:
    """Install Twisted's asyncio reactor on uvloop, for twistd's `--reactor uvloop`.

    :raises ImportError: where there is no uvloop.
    """
    import uvloop  # noqa: PLC0415

    _install(uvloop.new_event_loop())


def _install(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    installReactor(AsyncioReactor(loop))


def choose(*, daemon: bool, loop: str | None = None) -> None:
    """Install a reactor, unless twistd's `--reactor` has done so, and give it a clock that only goes forward.

    The reactor is Twisted's asyncio reactor, on uvloop where that is installed. On Windows it is Twisted's default, as
    Twisted can't run on asyncio's default loop there. In a daemon on systems other than Linux it is Twisted's default,
    too: twistd forks after the reactor is made, and a kqueue does not survive a fork.

    :param daemon: whether twistd will fork.
    :param loop: "asyncio" for asyncio's own loop, even where uvloop is installed.
    """
    if "twisted.internet.reactor" not in sys.modules and sys.platform != "win32":
        if sys.platform == "linux" or not daemon:
            _install(asyncio.new_event_loop() if loop == "asyncio" else new_event_loop())
    use_monotonic_time(installed())


def let_tasks_exit(reactor: Any) -> None:
    """Let asyncio tasks end the process by SystemExit on any asyncio reactor that does not run yet."""
    if isinstance(reactor, AsyncioSelectorReactor) and not isinstance(reactor, AsyncioReactor):
        reactor.run = partial(_run, reactor)  # type: ignore[method-assign]


class AsyncioReactor(AsyncioSelectorReactor):
    """Twisted's asyncio reactor, with two faults mended.

    A reset directly after data is noticed. When the kernel has both for a socket, uvloop calls the reader once, and
    then no longer watches the socket (``UVPoll._fatal_error``): the reader gets the data, and would never hear of the
    reset.

    The server drains when an asyncio task or callback raises SystemExit or KeyboardInterrupt. Such an exception leaves
    the event loop, and would leave the reactor, too. Here the loop runs again until the reactor has stopped.
    """

    def run(self, installSignalHandlers: bool = True) -> None:
        _run(self, installSignalHandlers)

    def _readOrWrite(self, selectable: Any, read: bool) -> None:
        super()._readOrWrite(selectable, read)
        # A connection that has just ended has no socket attribute any more.
        connection = getattr(selectable, "socket", None) if isinstance(selectable, Connection) else None
        error = 0 if connection is None else connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._disconnectSelectable(selectable, ConnectionLost(os.strerror(error)), read)


def _run(reactor: AsyncioSelectorReactor, installSignalHandlers: bool = True) -> None:
    """Run an asyncio reactor until it is stopped, as `AsyncioSelectorReactor.run` does."""
    loop = reactor._asyncioEventloop  # noqa: SLF001 - it has no public name
    if loop.get_exception_handler() is None:
        loop.set_exception_handler(_log_unless_exit)
    reactor.startRunning(installSignalHandlers=installSignalHandlers)
    # After an exception, a loop no longer knows whether it was told to stop.
    while reactor.running:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            ending.leave(reactor, error)
        else:
            break


#: The functions in which reactors run. What they have called, as a stack shows it, belongs to a turn.
LOOPS = frozenset({_run.__code__, ReactorBase.mainLoop.__code__})


def _log_unless_exit(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log as a loop does by default, except a task's SystemExit, which has left the loop and is handled by `_run`."""
    exits = isinstance(context.get("exception"), SystemExit | KeyboardInterrupt)
    if not (exits and isinstance(context.get("future"), asyncio.Task)):
        loop.default_exception_handler(context)


def soon(reactor: Any) -> Callable[..., object] | None:
    """Return what makes a call in the next turn, without a timer; None where that can't be done."""
    if isinstance(reactor, AsyncioSelectorReactor):
        call_soon: Callable[..., object] = reactor._asyncioEventloop.call_soon  # noqa: SLF001
        return call_soon
    return None


def event_loop(reactor: Any) -> asyncio.AbstractEventLoop:
    """Return the event loop of a reactor on asyncio."""
    loop: asyncio.AbstractEventLoop = reactor._asyncioEventloop  # noqa: SLF001 - it has no public name
    return loop


def from_threads(reactor: Any) -> Callable[..., object]:
    """Return what makes a call in the reactor's thread, in its next turn, and may be called in any thread."""
    if isinstance(reactor, AsyncioSelectorReactor):
        # The reactor's own method makes a timer of it, which takes a turn more.
        call_soon: Callable[..., object] = reactor._asyncioEventloop.call_soon_threadsafe  # noqa: SLF001
        return call_soon
    from_thread: Callable[..., object] = reactor.callFromThread
    return from_thread


def name(reactor: Any) -> str:
    """Return the name of a reactor, or of the event loop that it runs on: "uvloop", "asyncio", "epoll"."""
    if isinstance(reactor, AsyncioSelectorReactor):
        return type(reactor._asyncioEventloop).__module__.partition(".")[0]  # noqa: SLF001 - it has no public name
    return type(reactor).__name__.removesuffix("Reactor").lower() or "reactor"


def installed() -> Any:
    """Return the reactor of this process. If there is none yet, Twisted's default is installed."""
    from twisted.internet import reactor  # noqa: PLC0415

    return reactor


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop of uvloop, or of asyncio where uvloop is not installed."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def use_monotonic_time(reactor: Any) -> None:
    """Let a reactor measure time by the monotonic clock, starting at the present time of day.

    Twisted uses the time of day. When somebody sets that clock, all timers fire at once, or none does. The new time
    still looks like the time of day: twisted.web's access log uses it as such, and calls that are scheduled already
    keep their time.
    """
    start = time.time() - time.monotonic()
    reactor.seconds = lambda: start + time.monotonic()
