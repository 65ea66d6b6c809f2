"""Owns what one process has subscribed to, as channels and patterns of Redis. Knows no connection.

A ``*`` of Redis stands for dots, too. So one pattern of Redis may serve several patterns of ours, and what comes for it
is matched again, once for each subject: the outcome is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from wshost.backplanes.resp import command, message_head
from wshost.backplanes.subjects import is_pattern, is_subject, matches

#: So many channels are subscribed to by one command.
BATCH = 500
#: For so many subjects it is known which pattern they match.
KNOWN = 10_000

_HEAD = re.compile(rb"4\r\n\$8\r\npmessage\r\n\$(\d+)\r\n([^\r\n]*)\r\n\$(\d+)\r\n([^\r\n]*)")


class Subscriptions:
    """All subscriptions of a process. They outlive connections."""

    def __init__(self) -> None:
        #: The subjects of messages that have been subscribed to, by the message's head; "" for those that have not.
        self.subjects: dict[bytes, str] = {}
        # The subjects without wildcards; and our patterns, by those of Redis. All in order.
        self._channels: dict[str, None] = {}
        self._patterns: dict[str, list[str]] = {}
        # The heads in `subjects` that were found by patterns.
        self._found: list[bytes] = []

    def add(self, subject: str) -> bytes | None:
        """Add a subscription; return the command that makes it, or None if none is needed."""
        if not is_pattern(subject):
            self._channels[subject] = None
            self.subjects[message_head("message", subject)] = subject
            return command("SUBSCRIBE", subject)
        self._forget_found()
        glob = _glob(subject)
        patterns = self._patterns.setdefault(glob, [])
        patterns.append(subject)
        return command("PSUBSCRIBE", glob) if len(patterns) == 1 else None

    def remove(self, subject: str) -> bytes | None:
        """Undo an `add`; return the command for it, or None if none is needed."""
        if not is_pattern(subject):
            del self._channels[subject]
            del self.subjects[message_head("message", subject)]
            return command("UNSUBSCRIBE", subject)
        self._forget_found()
        glob = _glob(subject)
        patterns = self._patterns[glob]
        patterns.remove(subject)
        if patterns:
            return None
        del self._patterns[glob]
        return command("PUNSUBSCRIBE", glob)

    def commands(self) -> Iterator[bytes]:
        """Return the commands that make all subscriptions on a new connection."""
        for verb, names in (("SUBSCRIBE", self._channels), ("PSUBSCRIBE", self._patterns)):
            left = iter(names)
            while batch := list(islice(left, BATCH)):
                yield command(verb, *batch)

    def resolve(self, head: bytes) -> str | None:
        """Return the subject of a message whose head is not in `subjects`: see `Parser`."""
        found = _HEAD.fullmatch(head)
        if found is None:
            # Its channel was unsubscribed from while it was on its way.
            return ""
        if int(found[1]) != len(found[2]) or int(found[3]) != len(found[4]):
            return None
        glob, channel = found[2].decode(errors="replace"), found[4].decode(errors="replace")
        # Others may publish on channels that are no subjects.
        wanted = is_subject(channel) and any(matches(pattern, channel) for pattern in self._patterns.get(glob, ()))
        if len(self._found) >= KNOWN:
            self._forget_found()
        self._found.append(head)
        self.subjects[head] = subject = channel if wanted else ""
        return subject

    def _forget_found(self) -> None:
        for head in self._found:
            del self.subjects[head]
        self._found.clear()


def _glob(pattern: str) -> str:
    """Return the pattern of Redis for one of ours. A subject has no other character that is special there."""
    return f"{pattern[:-1]}*" if pattern.endswith(">") else pattern
