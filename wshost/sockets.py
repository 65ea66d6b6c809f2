"""What the kernel knows of a connection's socket, where it can be asked. Knows no protocol."""

from __future__ import annotations

import select
import struct
import sys
from typing import Any

#: `SIOCOUTQ` of tcp(7), the same number as `TIOCOUTQ`.
_SIOCOUTQ = 0x5411


def unacknowledged(transport: Any) -> int | None:
    """Return how many bytes the kernel holds that the peer has not acknowledged, None where it can't be asked.

    A transport tells when it has handed on what it had: with kernel buffers of megabytes that is too coarse to tell a
    peer that reads slowly from one that does not read.

    :param transport: a Twisted transport; wrappers such as TLS are looked through.
    """
    descriptor = _descriptor(transport)
    if descriptor is None or sys.platform != "linux":
        return None
    from fcntl import ioctl  # noqa: PLC0415 - Windows has none

    try:
        (size,) = struct.unpack("i", ioctl(descriptor, _SIOCOUTQ, bytes(4)))
    except OSError:
        # It is a kind of socket that has no such number.
        return None
    return int(size)


def is_broken(transport: Any) -> bool:
    """Say whether the peer has reset the connection, as far as the kernel knows, and can be asked.

    :param transport: a Twisted transport; wrappers such as TLS are looked through.
    """
    descriptor = _descriptor(transport)
    if descriptor is None or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    # What nobody asks for and yet is told: POLLERR, POLLHUP.
    return bool(poll.poll(0))


def _descriptor(transport: Any) -> int | None:
    while hasattr(transport, "transport"):
        transport = transport.transport
    get_handle = getattr(transport, "getHandle", None)
    if get_handle is None:
        return None
    descriptor: int = get_handle().fileno()
    # A socket that is closed already has -1.
    return descriptor if descriptor >= 0 else None
