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
from torture.peers import BINARY, CLOSE, PING, TEXT, dial, frame, handshake, read_answer, read_frame, reset
from torture.polite import polite
from torture.server import Server, Target

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
        samples: list[tuple[float, float]] = []
        with target.start(deflate=True) as server, polite(server.port) as client:
            # To look at all objects has Autobahn import what it imports late.
            server.counts()
            start = time.monotonic()
            _churn(server, chosen, start + seconds / 6)
            before = server.counts()
            warm = time.monotonic()
            made = _churn(server, chosen, start + seconds, samples)
            after = server.counts()
            yield Figure("connections", made)
            yield Figure("connections a second", made / (start + seconds - warm))
            yield Figure("RSS after the warm-up", samples[0][1], "MB")
            if seconds >= HOUR:
                yield Figure("RSS grows by", _slope(samples) * 3600, "MB/h", 1)
            for kind, name in (("Connection", "connections"), ("Timer", "timers"), ("descriptors", "descriptors")):
                yield Figure(f"{name} left", after[kind] - before[kind], "", 0)
            yield Figure("objects left", after["objects"] - before["objects"], "", 200)
            yield Figure("log", len(server.log) / 1e6, "MB", 1)
            yield Figure("exits", float(not server.alive), "", 0)
            yield from client.figures(50)

    return test


def _churn(server: Server, chosen: random.Random, end: float, samples: list[tuple[float, float]] | None = None) -> int:
    """Let clients come and go until then, and all leave in the end. Return how many came.

    :param samples: gets the time and the RSS, ten times a second.
    """
    staying: list[tuple[socket.socket, bool]] = []
    made = 0
    due = time.monotonic()
    while (now := time.monotonic()) < end:
        if samples is not None:
            samples.append((now, server.rss))
        due += 0.1
        came = _come(server.port, chosen, CHURN // 10)
        made += len(came)
        staying += came
        while len(staying) > STAYING:
            _leave(*staying.pop(chosen.randrange(len(staying))), chosen)
        time.sleep(max(0.0, due - time.monotonic()))
    for one, _ in staying:
        reset(one)
    time.sleep(1)
    return made


def _come(port: int, chosen: random.Random, count: int) -> list[tuple[socket.socket, bool]]:
    """Connect, all at once, and say something; one of a hundred is hostile.

    :returns: the sockets, and of each, whether it has made the handshake.
    """
    made = []
    polite = []
    for _ in range(count):
        with suppress(OSError):
            made.append(dial(port))
    for one in made:
        with suppress(OSError):
            if chosen.random() < 0.01:
                one.sendall(os.urandom(chosen.randrange(1, 2_000)) if chosen.random() < 0.5 else handshake()[:40])
            else:
                one.sendall(handshake(deflate=chosen.random() < 0.5))
                polite.append(one)
    waiting = []
    for one in polite:
        with suppress(OSError):
            read_answer(one)
            size = chosen.choice([1, 100, 1_000, 20_000])
            one.sendall(
                frame(PING, b"x") if chosen.random() < 0.25 else frame(chosen.choice([TEXT, BINARY]), b"x" * size)
            )
            if chosen.random() < 0.01:
                # Not a frame.
                one.sendall(b"\xff" * 20)
            else:
                waiting.append(one)
    for one in waiting:
        with suppress(OSError):
            read_frame(one)
    return [(one, one in polite) for one in made]


def _leave(one: socket.socket, connected: bool, chosen: random.Random) -> None:
    """End in one of several ways."""
    with suppress(OSError, ssl.SSLError):
        # A Close before the handshake gets no answer before the server's deadline, and the next would come too late.
        way = chosen.randrange(4) if connected else 0
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
