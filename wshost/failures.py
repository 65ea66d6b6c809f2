"""How failures are logged: with the connection's id, escaped, and no faster than a log can bear."""

from __future__ import annotations

import traceback

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

#: Failures logged in a period, and its length in seconds; the others of a period are counted.
MOST = 20
PERIOD = 10.0
#: Characters of a traceback that are kept: the end, as the cause is there.
LENGTH = 8_192

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in {0x09, 0x0A}}


def escaped(text: str) -> str:
    """Return the text with its control characters escaped: peers' words may be in it (CWE-117)."""
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
            text = escaped(traceback.format_exc()[-LENGTH:].rstrip())
            self.log_to.error("connection {id}: {what}\n{text}", id=id, what=what, text=text, failure=Failure())
