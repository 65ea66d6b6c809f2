"""Reads from and writes to the descriptor of a connected socket, which never blocks. Knows no event loop.

Compiled, `syscalls.pyx` stands in its place.
"""

import os

#: At most so many bytes are read at once; then it is another connection's turn.
READ_SIZE = 262_144


def recv(fd: int) -> bytes:
    """Return what has been received, at most `READ_SIZE` bytes; b"" at the peer's end.

    :raises BlockingIOError: when nothing has.
    :raises OSError: when the connection is broken.
    """
    return os.read(fd, READ_SIZE)


def recv_into(fd: int, buffer: memoryview, start: int) -> int:
    """Read into a buffer.

    :param buffer: writable bytes, with room behind `start`.
    :param start: where in the buffer to begin.
    :returns: how many bytes were read; 0 at the peer's end.
    :raises BlockingIOError, OSError: as `recv`.
    """
    return os.readv(fd, [buffer[start : start + READ_SIZE]])


def send(fd: int, data: bytes, start: int) -> int:
    """Send what stands behind `start`; return how many bytes the kernel has taken.

    :raises BlockingIOError: when it takes none.
    :raises OSError: when the connection is broken.
    """
    return os.write(fd, memoryview(data)[start:] if start else data)
