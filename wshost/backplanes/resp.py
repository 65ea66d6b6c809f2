"""Writes the commands and reads the replies of Redis and Valkey (RESP3). Knows no connection and no subscription.

A broker's bytes may be cut anywhere. Nearly all that comes are messages of subscriptions, so one regular expression
reads the head of each. All else is read by `_value`. It knows every type of RESP3 but streams, which no server sends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

#: The longest line, in bytes.
MAX_LINE = 65_536
#: How many values one reply may have, and how deep they may lie in each other. CLUSTER SLOTS has some hundred thousand
#: where each slot has been moved.
MAX_VALUES = 500_000
MAX_DEPTH = 8
#: The longest number that means something, in bytes: 64 bits, a sign, and what is around it.
LONGEST_NUMBER = 23

# The first group says of which subscription a message is.
_MESSAGE = re.compile(
    rb">((?:3\r\n\$(?:7\r\n|8\r\ns)message|4\r\n\$8\r\npmessage\r\n\$\d+\r\n[^\r\n]*)\r\n\$\d+\r\n[^\r\n]*)\r\n"
    rb"\$(\d{1,12})\r\n"
)
_NUMBERS = re.compile(rb"(?::\d++\r\n)++")
_LENGTH = re.compile(rb"-1|\d{1,12}")

Value: TypeAlias = "int | float | bool | bytes | list[Value] | Push | ErrorReply | None"
"""A reply. Text is bytes, as binary strings are. A map is a list of keys and values in turns, and a set is a list."""


class BadReply(ValueError):
    """What came is not RESP3, or is larger than it may be. Nothing that follows can be read."""


class ErrorReply(str):
    """A command has failed. The first word says why, in capitals: ``NOPERM``."""

    __slots__ = ()

    @property
    def code(self) -> str:
        return self.partition(" ")[0]


class Push(list[Value]):
    """What came unasked. Its first item is its kind, in bytes."""


class _More(Exception):
    """The reply is not whole: its bytes go up to this position at least."""

    def __init__(self, end: int) -> None:
        self.end = end


def command(*words: str | bytes) -> bytes:
    """Return the bytes of a command."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word.encode() if isinstance(word, str) else word
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def message_head(kind: str, *channel: str) -> bytes:
    """Return the head of a message, by which a `Parser` knows the message's subject.

    :param kind: ``message``; ``smessage`` in a shard; ``pmessage`` for a pattern.
    :param channel: the channel; before it, for ``pmessage``, the pattern.
    """
    return command(kind, *channel, "").removeprefix(b"*").removesuffix(b"\r\n$0\r\n\r\n")


#: What is whole in one line, by its first character.
_SIMPLE: Mapping[bytes, Callable[[bytes], Value]] = {
    b":": int,
    b"(": int,
    b",": float,
    b"+": bytes,
    b"-": lambda line: ErrorReply(line.decode(errors="replace")),
    b"_": lambda _: None,
    b"#": lambda line: line == b"t",
}
#: What holds other values, and how many for each that is counted.
_AGGREGATES = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}
# What is known of a reply that was not looked through: see `Parser`.
_NOTHING = (0, 1, 0)


def _length(line: bytes) -> int:
    if not _LENGTH.fullmatch(line):
        raise BadReply(f"{line[:40]!r} is not a length")
    return int(line)


