"""The values that protocol modules and handlers return or raise. Each is checked on creation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, TypeAlias

from wshost.exact import number, octets, text
from wshost.request import TOKEN, Request

_FIELD_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?|")


class ConfigurationError(ValueError):
    """An option is wrong, so the server does not start. The message says in one line what is wrong, and where."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Let another module of the chain drive the connection from now on.

    :raises TypeError: when `unread` is not bytes.
    """

    #: The other module's name in the chain.
    name: str
    #: Bytes that were received but not read. The other module gets them first.
    unread: bytes = b""
    #: The `IContext.request` that the other module sees.
    request: Request | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "unread", octets(self.unread))


@dataclass(frozen=True, slots=True)
class Close:
    """Send pending output, then these last bytes, then close properly. There is a deadline (`close_timeout`) for it.

    :raises TypeError: when `data` is not bytes.
    """

    data: bytes = b""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", octets(self.data))


@dataclass(frozen=True, slots=True)
class Stop:
    """Abort the connection at once; pending output is lost.

    :raises TypeError: when `reason` is not a str.
    """

    #: Why, for `handle_connection_close` and the log.
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", text(self.reason))


@dataclass(frozen=True, slots=True)
class Refused:
    """A module returns this for an action that it does not know, or can't do now. See `REFUSED`."""


#: The only instance that is needed.
REFUSED = Refused()

Result: TypeAlias = "bytes | Switch | Close | Stop"
Results: TypeAlias = "Result | Sequence[Result] | None"
"""What a `handle_` method returns: bytes to send, a transition, or several in order, up to the first transition."""


class Sent(IntEnum):
    """What became of a message that `wshost.Ref.send` was given. Only `DROPPED` is false."""

    #: It will not be sent: the connection is closing or gone, or too much output waits already.
    DROPPED = 0
    #: It leaves at once, or at the end of the reactor's turn.
    ACCEPTED = 1
    #: It will be sent, but other output waits before it: the peer is slow.
    WAITING = 2


class Outcome(Enum):
    """What is known of a message that ``wshost.Ref.send(..., confirm=True)`` was given. Only `WRITTEN` is true."""

    #: The operating system of the connection's machine has it, and all output before it.
    WRITTEN = "written"
    #: The connection is closing or gone, or was before the message was written.
    GONE = "gone"
    #: It was dropped, as too much output waits for this peer.
    OVERFLOW = "overflow"
    #: It could not be sent to the process that has the connection.
    UNREACHABLE = "unreachable"
    #: Nothing is known: no answer came in time. It may have been written, or may be later.
    TIMEOUT = "timeout"

    def __bool__(self) -> bool:
        return self is Outcome.WRITTEN


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return these response headers as a dict, after checking that each fits in one line of the response.

    :raises TypeError: when they are not a mapping.
    :raises ValueError: for a name that is no token, or a value with control or non-ASCII characters (RFC 9110 §5.5).
    """
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers are a mapping of names to values, not {type(headers).__name__}")
    checked = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if not isinstance(value, str) or not _FIELD_VALUE.fullmatch(value):
            raise ValueError(f"{value!r} is not a value for the header {name}")
        checked[text(name)] = text(value)
    return checked


class Reject(Exception):
    """Raised by a handler's `init` to reject the connection with an HTTP response.

    :param status: the HTTP status, 300 to 599.
    :param body: the response's body; a str is sent as UTF-8, ``text/plain`` unless the headers say otherwise.
    :param headers: more response headers.
    :raises TypeError: when the headers are not a mapping.
    :raises ValueError: when a header can't be sent, or for another status or body.
    """

    def __init__(self, status: int = 403, body: str | bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        if not isinstance(status, int) or not 300 <= number(status) <= 599:
            raise ValueError(f"{status!r} is not a status to reject with: 300 to 599")
        self.status = number(status)
        self.headers = {} if headers is None else check_headers(headers)
        if isinstance(body, str):
            if "content-type" not in map(str.lower, self.headers):
                self.headers["Content-Type"] = "text/plain; charset=utf-8"
            body = text(body).encode()
        elif not isinstance(body, bytes | bytearray | memoryview):
            raise ValueError(f"{body!r} is not a body: a str or bytes")
        self.body = octets(body)
        super().__init__(self.status)


@dataclass(frozen=True, slots=True)
class Accept:
    """Returned by a handler's `init` instead of a bare state, to choose a subprotocol or to send more headers.

    :raises TypeError: when the headers are not a mapping.
    :raises ValueError: when a header can't be sent.
    """

    state: Any
    #: One of the subprotocols that the client offered; None leaves the choice to `--subprotocol`.
    subprotocol: str | None = None
    #: More headers for the 101 response.
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.subprotocol, str):
            object.__setattr__(self, "subprotocol", text(self.subprotocol))
        none = type(self.headers) is dict and not self.headers
        object.__setattr__(self, "headers", {} if none else check_headers(self.headers))
