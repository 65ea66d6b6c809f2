"""Peers that are slow on purpose: they never read, or send a byte now and then. Yields what they cost, and when
they are gone.

Does not know how the server finds them.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from torture.figures import Figure
from torture.peers import TEXT, connected, dial, frame, handshake, head, many, trusting
from torture.polite import polite
from torture.server import Target

#: wshost's defaults: `--max-output`, `--stall-timeout` and `--handshake-timeout`, and `message_timeout` of the test.
MAX_OUTPUT = 1.0
STALL_TIMEOUT = 10.0
DEADLINE = 5.0

READERS = 100
#: Bytes a second that each reader is sent.
RATE = 100_000

SLOW = 2_000


def never_reading(target: Target) -> Iterator[Figure]:
    """100 peers get 100 KB/s each, as an echo, and never read."""
    message = frame(TEXT, b"x" * (RATE // 10 - 8))
    make: Callable[[], socket.socket]
    with target.start() as server:
        make = partial(connected, server.port, receive=4_096)
        with many(READERS, make) as readers, polite(server.port) as client:
            before = peak = server.rss
            start = time.monotonic()
            pending = dict.fromkeys(range(READERS), memoryview(b""))
            ended: dict[int, float] = {}
            for one in readers:
                one.setblocking(False)
            due = start
            while len(ended) < READERS and time.monotonic() < start + 6 * STALL_TIMEOUT:
                due += 0.1
                for number, one in enumerate(readers):
                    if number in ended:
                        continue
                    data = pending[number] or memoryview(message)
                    try:
                        sent = one.send(data)
                        pending[number] = data[sent:]
                    except BlockingIOError:
                        if _has_ended(one):
                            ended[number] = time.monotonic()
                    except OSError:
                        ended[number] = time.monotonic()
                peak = max(peak, server.rss)
                time.sleep(max(0.0, due - time.monotonic()))
            # It begins to wait for a reader at the latest when it has as much for it as it keeps.
            goal = MAX_OUTPUT * (1 << 20) / RATE + STALL_TIMEOUT + 1
            yield Figure("RSS grew by", peak - before, "MB", READERS * (MAX_OUTPUT + 0.125))
            yield Figure("readers that were not dropped", READERS - len(ended), "", 0)
            yield Figure("the last was dropped after", max(ended.values(), default=start) - start, "s", goal)
            yield from client.figures(50)


def _has_ended(one: socket.socket) -> bool:
    """Return whether the peer has reset the connection; reads nothing."""
    poller = select.poll()
    poller.register(one, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poller.poll(0))


def slow_heads(target: Target) -> Iterator[Figure]:
    """2,000 peers send a byte of the request each second."""
    yield from _dribble(target, dial, handshake())


def slow_tls(target: Target) -> Iterator[Figure]:
    """2,000 peers send a byte of the TLS handshake each second."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        trusting().wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    yield from _dribble(target, dial, outgoing.read(), tls=True)


def slow_frames(target: Target) -> Iterator[Figure]:
    """2,000 peers send a byte of a message each second; it may take 5 seconds."""
    options = ["--protocol-module=http", f"--protocol-module=websocket,message_timeout={DEADLINE:g}"]
    yield from _dribble(target, connected, head(TEXT, 1 << 16) + b"x" * 99, options)


def _dribble(
    target: Target,
    make: Callable[[int], socket.socket],
    data: bytes,
    options: Sequence[str] = (),
    *,
    tls: bool = False,
) -> Iterator[Figure]:
    """Send a byte each second from all peers; yield when they are and what newcomers see meanwhile."""
    with target.start(*options, tls=tls) as server:
        before = server.rss
        with polite(server.port, "newcomers", tls) as client, many(0, lambda: make(server.port)) as slow:
            begun = []
            for _ in range(SLOW):
                slow.append(make(server.port))
                slow[-1].sendall(data[:1])
                begun.append(time.monotonic())
            peak = server.rss
            sent = 1
            ended: dict[int, float] = {}
            poller = select.poll()
            by_fd = {one.fileno(): number for number, one in enumerate(slow)}
            for one in slow:
                one.setblocking(False)
                poller.register(one, select.POLLIN)
            last = begun[-1] + DEADLINE + 3
            due = time.monotonic() + 1
            while len(ended) < SLOW and time.monotonic() < last:
                for fd, _ in poller.poll(max(0.0, min(due, last) - time.monotonic()) * 1e3):
                    try:
                        still = bool(slow[by_fd[fd]].recv(4_096))
                    except OSError:
                        still = False
                    if not still:
                        ended[by_fd[fd]] = time.monotonic()
                        poller.unregister(fd)
                if time.monotonic() >= due:
                    due += 1
                    for number, one in enumerate(slow):
                        if number not in ended:
                            with suppress(OSError):
                                one.send(data[sent : sent + 1])
                    sent += 1
                    peak = max(peak, server.rss)
            yield Figure("RSS grew by", peak - before, "MB")
            yield Figure("peers that were not dropped", SLOW - len(ended), "", 0)
            waits = [ended[number] - begun[number] for number in ended]
            yield Figure("the last was dropped after", max(waits, default=0.0), "s", DEADLINE + 1)
            yield from client.figures(100, "newcomers")
