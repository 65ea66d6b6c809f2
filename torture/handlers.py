"""Faults of users' code: a handler that raises anything, never returns, or blocks the whole process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

from torture.figures import Figure
from torture.peers import TEXT, ask, close_code, connected, frame, many, read_frame
from torture.polite import polite
from torture.server import Target

RAISED = (
    "ValueError",
    "RecursionError",
    "MemoryError",
    "GeneratorExit",
    "StopIteration",
    "StopAsyncIteration",
    "CancelledError",
    "TimeoutError",
    "OddError",
    "ExceptionGroup",
)
BLOCKED = 5.0


def raising(target: Target) -> Iterator[Figure]:
    """A handler raises anything, answers nonsense, or never returns."""
    with target.start() as server, many(20, lambda: connected(server.port)) as others, polite(server.port) as client:
        wrong = []
        for what in [f"!raise {name}" for name in RAISED] + ["!nonsense"]:
            with connected(server.port) as one:
                one.sendall(frame(TEXT, what.encode()))
                if close_code(one) != 1011:
                    wrong.append(what)
        yield Figure("handlers' faults that were not closed with 1011", len(wrong), "", 0)
        with many(50, lambda: connected(server.port)) as waiting:
            for one in waiting:
                one.sendall(frame(TEXT, b"!never"))
            yield Figure("others' answers lost", sum(ask(one, "yes") != "yes" for one in others), "", 0)
        said = server.log
        named = [name for name in RAISED if name in said]
        yield Figure("exceptions that the log does not name", len(RAISED) - len(named), "", 0)
        yield Figure("exits", float(not server.alive), "", 0)
        yield from client.figures(50)


def blocking(target: Target) -> Iterator[Figure]:
    """A handler blocks for 5 seconds; the deadlines are shorter."""
    options = ["--ping-interval=1", "--ping-timeout=1", "--handshake-timeout=2", "--close-timeout=1"]
    with target.start(*options) as server, many(20, lambda: connected(server.port)) as others:
        with connected(server.port) as blocker:
            blocker.sendall(frame(TEXT, f"!block {BLOCKED:g}".encode()))
            time.sleep(0.5)
            newcomers: list[bool] = []
            coming = threading.Thread(target=lambda: newcomers.append(_served(server.port)))
            coming.start()
            lost = 0
            for one in others:
                try:
                    one.sendall(frame(TEXT, b"yes"))
                except OSError:
                    lost += 1
            for one in others:
                lost += _answer(one) != b"yes"
            coming.join()
        yield Figure("others lost", lost, "", 0)
        yield Figure("newcomers lost", float(newcomers != [True]), "", 0)
        yield Figure("stalls that the log does not name", float("!block" not in server.log), "", 0)


def _served(port: int) -> bool:
    try:
        with connected(port) as one:
            return ask(one, "hello") == "hello"
    except OSError:
        return False


def _answer(one: socket.socket) -> bytes:
    """Return the next message; the server's pings are left unanswered, as others may come first."""
    try:
        while True:
            opcode, payload = read_frame(one)
            if opcode == TEXT:
                return payload
    except OSError:
        return b""
