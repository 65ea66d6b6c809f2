"""One end of the connection between two of our processes, on a reactor. Knows no process, and not what packets mean.

The packets are those of `wshost.workers.packets`. Nothing here blocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from socket import socket
from typing import Any

from twisted.logger import Logger

from wshost.process import reactors
from wshost.workers.packets import Packets

#: While the other process takes nothing, it is tried again after so many seconds; and so many packets are kept for it.
RETRY = 0.05
MOST_KEPT = 10_000

_log = Logger("wshost")


class Line:
    """One end.

    :param reactor: must be asyncio's.
    :param connected: a socket of the type SOCK_SEQPACKET.
    :param received: gets each packet: its head, its data, and its sockets, which it owns.
    :param lost: called once, when the other process has closed its end, or can't be understood; never after `close`.
    """

    def __init__(
        self,
        reactor: Any,
        connected: socket,
        received: Callable[[Mapping[str, Any], bytes, list[socket]], None],
        lost: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._channel = Packets(connected)
        connected.setblocking(False)
        self._received = received
        self._lost = lost
        # Packets that wait for room, and the call that tries again.
        self._kept: deque[tuple[Mapping[str, Any], bytes]] = deque()
        self._retry: Any = None
        self.closed = False
        # By the loop itself: for each call, the reactor looks up a context of the log.
        self._loop = reactors.event_loop(reactor)
        self._loop.add_reader(connected.fileno(), self._read)

    def send(self, head: Mapping[str, Any], descriptors: Sequence[int] = (), data: bytes = b"") -> bool:
        """Send a packet now; return False if there is no room for it, or nobody to take it."""
        if self.closed or self._kept:
            return False
        try:
            self._channel.send(head, data, descriptors)
        except OSError:
            # If the other process has gone, `_read` finds the end.
            return False
        return True

    def tell(self, head: Mapping[str, Any], data: bytes = b"") -> None:
        """Send a packet as soon as there is room for it, after those that were posted before."""
        if self.closed or self.send(head, (), data):
            return
        if len(self._kept) >= MOST_KEPT:
            _log.error("another process of this server takes nothing: it counts as dead")
            self._end()
            return
        self._kept.append((head, data))
        self._try_later()

    def finish(self) -> None:
        """Receive what is there already, then close this end: the other process has ended. `lost` is not called."""
        with suppress(EOFError, OSError, ValueError):
            while not self.closed:
                self._received(*self._receive())
        self.close()

    def _receive(self) -> tuple[Mapping[str, Any], bytes, list[socket]]:
        try:
            return self._channel.receive()
        except ConnectionResetError:
            # The other process has ended before it has read all. What it has sent is there still.
            return self._channel.receive()

    def close(self) -> None:
        """Close this end, and call no more."""
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._channel.socket.fileno())
            self._channel.close()
            self._kept.clear()
            if self._retry is not None:
                self._retry.cancel()
                self._retry = None

    def _try_later(self) -> None:
        if self._retry is None:
            self._retry = self._reactor.callLater(RETRY, self._send_kept)

    def _send_kept(self) -> None:
        self._retry = None
        while self._kept:
            head, data = self._kept[0]
            try:
                self._channel.send(head, data)
            except OSError:
                self._try_later()
                return
            self._kept.popleft()

    def _read(self) -> None:
        """Receive one packet. If there are more, the loop calls again: that takes less time than to find none."""
        try:
            packet = self._receive()
        except BlockingIOError:
            return
        except (EOFError, OSError, ValueError) as error:
            if isinstance(error, ValueError):
                _log.error("another process of this server can't be understood: {error}", error=error)
            self._end()
            return
        self._received(*packet)

    def _end(self) -> None:
        self.close()
        self._lost()
