"""TLS records as bytes: finds their ends, counts them, and has the buffers for OpenSSL.

Knows no connection, and not the content of records.
"""

from __future__ import annotations

import threading
from ssl import MemoryBIO

#: The most content of one record, in bytes (RFC 5246 §6.2.1).
CONTENT = 1 << 14
#: The size of a record's header, and the most bytes after it: encryption makes the content longer (§6.2.3).
_HEADER, _LONGEST = 5, CONTENT + 2048
#: At most so many records are decrypted at once.
_AT_ONCE = 64


class Buffers:
    """Two buffers: OpenSSL reads from one and writes to the other.

    Both are empty whenever no call into OpenSSL is under way. So all connections of a thread share them, and an idle
    connection has none of its own.
    """

    def __init__(self) -> None:
        self.incoming = MemoryBIO()
        self.outgoing = MemoryBIO()
        # Every record needs these methods. They are looked up only once.
        self.write_incoming = self.incoming.write
        self.read_outgoing = self.outgoing.read
        #: A call into OpenSSL is under way. A write by a signal handler or a finalizer must wait meanwhile.
        self.busy = False

    def end_call(self) -> bytes:
        """End a call, as `take_output` does. Unread input is dropped."""
        try:
            if self.incoming.pending:
                self.incoming.read()
        finally:
            output = self.take_output()
        return output

    def take_output(self) -> bytes:
        """End a call that leaves no input unread; return OpenSSL's output: what it encrypts, or sends by itself."""
        try:
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
    """Return where the last of the next whole records ends; `start` when there is no whole record.

    Bytes that are no record count as whole, and so do all bytes after them: OpenSSL must refuse them.
    """
    size = len(data)
    end = start
    left = _AT_ONCE
    while left and size - end >= _HEADER:
        left -= 1
        length = data[end + 3] << 8 | data[end + 4]
        # Check the content type, the major version and the length.
        if not 20 <= data[end] <= 23 or data[end + 1] != 3 or length > _LONGEST:
            return size
        if end + _HEADER + length > size:
            break
        end += _HEADER + length
    return end


def count_records(data: bytes) -> int:
    """Return the number of records in these bytes."""
    count = end = 0
    while len(data) - end >= _HEADER:
        end += _HEADER + (data[end + 3] << 8 | data[end + 4])
        count += 1
    return count
