"""A flooder in a process of its own, so that a polite client is not slower for it. Knows no goal.

It runs as ``python -m torture.flooder PORT KIND PEERS SECONDS`` and prints JSON in the end.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from torture.peers import CONTINUATION, PATIENCE, PING, TEXT, connected, dial, frame, handshake, reset, trusting
from torture.processes import running

#: How often a frame is repeated in one write: so many more than one read of the server brings.
_TIMES = 20_000
#: What each kind sends first, and what it sends again and again.
FLOODS = {
    "pings": (b"", frame(PING) * _TIMES),
    "empty fragments": (frame(TEXT, fin=False), frame(CONTINUATION, fin=False) * _TIMES),
    "one-byte messages": (b"", frame(TEXT, b"x") * _TIMES),
    "messages in two fragments": (b"", (frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"x")) * (_TIMES // 2)),
    "one-byte TLS records": (b"", b""),
}
KINDS = (*FLOODS, "handshakes", "TLS handshakes")
#: How many one-byte TLS records are encrypted at once: about what one read of the server brings.
_RECORDS = 2_000


class _Plain:
    """A flooding peer."""

    def __init__(self, port: int, kind: str) -> None:
        self.socket = connected(port)
        first, self._block = FLOODS[kind]
        self._rest = memoryview(first + self._block)

    def more(self) -> memoryview:
        """Return what to send next."""
        self._rest = self._rest or memoryview(self._block)
        return self._rest

    def sent(self, size: int) -> None:
        """Note that so much of it was sent."""
        self._rest = self._rest[size:]


class _Records(_Plain):
    """A peer that floods with TLS records of one-byte messages. A TLS socket would make a system call for each."""

    def __init__(self, port: int, kind: str) -> None:
        self.socket = dial(port)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = trusting().wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._rest = memoryview(b"")
        while True:
            with suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                break
            self.socket.sendall(self._outgoing.read())
            self._incoming.write(self.socket.recv(1 << 16))
        self._tls.write(handshake())
        self.socket.sendall(self._outgoing.read())

    def more(self) -> memoryview:
        if not self._rest:
            message = frame(TEXT, b"x")
            for _ in range(_RECORDS):
                self._tls.write(message)
            self._rest = memoryview(self._outgoing.read())
        return self._rest


def flood(port: int, kind: str, peers: int, seconds: float) -> dict[str, Any]:
    """Flood.

    :returns: how many bytes the server took; and after how many seconds it had closed all peers, None for never.
    """
    if "handshakes" in kind:
        return _handshakes(port, seconds, trusting() if "TLS" in kind else None)
    by_fd: dict[int, _Plain] = {}
    poller = select.poll()
    for _ in range(peers):
        peer = (_Records if "TLS" in kind else _Plain)(port, kind)
        by_fd[peer.socket.fileno()] = peer
        peer.socket.setblocking(False)
        poller.register(peer.socket, select.POLLIN | select.POLLOUT)
    start = time.monotonic()
    taken = 0
    closed = None
    while by_fd and time.monotonic() < start + seconds:
        for fd, events in poller.poll(100):
            peer = by_fd[fd]
            try:
                if events & ~select.POLLOUT and not peer.socket.recv(1 << 18):
                    raise ConnectionResetError
                if events & select.POLLOUT:
                    size = peer.socket.send(peer.more())
                    peer.sent(size)
                    taken += size
            except BlockingIOError:
                pass
            except OSError:
                poller.unregister(fd)
                del by_fd[fd]
                closed = time.monotonic() - start
    return {"bytes": taken, "closed": None if by_fd else closed, "seconds": time.monotonic() - start}


def _handshakes(port: int, seconds: float, context: ssl.SSLContext | None) -> dict[str, Any]:
    """Make connections and leave, as fast as possible."""
    start = time.monotonic()
    made = 0
    while time.monotonic() < start + seconds:
        with suppress(OSError):
            one: socket.socket = dial(port, context)
            one.sendall(handshake())
            one.recv(1)
            reset(one)
            made += 1
    return {"made": made, "closed": None, "seconds": time.monotonic() - start}


def run(port: int, kind: str, peers: int, seconds: float) -> dict[str, Any]:
    """Call `flood` in a process of its own; return what it returns."""
    command = [sys.executable, "-m", "torture.flooder", str(port), kind, str(peers), str(seconds)]
    with running(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        found: dict[str, Any] = json.loads(process.communicate(timeout=seconds + PATIENCE)[0])
        return found


if __name__ == "__main__":
    print(json.dumps(flood(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))
