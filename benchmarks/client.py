"""Opens the load's connections: TCP, TLS and the handshake. Knows nothing of what is sent later."""

from __future__ import annotations

import itertools
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.frames import Inflater, Parser, WrongAnswerError

#: The key of RFC 6455 §1.3, and a server's answer to it.
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

#: The same offer as browsers make.
_DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"

#: On Linux: the port is chosen when connecting, so that each address has all ports for each server.
_IP_BIND_ADDRESS_NO_PORT = 24

#: How many connections are made at a time: no more than the smallest backlog of the servers.
_AT_ONCE = 32

#: Clients come from several addresses, as one address has fewer ports than some cells have connections.
_sources = itertools.cycle([f"127.0.0.{number}" for number in range(2, 18)])


@dataclass(frozen=True)
class Target:
    """A server's port, and whether it uses TLS and compression."""

    port: int
    #: The client's context; None without TLS.
    tls: ssl.SSLContext | None = None
    deflate: bool = False


@dataclass(slots=True)
class Connection:
    """One WebSocket connection after its handshake, non-blocking."""

    socket: socket.socket
    #: The client's window, if permessage-deflate was agreed on; else None.
    window_bits: int | None
    parser: Parser
    #: The socket's methods, looked up once.
    send: Callable[[bytes | memoryview], int] = field(init=False)
    recv_into: Callable[[bytearray | memoryview], int] = field(init=False)
    #: The next attributes belong to `load.py`.
    variant: int = 0
    filled: int = 0
    started: int = 0
    unsent: memoryview | None = None
    parsing: bool = False
    #: Received bytes, counted while parsing.
    received: int = 0
    parsed: list[bytes] = field(default_factory=list)
    buffer: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.send = self.socket.send
        self.recv_into = self.socket.recv_into


def request(target: Target) -> bytes:
    """Return the request of an opening handshake."""
    return (
        "GET / HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{target.port}\r\n"
        "User-Agent: benchmark\r\n"
        "Upgrade: websocket\r\n"
        "Connection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {_KEY}\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        f"{_DEFLATE if target.deflate else ''}\r\n"
    ).encode()


def agreed(head: bytes, *, deflate: bool) -> tuple[int | None, Parser]:
    """Check the head of a server's answer.

    :returns: the client's window bits, None without compression; and the parser for the server's frames.
    :raises WrongAnswerError: when the server does not accept the connection as it should.
    """
    if not head.startswith(b"HTTP/1.1 101 ") or _ACCEPT not in head:
        raise WrongAnswerError(f"the handshake was answered {head[:200]!r}")
    extensions = re.search(rb"^sec-websocket-extensions:(.*)\r$", head, re.IGNORECASE | re.MULTILINE)
    if not deflate:
        if extensions:
            raise WrongAnswerError(f"nobody offered {extensions[1]!r}")
        return None, Parser()
    if not extensions or b"permessage-deflate" not in extensions[1]:
        raise WrongAnswerError("the server does not agree to permessage-deflate")
    said = extensions[1].decode()
    bits = {side: int(value) for side, value in re.findall(r'(client|server)_max_window_bits="?(\d+)', said)}
    inflater = Inflater(bits.get("server", 15), takeover="server_no_context_takeover" not in said)
    return bits.get("client", 15), Parser(inflater)


def tcp(target: Target) -> socket.socket:
    """Connect, TLS included. The socket is blocking, with a timeout."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(20.0)
    made.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    made.bind((next(_sources), 0))
    made.connect(("127.0.0.1", target.port))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if target.tls:
        made = target.tls.wrap_socket(made)
    return made


def read_head(made: socket.socket) -> bytes:
    """Return the head of the server's answer.

    :raises WrongAnswerError: when the connection ends before, or more bytes follow.
    """
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = made.recv(4096)
        if not data:
            raise WrongAnswerError(f"the handshake was answered {head!r}")
        head += data
    return head


def handshaken(made: socket.socket, target: Target) -> Connection:
    """Read the answer to a handshake, and return the connection. The request must have been sent on the socket."""
    window_bits, parser = agreed(read_head(made), deflate=target.deflate)
    made.setblocking(False)
    return Connection(made, window_bits, parser)


def open_one(target: Target) -> Connection:
    """Open one connection."""
    made = tcp(target)
    made.sendall(request(target))
    return handshaken(made, target)


def open_many(target: Target, count: int) -> list[Connection]:
    """Open connections, a few at a time."""
    opened: list[Connection] = []
    head = request(target)
    while len(opened) < count:
        sockets = [tcp(target) for _ in range(min(_AT_ONCE, count - len(opened)))]
        for made in sockets:
            made.sendall(head)
        opened += [handshaken(made, target) for made in sockets]
    return opened


def close_all(connections: Sequence[Connection]) -> None:
    """Close connections without a closing handshake, as most clients do."""
    for connection in connections:
        connection.socket.close()
