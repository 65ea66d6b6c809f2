"""Connections that end at every byte of a conversation, in every way. Yields what is left of them in the server."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from torture.figures import Figure
from torture.peers import CLOSE, CONTINUATION, PING, TEXT, ask, connected, dial, frame, handshake, reset, trusting
from torture.server import Server, Target

#: A client's side of a conversation: a handshake, a message, a fragmented one, a ping, a Close.
SCRIPT = b"".join(
    [
        handshake(),
        frame(TEXT, b"a message"),
        frame(TEXT, b"in two ", fin=False),
        frame(PING, b"?"),
        frame(CONTINUATION, b"parts"),
        frame(CLOSE, (1000).to_bytes(2, "big")),
    ]
)
#: What must be gone with its connection.
GONE = ("Connection", "HandlerSession", "timers", "descriptors")
#: So many objects may be new: caches, and what the count itself makes.
OBJECTS = 200
#: Seconds until the server must have forgotten the last of them.
SOON = 8.0


def _truncate(one: socket.socket) -> None:
    """Leave at once: with unread input this is a RST, else a FIN."""
    one.close()


def _finish(one: socket.socket) -> None:
    """Close our half, read until the server closes its own."""
    with suppress(OSError):
        one.shutdown(socket.SHUT_WR)
        while one.recv(1 << 16):
            pass
    one.close()


def _half_close(one: socket.socket) -> None:
    """Close our half, and read nothing for a moment."""
    with suppress(OSError):
        one.shutdown(socket.SHUT_WR)
    time.sleep(0.001)
    one.close()


WAYS: dict[str, Callable[[socket.socket], None]] = {
    "close": _truncate,
    "RST": reset,
    "FIN": _finish,
    "half-close": _half_close,
}


def every_byte(target: Target) -> Iterator[Figure]:
    """Each way, after each byte, over TCP."""
    with target.start() as server:

        def go(sent: int, end: Callable[[socket.socket], None]) -> None:
            one = dial(server.port)
            one.sendall(SCRIPT[:sent])
            end(one)

        yield from _left(server, lambda: _all(go), lambda: connected(server.port))


def every_byte_tls(target: Target) -> Iterator[Figure]:
    """Each way, after each byte, over TLS; and after each part of the TLS handshake and of a record."""
    context = trusting()
    with target.start(tls=True) as server:

        def go(sent: int, end: Callable[[socket.socket], None]) -> None:
            one = dial(server.port, context)
            one.sendall(SCRIPT[:sent])
            end(one)

        def records() -> int:
            """Send the bytes of TLS themselves, cut at each place."""
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            with suppress(ssl.SSLWantReadError):
                context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
            hello = outgoing.read()
            for end in WAYS.values():
                for sent in range(0, len(hello), 3):
                    one = dial(server.port)
                    one.sendall(hello[:sent])
                    end(one)
            return len(WAYS) * len(range(0, len(hello), 3))

        yield from _left(server, lambda: _all(go) + records(), lambda: connected(server.port, context))


def _all(go: Callable[[int, Callable[[socket.socket], None]], None]) -> int:
    for end in WAYS.values():
        for sent in range(len(SCRIPT) + 1):
            go(sent, end)
    return len(WAYS) * (len(SCRIPT) + 1)


def _left(server: Server, attack: Callable[[], int], connect: Callable[[], socket.socket]) -> Iterator[Figure]:
    """Attack, and yield what is left when all of it should be gone."""
    with connect() as client:
        # The first connections import and cache things.
        for _ in range(3):
            connect().close()
        before = _settled(client, {})
        log = len(server.log)
        made = attack()
        after = _settled(client, before)
        yield Figure("connections ended", made)
        for kind in GONE:
            yield Figure(f"left: {kind}", max(0, _count(after, kind) - _count(before, kind)), "", 0)
        yield Figure("left: all objects", after["objects"] - before["objects"], "", OBJECTS)
        yield Figure("log", len(server.log) - log, "bytes", 0)
        yield Figure("a later message is answered", float(ask(client, "yes") != "yes"), "", 0)


def _count(counts: dict[str, int], kind: str) -> int:
    return counts["Timer"] + counts["ModuleTimer"] if kind == "timers" else counts[kind]


def _is_like(counts: dict[str, int], before: dict[str, int]) -> bool:
    """Say whether nothing is left of what has come since these counts."""
    gone = all(_count(counts, kind) <= _count(before, kind) for kind in GONE)
    return gone and counts["objects"] <= before["objects"] + OBJECTS


def _settled(client: socket.socket, like: dict[str, int]) -> dict[str, int]:
    """Return the counts when they are those, or after a while."""
    deadline = time.monotonic() + SOON
    while True:
        counts: dict[str, int] = json.loads(ask(client, "!counts"))
        if time.monotonic() > deadline or (like and _is_like(counts, like)):
            return counts
        if not like:
            time.sleep(1)
            like = counts
            continue
        time.sleep(0.1)
