"""Asks the kernel about a connection's socket: how much the peer has taken, and whether it has reset the connection.

Also limits what the kernel keeps unsent. Knows transports and sockets, and no protocol.
"""

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
#: The most unsent output that the kernel keeps for one peer, in bytes. Output that is sent, but not yet acknowledged,
#: does not count.
MAX_UNSENT = 131_072


def taken(transport: Any) -> int | None:
    """Return how many bytes the peer's kernel has taken so far; None where that can't be known.

    Only the difference between two calls means something: it is what the peer took in between. Where the kernel doesn't
    count taken bytes, the number is minus the bytes still to be taken; it grows in the same way while nothing is
    written.

    The size of the transport's buffer does not tell whether a peer reads: the kernel's buffers are so large that it may
    stay the same for long while a slow peer reads. The size of the kernel's buffer does not tell, either: the transport
    fills this buffer up again while the peer empties it.

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


def waiting(transport: Any) -> int | None:
    """Return how many bytes a transport holds that the kernel has not taken; None for an unknown kind of transport.

    Safe in any thread.

    :param transport: a Twisted transport; wrappers such as TLS are looked through.
    """
    return _waiting(_innermost(transport))


def _acknowledged(transport: Any) -> int | None:
    """Return how many bytes of a TCP connection the peer has acknowledged."""
    try:
        info = transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
        (size,) = struct.unpack_from("Q", info, _BYTES_ACKED)
    except (AttributeError, OSError, struct.error):
        # It is no TCP socket, or the kernel is too old to count this.
        return None
    return int(size)


def _unread(descriptor: int) -> int | None:
    """Return how many bytes the kernel holds that the peer has not read."""
    from fcntl import ioctl  # noqa: PLC0415 - Windows has none

    try:
        (size,) = struct.unpack("i", ioctl(descriptor, _SIOCOUTQ, bytes(4)))
    except OSError:
        # This kind of file does not support the call.
        return None
    return int(size)


def _waiting(transport: Any) -> int | None:
    """Return how many bytes a transport holds that the kernel has not taken; None for an unknown kind of transport."""
    ours = getattr(transport, "get_write_buffer_size", None)
    if ours is not None:
        return int(ours())
    try:
        # Twisted's transports have the buffer that is being sent, and bytes that were written since.
        waiting: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen  # noqa: SLF001
    except AttributeError:
        return None
    return waiting


def is_broken(transport: Any) -> bool:
    """Say whether the kernel knows that the peer has reset the connection; False where it can't be asked.

    :param transport: a Twisted transport; wrappers such as TLS are looked through.
    """
    descriptor = _descriptor(_innermost(transport))
    if descriptor is None or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    # No event is asked for: POLLERR and POLLHUP are reported all the same.
    return bool(poll.poll(0))


def limit_unsent(listening: Any) -> None:
    """Let the kernel keep at most `MAX_UNSENT` bytes for each connection that a port accepts, where that can be set.

    By default Linux keeps up to 4 MB, and no limit of wshost counts these.

    :param listening: a Twisted port; other ports than TCP's are left alone.
    """
    handle: Any = getattr(listening, "socket", None)
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None and getattr(handle, "family", None) in {socket.AF_INET, socket.AF_INET6}:
        # Accepted sockets inherit the option from the listening socket. Emulations of Linux may lack the option.
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
