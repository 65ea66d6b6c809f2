"""The form of packets between two processes of one server. Knows no reactor, and not what packets mean.

Both run the same code, so the form is that of `marshal`: it takes a fraction of the time of JSON, which another version
can read. That matters, as each connection is passed in a packet, and its end is told in one.
"""

from __future__ import annotations

import marshal
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from wshost.process.takeover import BESIDE, CLOSED_ON_EXEC, LARGEST, Channel, received

# What was received, until it is read: it is read at once.
_room = bytearray(LARGEST)


class Packets(Channel):
    """One end of the connection between two processes.

    :param connected: a socket of the type SOCK_SEQPACKET.
    """

    def send(self, head: Mapping[str, Any], data: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """Send a packet.

        :param head: a dict of Python's own types, such as None, int, str, bytes, tuple, list and dict.
        :raises ValueError: when it has others, or the packet is larger than `LARGEST`.
        :raises OSError: as `Channel.send`.
        """
        content: Any = head, data
        packet = marshal.dumps(content)
        if len(packet) > LARGEST:
            raise ValueError(f"{len(packet)} bytes are too many for a packet")
        if descriptors:
            beside = struct.pack(f"{len(descriptors)}i", *descriptors)
            self.socket.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, beside)])
        else:
            self.socket.send(packet)

    def receive(self) -> tuple[dict[str, Any], bytes, list[socket.socket]]:
        size, ancillary, _, _ = self.socket.recvmsg_into([_room], BESIDE, CLOSED_ON_EXEC)
        sockets = received(ancillary)
        if size:
            found = _read(memoryview(_room)[:size])
            if found is not None:
                return *found, sockets
        for one in sockets:
            one.close()
        if size:
            raise ValueError("a packet has another form")
        raise EOFError


def _read(packet: memoryview) -> tuple[dict[str, Any], bytes] | None:
    """Return a packet's head and data; None if it is no packet."""
    try:
        head, data = marshal.loads(packet)  # noqa: S302 - from our own process, by a socket that only we have
    except (EOFError, TypeError, ValueError):
        return None
    return (head, data) if isinstance(head, dict) and isinstance(data, bytes) else None
