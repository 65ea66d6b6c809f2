"""What the kernel knows of a connection's socket, where it can be asked. Knows no protocol."""

from __future__ import annotations

import select
import socket
import struct
import sys
from contextlib import suppress
from typing import Any

#: `SIOCOUTQ` of tcp(7), the same number as `TIOCOUTQ`.
_SIOCOUTQ = 0x5411
#: Where `tcpi_bytes_acked` is in the `tcp_info` of tcp(7).
_BYTES_ACKED = 120
#: How much of the output that has not left yet the kernel holds for one peer, in bytes; beside that it only has what is
#: on its way.
MAX_UNSENT = 131_072


def taken(transport: Any) -> int | None:
    """Return how many bytes the peer's kernel has taken so far; None where nobody knows.

    Where only what it has not taken is known, it is that, negative: while nothing is written, what is taken adds to it.
    A transport alone can't tell: with kernel buffers of megabytes, that is too coarse to tell a peer that reads slowly
    from one that does not read. Neither can the kernel's buffer alone: it is filled up as it is emptied.

    :param transport: a Twisted transport; wrappers such as TLS are looked through.
    """
    transport = _innermost(transport)
    descriptor = _descriptor(transport)
    if descriptor is None:
        return None
    left = None
    if sys.platform == "linux":
        acknowledged = _acknowledged(transport)
        if acknowledged is not None:
            return acknowledged
        left = _unread(descriptor)
    waiting = _waiting(transport)
    return None if left is None and waiting is None else -((left or 0) + (waiting or 0))


def _acknowledged(transport: Any) -> int | None:
    """Return how many bytes of a TCP connection the peer has acknowledged."""
    try:
        info = transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
        (size,) = struct.unpack_from("Q", info, _BYTES_ACKED)
    except (AttributeError, OSError, struct.error):
        # It is another kind of socket, or none; or the kernel is older than this number.
        return None
    return int(size)


def _unread(descriptor: int) -> int | None:
    """Return how many bytes the kernel holds that the peer has not read."""
    from fcntl import ioctl  # noqa: PLC0415 - Windows has none

    try:
        (size,) = struct.unpack("i", ioctl(descriptor, _SIOCOUTQ, bytes(4)))
    except OSError:
        # It is a kind of file that has no such number.
        return None
    return int(size)


def _waiting(transport: Any) -> int | None:
    """Return how many bytes a transport holds that the kernel has not taken."""
    ours = getattr(transport, "get_write_buffer_size", None)
    if ours is not None:
        return int(ours())
    try:
        # Twisted's: what it sends from, and what has come since.
        waiting: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen  # noqa: SLF001
    except AttributeError:
        return None
    return waiting


def is_broken(transport: Any) -> bool:
    """Say whether the peer has reset the connection, as far as the kernel knows, and can be asked.

    :param transport: a Twisted transport; wrappers such as TLS are looked through.
    """
    descriptor = _descriptor(_innermost(transport))
    if descriptor is None or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    # What nobody asks for and yet is told: POLLERR, POLLHUP.
    return bool(poll.poll(0))


def limit_unsent(listening: Any) -> None:
    """Let the kernel hold no more than `MAX_UNSENT` for each connection that a port accepts, where it can be told.

    By itself Linux takes 4 MB, which no limit of ours counts.

    :param listening: a Twisted port; those of other kinds than TCP's are left alone.
    """
    handle: Any = getattr(listening, "socket", None)
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None and getattr(handle, "family", None) in {socket.AF_INET, socket.AF_INET6}:
        # What is accepted has it from the socket that listens. Who emulates Linux may not have it.
        with suppress(OSError):
            handle.setsockopt(socket.IPPROTO_TCP, option, MAX_UNSENT)


def _innermost(transport: Any) -> Any:
    while hasattr(transport, "transport"):
        transport = transport.transport
    return transport


def _descriptor(transport: Any) -> int | None:
    get_handle = getattr(transport, "getHandle", None)
    if get_handle is None:
        return None
    descriptor: int = get_handle().fileno()
    # A socket that is closed already has -1.
    return descriptor if descriptor >= 0 else None
