"""Answers the supervisor's questions about one worker, for the admin endpoint. It must not know other workers.

The worker's half; `overview` is the supervisor's. An answer is JSON in as many packets as it needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from time import process_time
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from wshost.admin.here import Here
from wshost.admin.metrics import Family, read
from wshost.admin.seen import Seen
from wshost.process.takeover import LARGEST
from wshost.workers.line import Line

#: The number of the question that nobody asks: for the metrics of a worker that ends.
LAST = 0
#: Bytes of an answer in one packet. The rest is for its head.
PART = LARGEST - 1_024

_log = Logger("wshost")


class Answers:
    """The answers of one worker.

    :param look: returns its server as it is now.
    :param line: its end of the line to the supervisor.
    :param cpu_seconds: returns the processor time of this process.
    """

    def __init__(self, look: Callable[[], Seen], line: Line, cpu_seconds: Callable[[], float] = process_time) -> None:
        self._here = Here(look)
        self._line = line
        self._cpu_seconds = cpu_seconds
        self._ways: Mapping[str, Callable[..., Any]] = {
            "metrics": self._metrics,
            "page": self._here.page,
            "one": self._here.one,
            "close": self._here.close,
        }

    def answer(self, head: Mapping[str, Any]) -> None:
        """Answer a question, now or later."""
        number = int(head["ask"])
        found = maybeDeferred(self._ways[head["what"]], *head["about"])
        found.addCallback(lambda value: self._tell({"answer": number}, value))
        found.addErrback(self._refuse, number)

    def tell_last(self) -> None:
        """Send the metrics once more, at once: the process ends."""
        seen = self._here.look()
        self._metrics(len(seen.connections()) + 1).addCallback(lambda value: self._tell({"answer": LAST}, value))

    def _metrics(self, *a_turn: int) -> Deferred[list[Family]]:
        return read(self._here.look(), self._cpu_seconds(), *a_turn)

    def _refuse(self, failure: Failure, number: int) -> None:
        if failure.check(ValueError):
            self._tell({"answer": number, "refused": True}, str(failure.value))
            return
        _log.failure("the admin endpoint failed to answer", failure)
        self._tell({"answer": number, "failed": True}, None)

    def _tell(self, head: Mapping[str, Any], value: Any) -> None:
        data = json.dumps(value).encode("ascii")
        parts = [data[first : first + PART] for first in range(0, len(data), PART)]
        for left, part in zip(reversed(range(len(parts))), parts, strict=True):
            self._line.tell({**head, "left": left}, part)
