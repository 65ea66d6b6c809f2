"""Which reactor `twistd wshost` runs on, and by which clock. Knows no option."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from twisted.internet import asyncioreactor


def install(*, daemon: bool) -> None:
    """Install the reactor, unless the user has named one to twistd; and give it a clock that only goes forward.

    It is Twisted's asyncio reactor, on uvloop where that is installed. On Windows it is Twisted's default, as asyncio's
    default loop there can't carry Twisted; and so it is in a daemon elsewhere than on Linux, as twistd forks when the
    reactor is there already, and a kqueue does not survive that.

    :param daemon: twistd will fork.
    """
    if "twisted.internet.reactor" not in sys.modules and sys.platform != "win32":
        if sys.platform == "linux" or not daemon:
            loop = new_event_loop()
            asyncio.set_event_loop(loop)
            asyncioreactor.install(loop)
    use_monotonic_time(installed())


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
