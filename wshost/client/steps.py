"""What a conversation asks for: a connection, bytes to write, bytes to read. Knows no socket and no broker.

A conversation is a generator of steps. It is sent the bytes that were read, or b""; what a step raises is thrown into
it. A step that is not done by its time raises `TimeoutError`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")


class UndeliveredError(ConnectionError):
    """The broker has not taken what was to be sent, as far as is known. The text says in one line why."""


class Connect(NamedTuple):
    """Close the last connection, and open one."""

    until: float
    host: str
    port: int
    #: It begins with TLS.
    tls: bool


class StartTLS(NamedTuple):
    """Speak TLS from now on; the certificate must be for this host."""

    until: float
    host: str


class Write(NamedTuple):
    """Write these bytes."""

    until: float
    data: bytes


class Read(NamedTuple):
    """Read some bytes: b"" at the end of the connection."""

    until: float


class Pause(NamedTuple):
    """Wait for so many seconds."""

    seconds: float


Step: TypeAlias = Connect | StartTLS | Write | Read | Pause
#: Steps that end in a result. Times are those of `time.monotonic`.
Steps: TypeAlias = Generator[Step, bytes, T]
