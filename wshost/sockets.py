"""What the kernel knows of a connection's socket, where it can be asked. Knows no protocol."""

from __future__ import annotations

import fcntl
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
    while hasattr(transport, "transport"):
        transport = transport.transport
    get_handle = getattr(transport, "getHandle", None)
    if get_handle is None or sys.platform != "linux":
        return None
    try:
        (size,) = struct.unpack("i", fcntl.ioctl(get_handle().fileno(), _SIOCOUTQ, bytes(4)))
    except OSError:
        return None
    return int(size)
