"""A new process takes over under load, again and again. Yields what was lost, and how long the longest pause was."""

from __future__ import annotations

import select
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Thread

from torture.figures import Figure
from torture.peers import PING, TEXT, connected, frame, many, read_frame
from torture.server import Target

PEERS = 200
#: Seconds between two processes; and within which a peer must have its answer, in milliseconds.
BETWEEN, GOAL = 0.5, 200.0

#: It counts a connection's messages, and its connections can move.
HANDLER = """
def init(options):
    return 0

def handle(message, state):
    return ("reply", str(state), state + 1) if message[0] == "text" else ("noreply", state)

def freeze(state):
    return str(state).encode()

def thaw(data, options):
    return int(data)
"""


class _Load:
    """Peers that ask again as soon as they have an answer, in a thread of its own."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = {one.fileno(): one for one in sockets}
        self._answered = dict.fromkeys(self._sockets, 0)
        self._asked_at: dict[int, float] = {}
        self._stop = Event()
        self._thread = Thread(target=self._run)
        self.lost = self.wrong = self.answers = 0
        #: The longest time until an answer, in seconds.
        self.longest = 0.0

    def _ask(self, fd: int) -> None:
        self._asked_at[fd] = time.monotonic()
        with suppress(OSError):  # the next read says so
            self._sockets[fd].sendall(frame(TEXT, b"x"))

    def _run(self) -> None:
        poller = select.poll()
        for fd in self._sockets:
            poller.register(fd, select.POLLIN)
            self._ask(fd)
        while not self._stop.is_set():
            for fd, _ in poller.poll(100):
                try:
                    opcode, payload = read_frame(self._sockets[fd])
                    if opcode == PING:
                        continue
                    answer = int(payload)
                except (OSError, ValueError):
                    self.lost += 1
                    poller.unregister(fd)
                    continue
                self.longest = max(self.longest, time.monotonic() - self._asked_at[fd])
                self.wrong += answer != self._answered[fd]
                self._answered[fd] += 1
                self.answers += 1
                self._ask(fd)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the question that is being asked."""
        self._stop.set()
        self._thread.join()


def takeover(times: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the test."""

    def test(target: Target) -> Iterator[Figure]:
        with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
            handler = Path(directory, "counting.py")
            handler.write_text(HANDLER, encoding="ascii")
            option = f"--takeover={directory}/takeover"
            server = stack.enter_context(target.start(option, handler=str(handler)))
            port = server.port
            sockets = stack.enter_context(many(PEERS, lambda: connected(port)))
            load = _Load(sockets)
            load.start()
            failed = 0
            try:
                for _ in range(times):
                    time.sleep(BETWEEN)
                    old = server
                    server = stack.enter_context(target.start(option, handler=str(handler)))
                    failed += old.process.wait(30) != 0
                time.sleep(BETWEEN)
            finally:
                load.stop()
            yield Figure("takeovers", times)
            yield Figure("answers", load.answers)
            yield Figure("connections lost", load.lost, "", 0)
            yield Figure("answers lost, doubled or out of order", load.wrong, "", 0)
            yield Figure("exits with another status than 0", failed, "", 0)
            yield Figure("the longest time until an answer", load.longest * 1e3, "ms", GOAL)

    return test
