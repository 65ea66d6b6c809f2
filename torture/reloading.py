"""SIGHUP each second under load, with broken files among the good ones. Yields what was lost, doubled or not said.

Knows files and messages, but not how the server reads them again.
"""

from __future__ import annotations

import select
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from benchmarks.turns import certificate
from torture.figures import Figure
from torture.peers import PING, PONG, TEXT, connected, frame, many, read_frame, trusting
from torture.polite import polite
from torture.server import Server, Target

PEERS = 20
#: Messages of a peer that are not answered yet, at most.
OPEN = 8
#: Seconds between two signals, and until the last answers must have come.
INTERVAL, SOON = 1.0, 5.0

#: It counts a connection's messages, and says which version of it answers. What is no number is an echo.
HANDLER = """
def init(options):
    return 0

def handle(message, state):
    if message[0] != "text":
        return ("noreply", state)
    if not message[1].isdecimal():
        return ("reply", message[1], state)
    return ("reply", f"{{message[1]}} {{state}} {version}", state + 1)
"""

#: What happens to the files before each signal, in turns: the file, how it is broken, and what the log must say of it.
BREAKS = (
    ("tortured.py", "", "reloaded"),
    ("certificate.pem", "-----BEGIN CERTIFICATE-----\nbroken\n", "certificate.pem"),
    ("tortured.py", "def handle(:\n", "SyntaxError"),
    ("tortured.py", "raise RuntimeError('broken on purpose')\n", "broken on purpose"),
)


class _Peer:
    """Sends numbers, and checks the answers: each once, in order, counted by the handler without a gap."""

    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        self.asked = self.answered = 0
        self.wrong = 0
        #: Why it was lost; empty while it is not.
        self.lost = ""
        self.version = 0

    def ask(self) -> None:
        with suppress(OSError):  # the next read says so
            while self.asked < self.answered + OPEN:
                self.socket.sendall(frame(TEXT, b"%d" % self.asked))
                self.asked += 1

    def read(self) -> None:
        try:
            opcode, payload = read_frame(self.socket)
            if opcode == PING:
                self.socket.sendall(frame(PONG, payload))
                return
            number, count, version = map(int, payload.split())
        except (OSError, ValueError) as error:
            self.lost = f"{type(error).__name__}: {error}"
            return
        self.wrong += number != self.answered or count != self.answered or version < self.version
        self.answered += 1
        self.version = version


def sighup(seconds: float) -> Callable[[Target], Iterator[Figure]]:
    """Return the test."""

    def test(target: Target) -> Iterator[Figure]:
        with tempfile.TemporaryDirectory() as directory:
            files = _Files(Path(directory))
            options = [f"--tls-cert={directory}/certificate.pem", "--ping-interval=1", "--ping-timeout=2"]
            handler = f"{directory}/tortured.py"
            context = trusting()
            with (
                target.start(*options, handler=handler) as server,
                many(PEERS, lambda: connected(server.port, context)) as sockets,
                polite(server.port, "newcomers", tls=True) as client,
            ):
                peers = [_Peer(one) for one in sockets]
                unsaid = signals = 0
                start = time.monotonic()
                while time.monotonic() < start + seconds:
                    said = len(server.log)
                    due = files.change(signals)
                    signals += 1
                    server.signal(signal.SIGHUP)
                    _talk(peers, time.monotonic() + INTERVAL)
                    unsaid += due not in server.log[said:]
                # In the end the files are good.
                files.change(0)
                server.signal(signal.SIGHUP)
                _talk(peers, time.monotonic() + INTERVAL)
                _talk(peers, time.monotonic() + SOON, ask=False)
                yield Figure("signals", signals + 1)
                yield Figure("answers", sum(one.answered for one in peers))
                yield from _figures(server, peers, files.version, unsaid)
                yield from client.figures(100, "newcomers")

    return test


def _figures(server: Server, peers: list[_Peer], version: int, unsaid: int) -> Iterator[Figure]:
    lost = [one.lost for one in peers if one.lost]
    yield Figure("connections lost", len(lost), "", 0)
    yield Figure("messages lost", sum(one.asked - one.answered for one in peers), "", 0)
    yield Figure("messages doubled or out of order", sum(one.wrong for one in peers), "", 0)
    yield Figure("connections without the newest code", sum(one.version != version for one in peers), "", 0)
    yield Figure("reloads that the log does not tell", unsaid, "", 0)
    yield Figure("exits", float(not server.alive), "", 0)
    if lost:
        raise RuntimeError(lost[0])


class _Files:
    """The files that the server reads again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.version = 0
        self.change(0)

    def change(self, number: int) -> str:
        """Write all files anew, one of them broken; return what the log must say of it."""
        self.version += 1
        whole = {
            "tortured.py": HANDLER.format(version=self.version),
            "certificate.pem": Path(certificate()[0]).read_text(encoding="ascii"),
        }
        name, broken, due = BREAKS[number % len(BREAKS)]
        for one, text in whole.items():
            (self._directory / one).write_text(broken or text if one == name else text, encoding="ascii")
        return due


def _talk(peers: list[_Peer], deadline: float, *, ask: bool = True) -> None:
    """Ask and read until the deadline; without asking, until all is answered."""
    poller = select.poll()
    by_fd = {one.socket.fileno(): one for one in peers if not one.lost}
    for fd in by_fd:
        poller.register(fd, select.POLLIN)
    while by_fd and time.monotonic() < deadline:
        if ask:
            for peer in by_fd.values():
                peer.ask()
        elif all(one.answered == one.asked for one in by_fd.values()):
            return
        for fd, _ in poller.poll(max(0.0, deadline - time.monotonic()) * 1e3):
            peer = by_fd[fd]
            peer.read()
            while not peer.lost and _waits(peer.socket):
                peer.read()
            if peer.lost:
                poller.unregister(fd)
                del by_fd[fd]
        time.sleep(0.002)


def _waits(made: socket.socket) -> bool:
    """Say whether TLS has decrypted more than was read."""
    pending: int = getattr(made, "pending", int)()
    return pending > 0
