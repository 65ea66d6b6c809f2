"""What protocol modules and handlers may return or raise: values only, and no import of ours but the request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from wshost.request import TOKEN, Request

_FIELD_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?|")


class ConfigurationError(ValueError):
    """Something in the options is wrong: one line that says what and where. The server does not start."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Let another module of the chain drive the connection from here on."""

    #: The other module's name in the chain.
    name: str
    #: The bytes that were received but not read; they are the first the other module gets.
    unread: bytes = b""
    #: What `IContext.request` shall be for the other module.
    request: Request | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """Send these last bytes, then close properly: what is buffered leaves first, within a deadline."""

    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Stop:
    """Abort the connection at once; what is buffered is lost."""

    #: For `handle_connection_close` and the log.
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """What was asked for will not happen: it is unknown to the module, or it comes at the wrong time."""


#: The one instance anybody needs.
REFUSED = Refused()

Result: TypeAlias = "bytes | Switch | Close | Stop"
Results: TypeAlias = "Result | Sequence[Result] | None"
"""Bytes mean "reply". Of a sequence each is done in order, and nothing after a `Switch`, `Close` or `Stop`."""


def check_headers(headers: Mapping[str, str]) -> None:
    """Make sure that these response headers can't break out of their lines.

    :raises ValueError: for a name that is no token, or a value with control or non-ASCII characters (RFC 9110 §5.5).
    """
    for name, value in headers.items():
        if not isinstance(name, str) or not TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if not isinstance(value, str) or not _FIELD_VALUE.fullmatch(value):
            raise ValueError(f"{value!r} is not a value for the header {name}")


class Reject(Exception):
    """Raised by a handler's `init`: refuse the connection with an HTTP response.

    :param status: the HTTP status, 300 to 599.
    :param body: the response's body; a str leaves as UTF-8 ``text/plain``.
    :param headers: more response headers.
    :raises ValueError: when one of them can't be sent.
    """

    def __init__(self, status: int = 403, body: str | bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        if not isinstance(status, int) or not 300 <= status <= 599:
            raise ValueError(f"{status!r} is not a status to reject with: 300 to 599")
        self.status = status
        self.headers = dict(headers or {})
        check_headers(self.headers)
        if isinstance(body, str):
            if "content-type" not in map(str.lower, self.headers):
                self.headers["Content-Type"] = "text/plain; charset=utf-8"
            body = body.encode()
        elif not isinstance(body, bytes | bytearray | memoryview):
            raise ValueError(f"{body!r} is not a body: a str or bytes")
        self.body = bytes(body)
        super().__init__(status)


@dataclass(frozen=True, slots=True)
class Accept:
    """Returned by a handler's `init` instead of a bare state, to say more about the acceptance.

    :raises ValueError: when a header can't be sent.
    """

    state: Any
    #: One of the subprotocols that the client offered; None leaves the choice to `--subprotocol`.
    subprotocol: str | None = None
    #: More headers for the 101 response.
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_headers(self.headers)
