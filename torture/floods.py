"""Floods from ten peers at once. Yields what a polite client sees, and how soon the flooders are closed.

Does not know how a flooder floods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torture import flooder
from torture.figures import Figure
from torture.polite import polite
from torture.server import Target

PEERS = 10
SECONDS = 5.0

#: Floods that are against the limits: their senders are closed. The others send what is allowed, only much of it.
CLOSED = ("pings", "empty fragments")


def flood(kind: str) -> Callable[[Target], Iterator[Figure]]:
    """Return the test of one kind of flood."""

    def test(target: Target) -> Iterator[Figure]:
        tls = "TLS" in kind
        with target.start(tls=tls) as server, polite(server.port, tls=tls) as client:
            before = server.rss
            found = flooder.run(server.port, kind, PEERS, SECONDS)
            if kind in CLOSED:
                never = found["closed"] is None
                yield Figure("flooders closed after", SECONDS + 1 if never else found["closed"], "s", 2)
            elif "made" in found:
                yield Figure("connections a second", found["made"] / found["seconds"])
            else:
                yield Figure("taken from the flooders", found["bytes"] / found["seconds"] / 1e6, "MB/s")
            yield Figure("RSS grew by", server.rss - before, "MB", 32)
            yield from client.figures(20)

    return test
