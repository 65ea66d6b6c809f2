"""An hour of ordinary and hostile clients. Yields how memory, descriptors and objects grow after the warm-up."""

from __future__ import annotations

import os
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from torture.figures import Figure
from torture.peers import BINARY, CLOSE, PING, TEXT, connected, dial, frame, handshake, read_frame, reset
from torture.polite import polite
from torture.server import Target

#: A shorter run says nothing of a slope in MB an hour.
HOUR = 3_600
#: New connections a second.
CHURN = 200
#: Connections that stay.
STAYING = 200


def soak(seconds: float) -> Callable[[Target], Iterator[Figure]]:
    """Return the test: churn, mixed messages, 1 % hostile clients."""

    def test(target: Target) -> Iterator[Figure]:
        chosen = random.Random(1)
        warm_up = seconds / 6
        staying: list[socket.socket] = []
        made = 0
        samples: list[tuple[float, float]] = []
        with target.start(deflate=True) as server, polite(server.port) as client:
            start = time.monotonic()
            due = start
            while time.monotonic() < start + seconds:
                due += 0.1
                for _ in range(CHURN // 10):
                    made += 1
                    with suppress(OSError):
                        staying.append(_come(server.port, chosen))
                while len(staying) > STAYING:
                    _leave(staying.pop(chosen.randrange(len(staying))), chosen)
                now = time.monotonic()
                if now > start + warm_up:
                    samples.append((now, server.rss))
                time.sleep(max(0.0, due - now))
            for one in staying:
                reset(one)
            time.sleep(1)
            after = server.counts()
            yield Figure("connections", made)
            yield Figure("connections a second", made / seconds)
            yield Figure("RSS after the warm-up", samples[0][1], "MB")
            if seconds >= HOUR:
                yield Figure("RSS grows by", _slope(samples) * 3600, "MB/h", 1)
            yield Figure("connections left", after["Connection"] - 2, "", 0)
            yield Figure("log", len(server.log) / 1e6, "MB", 1)
            yield Figure("exits", float(not server.alive), "", 0)
            yield from client.figures(50)

    return test


def _come(port: int, chosen: random.Random) -> socket.socket:
    """Connect, and say something; one of a hundred is hostile."""
    if chosen.random() < 0.01:
        one = dial(port)
        one.sendall(os.urandom(chosen.randrange(1, 2_000)) if chosen.random() < 0.5 else handshake()[:40])
        return one
    one = connected(port, deflate=chosen.random() < 0.5)
    kind = chosen.randrange(4)
    if kind == 0:
        one.sendall(frame(PING, b"x"))
    else:
        one.sendall(frame(chosen.choice([TEXT, BINARY]), b"x" * chosen.choice([1, 100, 1_000, 20_000])))
    if chosen.random() < 0.01:
        # Not a frame.
        one.sendall(b"\xff" * 20)
    else:
        read_frame(one)
    return one


def _leave(one: socket.socket, chosen: random.Random) -> None:
    """End in one of several ways."""
    with suppress(OSError, ssl.SSLError):
        way = chosen.randrange(4)
        if way == 0:
            reset(one)
        elif way == 1:
            one.sendall(frame(CLOSE, b"\x03\xe8"))
            read_frame(one)
        elif way == 2:
            one.sendall(frame(TEXT, b"x" * 1_000)[:500])
    one.close()


def _slope(samples: list[tuple[float, float]]) -> float:
    """Return the slope of a line through the samples, by least squares."""
    count = len(samples)
    x = sum(at for at, _ in samples) / count
    y = sum(value for _, value in samples) / count
    spread = sum((at - x) ** 2 for at, _ in samples)
    return sum((at - x) * (value - y) for at, value in samples) / spread if spread else 0.0
