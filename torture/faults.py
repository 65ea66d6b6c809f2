"""Faults of the machine: no descriptors, a full disk, a clock that jumps, a process that stands still."""

from __future__ import annotations

import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from benchmarks.building import UnavailableError
from torture.figures import Figure
from torture.peers import PING, PONG, TEXT, ask, close_code, connected, dial, frame, many, read_frame
from torture.polite import polite
from torture.server import Server, Target

#: Connections that must outlive everything.
PEERS = 50


def no_descriptors(target: Target) -> Iterator[Figure]:
    """The server may open 100 descriptors, and 300 clients come."""
    with (
        target.start(command=["prlimit", "--nofile=100:100"]) as server,
        many(PEERS // 2, lambda: connected(server.port)) as old,
        polite(server.port) as client,
    ):
        cpu, start = server.cpu, time.monotonic()
        with many(300, lambda: dial(server.port)):
            time.sleep(3)
            busy = (server.cpu - cpu) / (time.monotonic() - start)
            yield Figure("old connections lost", sum(_is_lost(one) for one in old), "", 0)
        begin = time.monotonic()
        yield Figure("served again after", _until_served(server, begin) - begin, "s", 1)
        yield Figure("processor time meanwhile", busy * 100, "%", 30)
        yield Figure("log", len(server.log), "bytes", 10_000)
        yield Figure("exits", float(not server.alive), "", 0)
        yield from client.figures(50)


def full_disk(target: Target) -> Iterator[Figure]:
    """The log can't grow: a limit on the size of files fails like a full disk."""
    with (
        target.start("--access-log", command=["prlimit", "--fsize=4096:4096"]) as server,
        many(PEERS, lambda: connected(server.port)) as old,
        polite(server.port) as client,
    ):
        for _ in range(300):
            with connected(server.port) as one:
                one.sendall(frame(TEXT, b"!raise ValueError"))
                close_code(one)
        yield Figure("log", len(server.log), "bytes", 4_096)
        yield Figure("old connections lost", sum(_is_lost(one) for one in old), "", 0)
        yield Figure("exits", float(not server.alive), "", 0)
        yield from client.figures(50)


def clock(target: Target) -> Iterator[Figure]:
    """The clock of the machine jumps a day on, and two days back, by libfaketime."""
    library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
    if library is None:
        raise UnavailableError("it needs libfaketime; on Debian: apt install faketime")
    with tempfile.TemporaryDirectory() as name:
        offset = Path(name) / "offset"
        offset.write_text("+0", encoding="ascii")
        environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            # The kernel's other clocks don't jump.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        with (
            target.start("--ping-interval=1", "--ping-timeout=2", environment=environment) as server,
            polite(server.port) as client,
        ):
            for jump in ("+1d", "-1d", "+0"):
                offset.write_text(jump, encoding="ascii")
                time.sleep(1.5)
            yield Figure("exits", float(not server.alive), "", 0)
            # libfaketime alone makes every look at a clock wait for a lock.
            yield from client.figures(1_000)


def stopped(seconds: float) -> Callable[[Target], Iterator[Figure]]:
    """Return the test in which the server's process stands still for a while."""

    def test(target: Target) -> Iterator[Figure]:
        with (
            target.start("--ping-interval=1", "--ping-timeout=2") as server,
            many(PEERS, lambda: connected(server.port)) as old,
        ):
            server.signal(signal.SIGSTOP)
            time.sleep(seconds)
            server.signal(signal.SIGCONT)
            begin = time.monotonic()
            lost = sum(_is_lost(one) for one in old)
            yield Figure("connections lost", lost, "", 0)
            yield Figure("all are answered after", time.monotonic() - begin, "s", 1)
            yield Figure("exits", float(not server.alive), "", 0)

    return test


def _is_lost(one: socket.socket) -> bool:
    """Ask, as pings of the server may come before the answer."""
    try:
        one.sendall(frame(TEXT, b"still there?"))
        while True:
            opcode, payload = read_frame(one)
            if opcode == PING:
                one.sendall(frame(PONG, payload))
            elif opcode == TEXT:
                return payload != b"still there?"
            else:
                return True
    except OSError:
        return True


def _until_served(server: Server, begin: float) -> float:
    """Return when a new client is served."""
    while time.monotonic() < begin + 10:
        with suppress(OSError), connected(server.port) as one:
            if ask(one, "hello") == "hello":
                return time.monotonic()
        time.sleep(0.01)
    return time.monotonic()