class Parser:
    """Reads what comes on one connection.

    :param subjects: the subject of each message that is wanted, by its head: see `message_head`.
    :param resolve: returns the subject of a head that is not in `subjects`; "" when the message is not wanted; None
        when the head is cut wrongly, as the channel has a newline: then the message is read as any other reply.
    :param message: gets the subject and the payload of each message that is wanted.
    :param reply: gets all else, without the numbers: they say how many clients have got a publication.
    :param largest: the largest payload, in bytes.
    """

    def __init__(
        self,
        subjects: Mapping[bytes, str],
        resolve: Callable[[bytes], str | None],
        message: Callable[[str, bytes], None],
        reply: Callable[[Value], None],
        largest: int,
    ) -> None:
        self._subjects = subjects
        self._resolve = resolve
        self._message = message
        self._reply = reply
        self._largest = largest
        # The beginning of a reply, as it was read in parts; its size; and the least size with which it can be whole.
        self._parts: list[bytes] = []
        self._size = 0
        self._needed = 0
        # How far it was looked through; how many values it misses behind that, and has before.
        self._looked = _NOTHING
        self._stopped = False
        # The end of the numbers that came last, in a row.
        self._numbers = b""

    @property
    def number(self) -> int | None:
        """The number that came last: how many clients have got the last publication that was answered."""
        return int(self._numbers.rpartition(b":")[2]) if self._numbers else None

    def stop(self) -> None:
        """Pass nothing on any more, even if this is called while `feed` is running."""
        self._stopped = True

    def feed(self, data: bytes) -> None:
        """Read the next bytes, and pass on all that is whole.

        :raises BadReply: when the connection must end.
        """
        if self._parts:
            # A large payload comes in many reads: they are joined once.
            self._parts.append(data)
            self._size += len(data)
            if self._size < self._needed:
                return
            data = b"".join(self._parts)
            self._parts.clear()
            self._needed = self._look_through(data)
            if self._needed:
                self._parts.append(data)
                return
        match, subject_of, message, largest = _MESSAGE.match, self._subjects.get, self._message, self._largest
        at, end = 0, len(data)
        try:
            while at < end and not self._stopped:
                found = match(data, at)
                if found is not None:
                    head, length = found.groups()
                    subject = subject_of(head)
                    if subject is None:
                        subject = self._resolve(head)
                    if subject is not None:
                        start = found.end()
                        stop = start + int(length)
                        if stop - start > largest:
                            raise BadReply(f"a message has {stop - start} bytes: at most {largest} are read")
                        if stop + 2 > end:
                            raise _More(stop + 2)
                        at = stop + 2
                        if subject:
                            message(subject, data[start:stop])
                        continue
                numbers = _NUMBERS.match(data, at)
                if numbers is not None:
                    start, at = at, numbers.end()
                    self._numbers = data[max(start, at - LONGEST_NUMBER) : at]
                else:
                    value, at = self._value(data, at, 0, [MAX_VALUES])
                    self._reply(value)
        except _More as more:
            self._parts.append(data[at:] if at else data)
            self._size = end - at
            self._needed = more.end - at
            self._looked = _NOTHING

    def _look_through(self, data: bytes) -> int:
        """Return how many bytes a reply has at the least; 0 when it is whole, or wrong.

        A reply of very many values comes in many reads. To make all its values anew with each would take seconds.
        """
        at, missing, seen = self._looked
        while missing and seen < MAX_VALUES:
            stop = data.find(b"\r\n", at, at + MAX_LINE)
            if stop < 0:
                end = 0 if len(data) - at >= MAX_LINE else len(data) + 1
                break
            kind, line, end = data[at : at + 1], data[at + 1 : stop], stop + 2
            added = 0
            if kind in _AGGREGATES or kind in b"$=!":
                length = int(line) if _LENGTH.fullmatch(line) else None
                if length is None or (kind in b"$=!" and length > self._largest):
                    return 0
                if kind in _AGGREGATES:
                    added = max(length, 0) * _AGGREGATES[kind] + (kind == b"|")
                elif length >= 0:
                    end += length + 2
            if end > len(data):
                break
            at, missing, seen = end, missing + added - 1, seen + 1
        else:
            return 0
        self._looked = at, missing, seen
        return end

    def _value(self, data: bytes, at: int, depth: int, left: list[int]) -> tuple[Value, int]:
        """Read one value of any type; return it, and where the next one begins.

        :param left: how many more values the reply may have.
        """
        left[0] -= 1
        if depth > MAX_DEPTH or left[0] < 0:
            raise BadReply("a reply has too many values, or is nested too deeply")
        stop = data.find(b"\r\n", at, at + MAX_LINE)
        if stop < 0:
            if len(data) - at >= MAX_LINE:
                raise BadReply("a line is too long")
            raise _More(len(data) + 1)
        kind, line, at = data[at : at + 1], data[at + 1 : stop], stop + 2
        if kind in _AGGREGATES:
            count = _length(line)
            values: list[Value] = Push() if kind == b">" else []
            for _ in range(count * _AGGREGATES[kind]):
                value, at = self._value(data, at, depth + 1, left)
                values.append(value)
            if kind == b"|":
                # Attributes stand before a reply, and say something about it.
                return self._value(data, at, depth + 1, left)
            return (None if count < 0 else values), at
        if kind in b"$=!":
            return self._bulk(kind, _length(line), data, at)
        try:
            return _SIMPLE[kind](line), at
        except (KeyError, ValueError):
            raise BadReply(f"{kind + line[:40]!r} is not RESP3") from None

    def _bulk(self, kind: bytes, size: int, data: bytes, at: int) -> tuple[Value, int]:
        if size < 0:
            return None, at
        if size > self._largest:
            raise BadReply(f"a string has {size} bytes: at most {self._largest} are read")
        stop = at + size
        if stop + 2 > len(data):
            raise _More(stop + 2)
        text = data[at:stop]
        if kind == b"!":
            return ErrorReply(text.decode(errors="replace")), stop + 2
        # The first four characters of a verbatim string name its format.
        return (text[4:] if kind == b"=" else text), stop + 2
