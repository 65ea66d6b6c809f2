"""Many clients that count what they receive. Knows no server but by its answers, and no goal."""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torture.peers import PATIENCE, TEXT, frame, many

#: What one read takes at the most.
_READ = 1 << 18


class Crowd:
    """Clients that get the same messages.

    :param sockets: WebSocket connections that have got nothing yet.
    :param may_end: whether the server may close some.
    """

    def __init__(self, sockets: list[socket.socket], may_end: bool = False) -> None:
        self.sockets = sockets
        self._may_end = may_end
        #: How many the server has closed.
        self.ended = 0
        self._by_fd = {one.fileno(): one for one in sockets}
        self._poll = select.epoll()
        self._buffer = bytearray(_READ)
        for one in sockets:
            one.setblocking(False)
            self._poll.register(one.fileno(), select.EPOLLIN)

    def receive(self, size: int, seconds: float = PATIENCE, deadline: float = math.inf) -> int:
        """Read until so many bytes have come to all together, or nothing has come for so long; return how many came.

        :param deadline: by `time.monotonic`: later than this, nothing is waited for.
        :raises ConnectionError: when a connection ends that must not.
        """
        total = 0
        while total < size and time.monotonic() < deadline:
            ready = self._poll.poll(seconds)
            if not ready:
                break
            for fd, _ in ready:
                got = self._by_fd[fd].recv_into(self._buffer)
                if not got:
                    self._end(fd)
                total += got
        return total

    def _end(self, fd: int) -> None:
        if not self._may_end:
            raise ConnectionResetError("the server has closed a connection")
        self._poll.unregister(fd)
        self.ended += 1

    def close(self) -> None:
        """Look at them no more."""
        self._poll.close()


@contextmanager
def crowd(count: int, make: Callable[[], socket.socket], may_end: bool = False) -> Iterator[Crowd]:
    """Make clients, and close them in the end. :param may_end: see `Crowd`."""
    with many(count, make) as sockets:
        made = Crowd(sockets, may_end)
        try:
            yield made
        finally:
            made.close()


def frame_size(payload: int) -> int:
    """Return the size of a server's frame."""
    return payload + (2 if payload < 126 else 4 if payload < 1 << 16 else 10)


def tell(client: Any, text: str) -> None:
    """Send a text."""
    client.sendall(frame(TEXT, text.encode()))


def until(fact: Callable[[], bool], what: str, seconds: float = PATIENCE) -> float:
    """Wait until something is so; return how many seconds that took.

    :param what: in words, for the error.
    :raises TimeoutError: when it is not so in time.
    """
    start = time.monotonic()
    while not fact():
        if time.monotonic() - start > seconds:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.005)
    return time.monotonic() - start
