"""Reads and writes the bytes of NATS' client protocol. Does no I/O, and knows neither Twisted nor a connection."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

#: A control line has at most so many bytes, but that of INFO, which lists the servers of a cluster.
CONTROL_LINE = 4 << 10
INFO_LINE = 64 << 10
#: The largest payload until INFO has said it; and so much larger may be what comes, as the servers of a cluster differ.
MAX_PAYLOAD = 1 << 20
ROOM = 8 << 20
#: No server takes a larger one, whatever it says.
MOST_PAYLOAD = 64 << 20
#: So many different heads of messages are remembered.
HEADS = 1_000

PING = b"PING\r\n"
PONG = b"PONG\r\n"

_MSG = re.compile(rb"MSG[ \t]+(\S+)[ \t]+\d+[ \t]+(?:\S+[ \t]+)?(\d{1,9})", re.IGNORECASE)
_HMSG = re.compile(rb"HMSG[ \t]+(\S+)[ \t]+\d+[ \t]+(?:\S+[ \t]+)?(\d{1,9})[ \t]+(\d{1,9})", re.IGNORECASE)


class WireError(ValueError):
    """These are no bytes of NATS. The message says in one line what is wrong."""


class Parser:
    """Reads what a server sends, on one connection.

    :param received: called with subject and payload of each message, without its headers.
    :param told: called with the name and the value of all else: ``INFO`` with a dict; ``PING``, ``PONG`` and ``+OK``
        with None; ``-ERR`` with a text of the server.
    """

    def __init__(self, received: Callable[[str, bytes], None], told: Callable[[str, Any], None]) -> None:
        self._received = received
        self._told = told
        #: The largest payload that may come.
        self.limit = MAX_PAYLOAD + ROOM
        # Bytes of what has not come completely; and how many there must be before it is worth a look.
        self._held: list[bytes] = []
        self._size = 0
        self._needed = 0
        # What the heads of messages mean: subject, length of the headers, and length of all. Most come again.
        self._heads: dict[bytes, tuple[str, int, int]] = {}
        self._stopped = False

    def stop(self) -> None:
        """Read nothing any more, even if this is called while `feed` is telling something that is no message."""
        self._stopped = True

    def feed(self, data: bytes) -> None:
        """Read bytes that are cut anywhere.

        :raises WireError: when they are wrong, or too many; the parser can't be used any more.
        """
        if self._held:
            self._held.append(data)
            self._size += len(data)
            if self._size < self._needed:
                return
            data = b"".join(self._held)
            self._held.clear()
        received, heads = self._received, self._heads
        end = len(data)
        position = needed = 0
        while position < end:
            line_end = data.find(b"\r\n", position)
            if line_end < 0:
                self._check_length(data[position : position + 4], end - position)
                break
            head = data[position:line_end]
            start = line_end + 2
            known = heads.get(head) or self._read_head(head)
            if known is None:
                if self._stopped:
                    return
                position = start
                continue
            subject, headers, size = known
            stop = start + size
            if data[stop : stop + 2] != b"\r\n":
                if stop + 2 <= end:
                    raise WireError("a payload does not end where its head says")
                needed = stop + 2 - position
                break
            received(subject, data[start + headers : stop])
            position = stop + 2
        if position < end:
            self._held.append(data[position:])
            self._size = end - position
            self._needed = needed

    def _read_head(self, head: bytes) -> tuple[str, int, int] | None:
        """Read a line that is new: return what it says of a message, or tell what else it says."""
        self._check_length(head[:4], len(head))
        name = head[:4].upper()
        if name == b"MSG " or name == b"HMSG" or name == b"MSG\t":  # noqa: PLR1714 - no set for each message
            return self._read_message(head)
        if name == b"INFO":
            self._told("INFO", _info(head[4:]))
        elif name == b"-ERR":
            self._told("-ERR", head[4:].decode(errors="replace").strip().strip("'"))
        elif name in {b"PING", b"PONG"} and not head[4:].strip():
            self._told(name.decode(), None)
        elif name == b"+OK":
            self._told("+OK", None)
        else:
            raise WireError(f"{head[:40]!r} is nothing that NATS sends")
        return None

    def _read_message(self, head: bytes) -> tuple[str, int, int]:
        found = _MSG.fullmatch(head)
        if found:
            headers, size = 0, int(found[2])
        else:
            found = _HMSG.fullmatch(head)
            if not found:
                raise WireError(f"{head[:40]!r} is no head of a message")
            headers, size = int(found[2]), int(found[3])
        if headers > size or size > self.limit:
            raise WireError(f"a message of {size} bytes is too large, or its {headers} bytes of headers are")
        if len(self._heads) >= HEADS:
            self._heads.clear()
        known = (found[1].decode(errors="replace"), headers, size)
        if not headers or headers < size:
            # One of headers alone is a status of the server, and nearly always the only one for its subject.
            self._heads[head] = known
        return known

    def _check_length(self, name: bytes, length: int) -> None:
        if length > (INFO_LINE if name.upper() == b"INFO" else CONTROL_LINE):
            raise WireError(f"a line of {length} bytes is too long")


def _info(line: bytes) -> dict[str, Any]:
    try:
        info = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError("INFO is no JSON") from error
    if not isinstance(info, dict):
        raise WireError("INFO is no object of JSON")
    return info


def connect(options: Mapping[str, Any]) -> bytes:
    """Return the bytes of CONNECT."""
    return b"CONNECT %b\r\n" % json.dumps(options).encode()


def pub(subject: str, payload: bytes) -> bytes:
    """Return the bytes of PUB. :param subject: ASCII without spaces."""
    return b"PUB %b %d\r\n%b\r\n" % (subject.encode(), len(payload), payload)


def pub_asking(subject: str, reply: str, payload: bytes) -> bytes:
    """Return the bytes of PUB with a subject for replies. The server sends an empty message there if nobody gets it."""
    return b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(payload), payload)


def sub(subject: str, sid: int) -> bytes:
    """Return the bytes of SUB. :param sid: the number of the subscription on its connection."""
    return b"SUB %b %d\r\n" % (subject.encode(), sid)


def unsub(sid: int) -> bytes:
    """Return the bytes of UNSUB."""
    return b"UNSUB %d\r\n" % sid
