"""Raw clients, as attackers have them: sockets, handshakes and frames as bytes. Knows no server and no goal."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

#: Seconds that anything may take which is not measured.
PATIENCE = 30.0

_KEY = bytes(4)


def handshake(path: str = "/", deflate: bool = False) -> bytes:
    """Return the request of an opening handshake (RFC 6455 §4.1)."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        + ("Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else "")
        + "\r\n"
    ).encode()


def head(opcode: int, length: int, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """Return the head of a client's frame, with a masking key of zeros: the payload follows as it is."""
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    if length < 126:
        size = bytes((0x80 | length,))
    elif length < 1 << 16:
        size = b"\xfe" + length.to_bytes(2, "big")
    else:
        size = b"\xff" + length.to_bytes(8, "big")
    return bytes((first,)) + size + _KEY


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    """Return a client's frame."""
    return head(opcode, len(payload), fin=fin, rsv1=rsv1) + payload


def trusting() -> ssl.SSLContext:
    """Return a context for clients that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def dial(port: int, context: ssl.SSLContext | None = None, receive: int = 0) -> socket.socket:
    """Connect, and make the TLS handshake if there is a context.

    :param receive: the size of the receive buffer; 0: the system's default.
    """
    made = socket.socket()
    made.settimeout(PATIENCE)
    if receive:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    try:
        made.connect(("127.0.0.1", port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made if context is None else context.wrap_socket(made, server_hostname="localhost")
    except BaseException:
        made.close()
        raise


def connected(
    port: int, context: ssl.SSLContext | None = None, *, deflate: bool = False, receive: int = 0, path: str = "/"
) -> socket.socket:
    """Connect, and make the opening handshake.

    :raises OSError: when the server refuses.
    """
    made = dial(port, context, receive)
    try:
        made.sendall(handshake(path, deflate))
        read_answer(made)
    except BaseException:
        made.close()
        raise
    return made


def read_answer(made: socket.socket) -> None:
    """Read the answer to an opening handshake.

    :raises OSError: when the server refuses.
    """
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += _exactly(made, _rest_of_head(made, answer))
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise OSError(f"refused: {answer[:40]!r}")


def _rest_of_head(made: socket.socket, begun: bytes) -> int:
    """Return how many bytes may be read of a head: frames that follow it are left, and nothing is read here."""
    if isinstance(made, ssl.SSLSocket):
        # It can't look without reading.
        return 1
    seen = made.recv(4_096, socket.MSG_PEEK)
    end = (begun + seen).find(b"\r\n\r\n")
    return end + 4 - len(begun) if end >= 0 else max(1, len(seen))


def read_frame(made: socket.socket) -> tuple[int, bytes]:
    """Read one frame of the server; return its opcode and its payload.

    :raises OSError: when the connection ends first.
    """
    first, length = _exactly(made, 2)
    if length == 126:
        (length,) = struct.unpack(">H", _exactly(made, 2))
    elif length == 127:
        (length,) = struct.unpack(">Q", _exactly(made, 8))
    return first & 0x0F, _exactly(made, length)


def ask(made: socket.socket, text: str) -> str:
    """Send a text, and return the answer."""
    made.sendall(frame(TEXT, text.encode()))
    return read_frame(made)[1].decode()


def close_code(made: socket.socket) -> int:
    """Read until the server's Close.

    :returns: its code; 0 when the connection ends without a Close, 1005 for one without a code.
    """
    try:
        while True:
            opcode, payload = read_frame(made)
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big") if payload else 1005
    except OSError:
        return 0


def reset(made: socket.socket) -> None:
    """Close with a RST."""
    with suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    made.close()


@contextmanager
def many(count: int, make: Callable[[], socket.socket]) -> Iterator[list[socket.socket]]:
    """Make so many sockets, and close them in the end."""
    made: list[socket.socket] = []
    try:
        made.extend(make() for _ in range(count))
        yield made
    finally:
        for one in made:
            with suppress(OSError):
                one.close()


def gone(sockets: Sequence[socket.socket], deadline: float) -> float:
    """Wait until the server has closed all these sockets; return when the last one was.

    What the server has sent is thrown away. A socket that is open at the deadline counts as closed one second later.

    :param deadline: by `time.monotonic`.
    """
    poller = select.poll()
    by_fd = {one.fileno(): one for one in sockets}
    for fd, one in by_fd.items():
        one.setblocking(False)
        poller.register(fd, select.POLLIN)
    last = time.monotonic()
    while by_fd:
        left = deadline - time.monotonic()
        if left <= 0:
            return deadline + 1
        for fd, _ in poller.poll(left * 1e3):
            try:
                open_still = bool(by_fd[fd].recv(1 << 16))
            except (BlockingIOError, ssl.SSLWantReadError):
                open_still = True
            except OSError:
                open_still = False
            if not open_still:
                poller.unregister(fd)
                del by_fd[fd]
                last = time.monotonic()
    return last


def _exactly(made: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        some = made.recv(size - len(data))
        if not some:
            raise ConnectionResetError("the server has closed the connection")
        data += some
    return bytes(data)
