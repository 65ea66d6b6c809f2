"""One event of the log, made of an event of Twisted's. Knows no format."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.logger import LogLevel, formatEvent

#: The names of levels. Twisted says "warn", Python's `logging` says "warning".
LEVELS = {"debug": LogLevel.debug, "info": LogLevel.info, "warning": LogLevel.warn, "error": LogLevel.error}


@dataclass(frozen=True)
class Entry:
    """One event."""

    #: Seconds since 1970, in UTC.
    time: float
    #: "debug", "info", "warning", "error" or "critical".
    level: str
    #: The name of the logger: that of Python's `logging`, or the namespace of Twisted's.
    logger: str
    #: The text, without the traceback.
    message: str
    #: The id of the connection, as in `ref.id`; its peer's address, and its route. Empty where there is none.
    connection: str = ""
    peer: str = ""
    route: str = ""
    #: More facts, by name: those of the access log. The message has them, too.
    facts: Mapping[str, Any] = field(default_factory=dict)
    #: The traceback with the exception, as Python prints it. Empty where there is none.
    traceback: str = ""
    #: The name of the worker that has logged it, such as ``w2``. Empty in a server without workers.
    worker: str = ""


def entry(event: Mapping[str, Any], worker: str = "") -> Entry:
    """Make an entry of an event.

    :param worker: the name of the worker that logs.
    :raises Exception: when the event is wrong, or its values can't be shown: users' code may raise anything.
    """
    level = event.get("log_level") or LogLevel.info
    namespace = str(event.get("log_namespace", "-"))
    legacy = namespace == "log_legacy"
    if namespace.startswith("twisted.logger.") and "warning" in event:
        # Twisted says that it has logged the warning itself; this is the name that Python gives it.
        namespace = "py.warnings"
    if legacy:
        # The older functions of Twisted say which part of a program has logged, and "-" if they don't know.
        system = str(event.get("system", "-"))
        namespace = "twisted" if system == "-" else system
    # Others' events may have fields of the same names.
    about = event if namespace.partition(".")[0] == "wshost" else {}
    connection = str(about.get("connection", "-"))
    return Entry(
        time=float(event.get("log_time", time.time())),
        level="warning" if level is LogLevel.warn else level.name,
        logger=namespace,
        message=_message(event, about, legacy).strip("\n"),
        connection="" if connection == "-" else connection,
        peer=str(about.get("peer", "")),
        route=str(about.get("route", "")),
        facts=about.get("access", {}),
        traceback=_traceback(event, about, legacy).rstrip(),
        worker=worker,
    )


def _message(event: Mapping[str, Any], about: Mapping[str, Any], legacy: bool) -> str:
    if "traceback" in about:
        # The text has the traceback for other observers.
        return str(about["what"])
    if legacy and event.get("failure") is not None:
        # The same with Twisted's older functions.
        return str(event.get("why") or "Unhandled Error")
    return formatEvent(dict(event))


def _traceback(event: Mapping[str, Any], about: Mapping[str, Any], legacy: bool) -> str:
    if "traceback" in about:
        return str(about["traceback"])
    failure = event.get("log_failure") or (event.get("failure") if legacy else None)
    if failure is None:
        return ""
    try:
        # A failure's own text leaves out causes, notes and groups; but where it was cleaned, it alone has the frames.
        if failure.value.__traceback__ is not None:
            return "".join(traceback.format_exception(failure.value))
        return str(failure.getTraceback())
    except BaseException:  # the exception's own methods may raise anything
        return f"{failure.type}, which can't be formatted"
