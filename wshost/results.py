"""What protocol modules and handlers may return or raise: values only, checked where they are made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from wshost.exact import number, octets, text
from wshost.request import TOKEN, Request

_FIELD_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?|")


class ConfigurationError(ValueError):
    """Something in the options is wrong: one line that says what and where. The server does not start."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Let another module of the chain drive the connection from here on.

    :raises TypeError: when what is unread is no bytes.
    """

    #: The other module's name in the chain.
    name: str
    #: The bytes that were received but not read; they are the first the other module gets.
    unread: bytes = b""
    #: What `IContext.request` shall be for the other module.
    request: Request | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "unread", octets(self.unread))


@dataclass(frozen=True, slots=True)
class Close:
    """Send these last bytes, then close properly: what is buffered leaves first, within a deadline.

    :raises TypeError: when they are no bytes.
    """

    data: bytes = b""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", octets(self.data))


@dataclass(frozen=True, slots=True)
class Stop:
    """Abort the connection at once; what is buffered is lost.

    :raises TypeError: when the reason is no str.
    """

    #: For `handle_connection_close` and the log.
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", text(self.reason))


@dataclass(frozen=True, slots=True)
class Refused:
    """What was asked for will not happen: it is unknown to the module, or it comes at the wrong time."""


#: The one instance anybody needs.
REFUSED = Refused()

Result: TypeAlias = "bytes | Switch | Close | Stop"
Results: TypeAlias = "Result | Sequence[Result] | None"
"""Bytes mean "reply". Of a sequence each is done in order, and nothing after a `Switch`, `Close` or `Stop`."""


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return these response headers, which then can't break out of their lines.

    :raises TypeError: when they are no mapping.
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
    """Raised by a handler's `init`: refuse the connection with an HTTP response.

    :param status: the HTTP status, 300 to 599.
    :param body: the response's body; a str leaves as UTF-8 ``text/plain``.
    :param headers: more response headers.
    :raises TypeError: when the headers are no mapping.
    :raises ValueError: when one of them can't be sent.
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
    """Returned by a handler's `init` instead of a bare state, to say more about the acceptance.

    :raises TypeError: when the headers are no mapping.
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
        object.__setattr__(self, "headers", check_headers(self.headers))
