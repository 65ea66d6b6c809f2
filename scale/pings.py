"""What it costs to ask silent clients whether they are still there. Yields the figures."""

from __future__ import annotations

import select
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

from torture.figures import Figure
from torture.peers import PONG, connected, frame, many
from torture.server import Target

#: Seconds of silence after which a client is asked.
_INTERVAL = 2


class _Silent:
    """Clients that say nothing but that they are there."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._by_fd = {one.fileno(): one for one in sockets}
        self._poll = select.epoll()
        for fd in self._by_fd:
            self._poll.register(fd, select.EPOLLIN)

    def answer(self, seconds: float) -> int:
        """Answer all pings that come within this time, and return how many."""
        answered = 0
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for fd, _ in self._poll.poll(left):
                client = self._by_fd[fd]
                # One ping is all that comes, and it is short.
                client.sendall(frame(PONG, client.recv(256)[2:]))
                answered += 1
        return answered

    def close(self) -> None:
        """Look at them no more."""
        self._poll.close()


def silent(count: int, times: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: the CPU time of a ping with its pong.

    :param count: of clients.
    :param times: how often it is measured, for one interval each.
    """

    def row(target: Target) -> Iterator[Figure]:
        options = (f"--ping-interval={_INTERVAL}", "--ping-timeout=20", "--max-connections=20000")
        with (
            target.start(*options, handler="scale.handler") as server,
            many(count, lambda: connected(server.port)) as all,
        ):
            clients = _Silent(all)
            costs = []
            for _ in range(times + 1):
                before = server.cpu
                answered = clients.answer(_INTERVAL)
                costs.append((server.cpu - before) / max(answered, 1) * 1e6)
            clients.close()
        # The first time is not counted: caches are filled.
        yield Figure("CPU of a ping and its pong: least", min(costs[1:]), "µs")
        yield Figure("CPU of a ping and its pong: median", statistics.median(costs[1:]), "µs")

    return row
