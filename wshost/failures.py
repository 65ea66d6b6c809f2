"""How failures are logged: with the connection's id, escaped, and no faster than a log can bear."""

from __future__ import annotations

import traceback

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

#: Failures logged in a period, and its length in seconds; the others of a period are counted.
MOST = 20
PERIOD = 10.0
#: Characters of a traceback that are kept, of its begin and its end: a peer may have made the message endless.
LENGTH = 8_192

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in {0x09, 0x0A}}
# What ends a line for some, and what no encoding has.
_ESCAPES |= {code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0xD800, 0xE000))}


def shortened(text: str) -> str:
    """Return the text, without its middle if it is too long."""
    half = LENGTH // 2
    return text if len(text) <= LENGTH else f"{text[:half]}\n…\n{text[-half:]}"


def escaped(text: str) -> str:
    """Return the text with its control characters escaped: peers' words may be in it (CWE-117).

    Tabs and newlines stay; what comes behind a newline, Twisted's log files indent.
    """
    return text.translate(_ESCAPES)


class Failures:
    """The failures of one host.

    :param clock: for the limit of the rate.
    """

    log_to = Logger("wshost")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._period_end = 0.0
        self._count = 0

    def log(self, id: str, what: str) -> None:
        """Log the exception being handled.

        :param id: the connection's.
        :param what: what failed, as a clause.
        """
        now = self._clock.seconds()
        if now >= self._period_end:
            if self._count > MOST:
                self.log_to.error("{count} more failures were not logged", count=self._count - MOST)
            self._count = 0
            self._period_end = now + PERIOD
        self._count += 1
        if self._count <= MOST:
            text = escaped(shortened(traceback.format_exc().rstrip()))
            self.log_to.error("connection {id}: {what}\n{text}", id=id, what=what, text=text, failure=Failure())
