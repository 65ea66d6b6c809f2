"""Which reactor `twistd wshost` runs on, and by which clock. Knows no option."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from functools import partial
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.error import ConnectionLost
from twisted.internet.main import installReactor
from twisted.internet.tcp import Connection

from wshost.process import ending


def install() -> None:
    """Install Twisted's asyncio reactor on uvloop: `--reactor uvloop` of twistd.

    :raises ImportError: where there is no uvloop.
    """
    import uvloop  # noqa: PLC0415

    _install(uvloop.new_event_loop())


def _install(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    installReactor(AsyncioReactor(loop))


def choose(*, daemon: bool) -> None:
    """Install the reactor, unless the user has named one to twistd; and give it a clock that only goes forward.

    It is Twisted's asyncio reactor, on uvloop where that is installed. On Windows it is Twisted's default, as asyncio's
    default loop there can't carry Twisted; and so it is in a daemon elsewhere than on Linux, as twistd forks when the
    reactor is there already, and a kqueue does not survive that.

    :param daemon: twistd will fork.
    """
    if "twisted.internet.reactor" not in sys.modules and sys.platform != "win32":
        if sys.platform == "linux" or not daemon:
            _install(new_event_loop())
    use_monotonic_time(installed())


def let_tasks_exit(reactor: Any) -> None:
    """Let tasks of asyncio's end the process as on our own reactor, on another one that is to run yet."""
    if isinstance(reactor, AsyncioSelectorReactor) and not isinstance(reactor, AsyncioReactor):
        reactor.run = partial(_run, reactor)  # type: ignore[method-assign]


class AsyncioReactor(AsyncioSelectorReactor):
    """Twisted's, noticing a reset that comes right behind data, and draining when a task exits.

    When the kernel has both for a socket, uvloop calls the reader once and then watches the socket no more
    (``UVPoll._fatal_error``); the reader gets the data, and would never hear of the reset.

    A SystemExit or KeyboardInterrupt that a task or callback of asyncio raises leaves the loop, and would leave the
    reactor. The loop goes on until the reactor has stopped.
    """

    def run(self, installSignalHandlers: bool = True) -> None:
        _run(self, installSignalHandlers)

    def _readOrWrite(self, selectable: Any, read: bool) -> None:
        super()._readOrWrite(selectable, read)
        # A connection that this has ended has no socket any more.
        connection = getattr(selectable, "socket", None) if isinstance(selectable, Connection) else None
        error = 0 if connection is None else connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._disconnectSelectable(selectable, ConnectionLost(os.strerror(error)), read)


def _run(reactor: AsyncioSelectorReactor, installSignalHandlers: bool = True) -> None:
    """Run a reactor of asyncio's until it is stopped, as `AsyncioSelectorReactor.run` does."""
    loop = reactor._asyncioEventloop  # noqa: SLF001 - it has no public name
    if loop.get_exception_handler() is None:
        loop.set_exception_handler(_log_unless_told)
    reactor.startRunning(installSignalHandlers=installSignalHandlers)
    # A loop that is left in this way has forgotten that it was to stop.
    while reactor.running:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            ending.leave(reactor, error)
        else:
            break


def _log_unless_told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Do as a loop does by itself, but log nothing of a task whose exception has left the loop."""
    told = isinstance(context.get("exception"), SystemExit | KeyboardInterrupt)
    if not (told and isinstance(context.get("future"), asyncio.Task)):
        loop.default_exception_handler(context)


def installed() -> Any:
    """Return the reactor of this process; when there is none yet, it becomes Twisted's default."""
    from twisted.internet import reactor  # noqa: PLC0415

    return reactor


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop, or of asyncio where uvloop is not installed."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def use_monotonic_time(reactor: Any) -> None:
    """Let a reactor tell the time by the monotonic clock, counted from what the time of day is now.

    Twisted goes by the time of day: when an administrator or NTP sets that, all timers fire, or none does. It stays
    the time of day but for such jumps, so that what takes it for that goes on doing so (twisted.web's access log), and
    calls that are scheduled already keep their time.
    """
    start = time.time() - time.monotonic()
    reactor.seconds = lambda: start + time.monotonic()
