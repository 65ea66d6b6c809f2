"""What it costs to ask silent clients whether they are still there. Yields the figures."""

from __future__ import annotations

import select
import socket
import statistics
from collections.abc import Callable, Iterator, Sequence

from torture.figures import Figure
from torture.peers import PONG, connected, frame, many
from torture.server import Target

#: Seconds of silence after which a client is asked, and seconds that it has for its answer. A client that has answered
#: is asked again when both are over.
_INTERVAL = 10


class _Silent:
    """Clients that say nothing but that they are there."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._by_fd = {one.fileno(): one for one in sockets}
        self._poll = select.epoll()
        for fd in self._by_fd:
            self._poll.register(fd, select.EPOLLIN)

    def answer(self, count: int) -> None:
        """Answer so many pings.

        :raises TimeoutError: when none comes for so long that one must have come.
        """
        while count > 0:
            ready = self._poll.poll(3 * _INTERVAL)
            if not ready:
                raise TimeoutError(f"{count} pings have not come")
            for fd, _ in ready:
                client = self._by_fd[fd]
                # One ping is all that comes, and it is short.
                client.sendall(frame(PONG, client.recv(256)[2:]))
            count -= len(ready)

    def close(self) -> None:
        """Look at them no more."""
        self._poll.close()


def silent(count: int, times: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: the CPU time of a ping with its pong.

    :param count: of clients.
    :param times: how often it is measured, for one ping of each client.
    """

    def row(target: Target) -> Iterator[Figure]:
        options = (f"--ping-interval={_INTERVAL}", f"--ping-timeout={_INTERVAL}", "--max-connections=20000")
        with (
            target.start(*options, handler="scale.handler") as server,
            many(count, lambda: connected(server.port)) as all,
        ):
            clients = _Silent(all)
            costs = []
            for _ in range(times + 1):
                before = server.cpu
                clients.answer(count)
                costs.append((server.cpu - before) / count * 1e6)
            clients.close()
        # The first time is not counted: caches are filled.
        yield Figure("CPU of a ping and its pong: least", min(costs[1:]), "µs")
        yield Figure("CPU of a ping and its pong: median", statistics.median(costs[1:]), "µs")

    return row
