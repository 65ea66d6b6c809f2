"""Makes a line of the log of an entry: text for people, JSON for programs. Knows no file.

No format lets a control character through, whoever has brought it into an entry (CWE-117).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from wshost.logs.entry import Entry
from wshost.logs.text import escaped


def text_line(entry: Entry) -> str:
    """Return ``time level logger: message``, without a newline at the end.

    The time is in UTC, to the millisecond. A connection's id, or else the worker, and the peer's address are in
    brackets before the message. Further lines of the message, and those of the traceback, are indented: only an entry
    begins at the margin.
    """
    # The id of a worker's connection begins with the worker's name.
    about = " ".join(filter(None, (entry.connection or entry.worker, entry.peer, entry.route)))
    about = f"[{about}] " if about else ""
    lines = [f"{_time(entry, 'milliseconds')} {entry.level} {entry.logger}: {about}{entry.message}"]
    if entry.traceback:
        lines.append(entry.traceback)
    return escaped("\n".join(lines)).replace("\n", "\n    ")


def json_line(entry: Entry) -> str:
    """Return one JSON object, without a newline at the end; it has ASCII characters only.

    These keys are there always: time (RFC 3339, in UTC, to the microsecond), level, logger, message. These only where
    there is something to say: connection, peer, route, worker, traceback; and in a line of the access log, its facts.
    """
    keys = {
        "time": _time(entry, "microseconds"),
        "level": entry.level,
        "logger": entry.logger,
        "message": entry.message,
    }
    more = {
        "connection": entry.connection,
        "peer": entry.peer,
        "route": entry.route,
        "worker": entry.worker,
        "traceback": entry.traceback,
    }
    return json.dumps(keys | {key: value for key, value in more.items() if value} | dict(entry.facts))


#: The formats, by name.
FORMATS: Mapping[str, Callable[[Entry], str]] = {"text": text_line, "json": json_line}


def _time(entry: Entry, precision: str) -> str:
    return datetime.fromtimestamp(entry.time, UTC).isoformat(timespec=precision).replace("+00:00", "Z")
