"""TLS records as bytes: where they end, how many they are, and the buffers that OpenSSL has them from.

Knows no connection, and nothing of what is in the records.
"""

from __future__ import annotations

import threading
from ssl import MemoryBIO

#: How much one record holds at most (RFC 5246 §6.2.1).
CONTENT = 1 << 14
#: How long a record's header is, and what may follow it: encryption makes it longer (§6.2.3).
_HEADER, _LONGEST = 5, CONTENT + 2048
#: At most so many records are decrypted at once.
_AT_ONCE = 64


class Buffers:
    """What OpenSSL reads from and writes to.

    Both are empty whenever no call into OpenSSL is under way. So all connections of a thread share them, and an idle
    connection has none.
    """

    def __init__(self) -> None:
        self.incoming = MemoryBIO()
        self.outgoing = MemoryBIO()
        # What every record needs, looked up once.
        self.write_incoming = self.incoming.write
        self.read_outgoing = self.outgoing.read
        #: A call into OpenSSL is under way. Another, made by a signal handler or the collector, has to wait.
        self.busy = False

    def end_call(self) -> bytes:
        """End a call; return what OpenSSL has encrypted, or says by itself. What it has not read is dropped."""
        try:
            if self.incoming.pending:
                self.incoming.read()
            output: bytes = self.read_outgoing()
        finally:
            self.busy = False
        return output


class _Thread(threading.local):
    def __init__(self) -> None:
        self.buffers = Buffers()


_thread = _Thread()


def shared_buffers() -> Buffers:
    """Return the buffers of this thread."""
    return _thread.buffers


def end_of_records(data: bytes, start: int) -> int:
    """Return where the last of the next whole records ends; `start` when not one is whole.

    Bytes that are no record, and so all that follows, count as whole: OpenSSL has to refuse them.
    """
    size = len(data)
    end = start
    left = _AT_ONCE
    while left and size - end >= _HEADER:
        left -= 1
        length = data[end + 3] << 8 | data[end + 4]
        # The types of content, and the first byte of all versions.
        if not 20 <= data[end] <= 23 or data[end + 1] != 3 or length > _LONGEST:
            return size
        if end + _HEADER + length > size:
            break
        end += _HEADER + length
    return end


def count_records(data: bytes) -> int:
    """Return how many records these bytes are."""
    count = end = 0
    while len(data) - end >= _HEADER:
        end += _HEADER + (data[end + 3] << 8 | data[end + 4])
        count += 1
    return count
