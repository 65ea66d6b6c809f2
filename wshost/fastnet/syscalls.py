"""Accepts sockets; reads from and writes to the descriptor of a connected one. None blocks. Knows no event loop.

`syscalls.pyx` has the same functions in C. Where it was compiled, it runs in place of this file.
"""

from __future__ import annotations

import os
import socket
from typing import Any

#: At most so many bytes are read at once; then other connections have their turn.
READ_SIZE = 262_144


def accept(listening: socket.socket) -> tuple[socket.socket, Any]:
    """Accept a connection.

    :param listening: a non-blocking stream socket.
    :returns: the connection's socket, which does not block either, and the peer's name.
    :raises BlockingIOError: when no connection waits.
    :raises OSError: when none can be accepted.
    """
    sock, name = listening.accept()
    sock.setblocking(False)
    return sock, name


def recv(fd: int) -> bytes:
    """Return received bytes, at most `READ_SIZE`; b"" when the peer has closed its half.

    :raises BlockingIOError: when nothing was received.
    :raises OSError: when the connection is broken.
    """
    return os.read(fd, READ_SIZE)


def recv_into(fd: int, buffer: memoryview, start: int) -> int:
    """Read into a buffer.

    :param buffer: writable bytes, with room after `start`.
    :param start: where in the buffer to begin.
    :returns: how many bytes were read; 0 when the peer has closed its half.
    :raises BlockingIOError, OSError: as `recv`.
    """
    return os.readv(fd, [buffer[start : start + READ_SIZE]])


def send(fd: int, data: bytes, start: int, last: bool = False) -> int:  # noqa: ARG001 - `os.write` knows no such flag
    """Send the bytes from `start` on; return how many the kernel has taken.

    :param last: our half is closed next, so the kernel may send these bytes and the end in one packet. Where that can't
        be said to the kernel, it means nothing.
    :raises BlockingIOError: when the kernel takes none.
    :raises OSError: when the connection is broken.
    """
    return os.write(fd, memoryview(data)[start:] if start else data)
