"""Publishes what Python's `logging` and `warnings` are told as events of Twisted's log. Knows no format."""

from __future__ import annotations

import logging
import threading
from typing import Any

from twisted.logger import ILogObserver, LogLevel
from twisted.python.failure import Failure
from twisted.python.reflect import safe_repr

#: Twisted's levels, by the least number that `logging` has for them.
_LEVELS = (
    (logging.CRITICAL, LogLevel.critical),
    (logging.ERROR, LogLevel.error),
    (logging.WARNING, LogLevel.warn),
    (logging.INFO, LogLevel.info),
)


class Publisher(logging.Handler):
    """A handler for the root logger.

    :param observer: gets the events, in the thread that has logged.
    """

    def __init__(self, observer: ILogObserver) -> None:
        super().__init__()
        self._observer = observer
        self._publishing = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Publish a record. If its arguments don't fit its message, that is what is published."""
        if getattr(self._publishing, "now", False):
            # An observer of the application's gives Twisted's events to `logging`, and would get them back.
            return
        self._publishing.now = True
        try:
            self._observer(self._event(record))
        except Exception:  # noqa: S110 - who logs has nothing to do with it
            pass
        finally:
            self._publishing.now = False

    def _event(self, record: logging.LogRecord) -> dict[str, Any]:
        try:
            text = record.getMessage()
        except Exception as error:  # the arguments' own methods may raise anything
            text = f"{safe_repr(record.msg)}, whose arguments don't fit: {safe_repr(error)}"
        if record.stack_info:
            text = f"{text}\n{record.stack_info}"
        event: dict[str, Any] = {
            "log_namespace": record.name,
            "log_level": next((level for number, level in _LEVELS if record.levelno >= number), LogLevel.debug),
            # The limit tells kinds of events apart by their formats, which have no values in them.
            "log_format": "{text}",
            "log_time": record.created,
            "text": text,
        }
        if record.exc_info and record.exc_info[1] is not None:
            kind, raised, trace = record.exc_info
            event["log_failure"] = Failure(raised, kind, trace)
        return event


def publish(observer: ILogObserver, level: str) -> None:
    """Publish all records of this level and above, and all warnings.

    Loggers and handlers that the application configures itself, with `logging.config` or by hand, go on as it says.

    :param observer: gets the events.
    :param level: a name of `wshost.logs.entry.LEVELS`.
    """
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, Publisher):
            root.removeHandler(handler)
    root.addHandler(Publisher(observer))
    root.setLevel(level.upper())
    logging.captureWarnings(True)
