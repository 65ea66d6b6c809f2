"""The text of HTTP/1.1 heads (RFC 9112): parses requests, writes responses. Must not know sockets or WebSocket."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from ipaddress import IPv6Address

from wshost.protocols.http.fields import TARGET, split
from wshost.request import TOKEN, Request, fields_of, headers_of
from wshost.results import check_headers

#: The most query fields of a request: handlers split the query, and this limits the cost.
_MAX_QUERY_FIELDS = 100
#: The most members of a comma-separated field; fewer for the two fields that are split in every request.
_MAX_MEMBERS = 1_000
_MAX_MEMBERS_OF = {"connection": 100, "upgrade": 100}
#: If the whole head has no more commas than this, no field has too many members.
_FEW = min(_MAX_MEMBERS_OF.values())

#: A line that ends without CR.
BARE_LF = re.compile(rb"(?<!\r)\n")
#: The phrases that Python 3.11 and 3.12 still have from RFC 7231 and others, as they are in RFC 9110 §15.5.
_PHRASES = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}

_CONTROLS = bytes((*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F))
_VERSION = re.compile(r"HTTP/[0-9]\.[0-9]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(r"(?i:https?|wss?)://([^/?]*)")
_AUTHORITY = re.compile(
    r"(?:\[([0-9A-Fa-f:.]++)\]|((?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})++))(?::([0-9]{0,5}))?"
)

#: Fields that may come only once. If there were two, a proxy in front might use the first, and wshost the last.
_SINGLETONS = frozenset(
    {
        "authorization",  # RFC 9110 §11.6.2
        "content-length",  # RFC 9110 §8.6
        "content-type",  # RFC 9110 §8.3
        "host",  # RFC 9112 §3.2
        "origin",  # RFC 6454 §7.3
        "proxy-authorization",  # RFC 9110 §11.7.2
        "sec-websocket-accept",  # RFC 6455 §11.3.3
        "sec-websocket-key",  # RFC 6455 §11.3.1
        "sec-websocket-version",  # RFC 6455 §11.3.5
    }
)

#: Header fields that `response` sets itself; the caller's are left out.
_FRAMING = frozenset({"connection", "content-length", "date", "transfer-encoding"})

#: Fields that must be ASCII, as they are parsed or compared, here or by a later module. Also all with the prefix below.
_ASCII = _SINGLETONS | {
    "connection",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
_ASCII_PREFIX = "sec-websocket-"


class BadRequest(Exception):
    """A request must be refused with this answer.

    :param status: the HTTP status of the answer.
    :param reason: the answer's body, one line. It never has text that the peer sent.
    :param headers: more headers of the answer.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


def parse(head: bytes, *, max_headers: int = 100) -> Request:
    """Parse a request head, strictly, in time linear in its length.

    Any method is accepted, with or without a body; `demand_get` refuses all but a GET without a body. HTTP/1.0 is
    accepted, too; its Upgrade field is ignored (RFC 9110 §7.8), and without a Host field ``request.host`` is "".

    Non-ASCII bytes are allowed in the values of fields that are not parsed (RFC 9110 §5.5), and decoded as Latin-1.

    :param head: the bytes up to and including the first empty line, so it ends in CRLF CRLF. The caller limits its
        length.
    :param max_headers: the most header lines allowed.
    :raises BadRequest: 400, 431 for too many headers or members of one, 505 for another version of HTTP (RFC 9112
        §§2–6).
    """
    parts = split(head, max_headers)
    if parts is None:
        raise _fault(head)
    method, target, is_1_1, fields, count, again, commas, is_ascii = parts
    authority, path, query = _parse_target(target)
    if count > max_headers:
        raise BadRequest(431, "There are too many header fields.")
    if not is_1_1:
        fields.pop("upgrade", None)
    if again and not _SINGLETONS.isdisjoint(again):
        raise BadRequest(400, "A header field that may come only once came twice.")
    if not is_ascii:
        _check_ascii(fields)
    if commas + count > _FEW:
        _check_lists(fields)
    _check_framing(fields, is_1_1)
    host = fields.get("host")
    if host is not None or is_1_1:
        _check_authority(host or "")
    if authority is not None:
        _check_authority(authority)
        host = authority  # RFC 9112 §3.2.2: Host is ignored then
    return Request(method, target, path, query, host or "", headers_of(fields))


def demand_get(request: Request) -> None:
    """Make sure that this is a GET without a body, with at most 100 query fields.

    :raises BadRequest: 405, 413 or 400.
    """
    if request.method != "GET":
        # A response to HEAD has no body (RFC 9110 §9.3.2).
        raise BadRequest(405, "" if request.method == "HEAD" else "Only GET is served here.", {"Allow": "GET"})
    fields = fields_of(request.headers)
    if "transfer-encoding" in fields or fields.get("content-length", "").strip("0"):
        raise BadRequest(413, "Request bodies are not accepted here.")
    if request.query.count("&") >= _MAX_QUERY_FIELDS:
        raise BadRequest(400, "There are too many query fields.")


@lru_cache(64)
def split_authority(authority: str) -> tuple[str, int | None]:
    """Split and normalise ``uri-host [":" port]`` (RFC 9110 §7.2).

    :returns: the host, in lower case, an IPv6 address in its brackets and shortest form; and the port, or None.
    :raises ValueError: when it is malformed: userinfo, an empty host and non-ASCII characters are not allowed.
    """
    match = _AUTHORITY.fullmatch(authority)
    if not match:
        raise ValueError("not a host, or a host and a port")
    address, name, port = match.groups()
    if int(port or 0) > 0xFFFF:
        raise ValueError("not a port")
    return (f"[{IPv6Address(address)}]" if address else name.lower()), (int(port) if port else None)


def response(status: int, body: bytes | str = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """Write a response after which the connection is closed.

    The reason phrase is the standard one. No header value can contain a line break.

    :param status: 300 to 599.
    :param body: bytes are sent as they are; a str is sent as UTF-8 ``text/plain``, unless the headers say otherwise.
        A 304 has no body (RFC 9110 §15.4.5).
    :param headers: more headers. Connection, Content-Length, Date and Transfer-Encoding are left out, as they are set
        here. If Upgrade is one of them, Connection names it (RFC 9110 §7.8).
    :raises ValueError: for a header that can't be sent.
    """
    fields = {name: value for name, value in check_headers(headers or {}).items() if name.lower() not in _FRAMING}
    names = {name.lower() for name in fields}
    if isinstance(body, str):
        body = body.encode()
        if "content-type" not in names:
            fields["Content-Type"] = "text/plain; charset=utf-8"
    if status == HTTPStatus.NOT_MODIFIED:
        body = b""
    else:
        fields["Content-Length"] = str(len(body))
    fields["Connection"] = "close, Upgrade" if "upgrade" in names else "close"
    fields["Date"] = formatdate(usegmt=True)
    lines = [f"HTTP/1.1 {status:03d} {phrase(status)}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body


def phrase(status: int) -> str:
    """Return the reason phrase of a status; "Status" if it has none."""
    try:
        return _PHRASES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Status"


def _fault(head: bytes) -> BadRequest:
    """Return the error for a malformed head."""
    # First: a head that comes in pieces is refused for it before it has come whole.
    if BARE_LF.search(head):
        return bad_line()
    if len(head.translate(None, _CONTROLS)) < len(head):
        return BadRequest(400, "A control character is in the request head.")
    if head.count(b"\r") > head.count(b"\n"):
        return bad_line()
    parts = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
    if len(parts) != 3 or not TOKEN.fullmatch(parts[0]) or not _VERSION.fullmatch(parts[2]):
        return BadRequest(400, "The first line is no HTTP request line.")
    if parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        return BadRequest(505, "Only HTTP/1.1 is spoken here.")
    if not TARGET.fullmatch(parts[1]):
        return _bad_target()
    # This includes white space before the colon, folded lines and non-ASCII names (RFC 9112 §§5.1, 5.2).
    return BadRequest(400, "A line of the request head is no header field.")


def bad_line() -> BadRequest:
    """Return the error for a line that ends in CR or LF alone."""
    return BadRequest(400, "A line of the request head does not end in CRLF.")


def _bad_target() -> BadRequest:
    return BadRequest(400, "The request target has an invalid character or escape.")


def _parse_target(target: str) -> tuple[str | None, str, str]:
    """Return the authority of an absolute target or None, the path and the query (RFC 9112 §3.2)."""
    if "%" in target and _BAD_ESCAPE.search(target):
        raise _bad_target()
    if target[0] == "/":
        authority, rest = None, target
    elif absolute := _ABSOLUTE.match(target):
        authority, rest = absolute[1], target[absolute.end() :]
    else:
        raise BadRequest(400, "The request target is neither a path nor an absolute URL.")
    path, _, query = rest.partition("?")
    return authority, path or "/", query


def _check_ascii(fields: dict[str, str]) -> None:
    for name, value in fields.items():
        if not value.isascii() and (name in _ASCII or name.startswith(_ASCII_PREFIX)):
            raise BadRequest(400, "A non-ASCII character is in a header field that has none.")


def _check_lists(fields: dict[str, str]) -> None:
    for name, value in fields.items():
        # Commas in cookies and URLs separate no members.
        if name not in {"cookie", "referer"} and value.count(",") >= _MAX_MEMBERS_OF.get(name, _MAX_MEMBERS):
            raise BadRequest(431, "A header field has too many members.")


def _check_framing(fields: dict[str, str], is_1_1: bool) -> None:
    length = fields.get("content-length")
    if length is not None and not length.isdigit():
        raise BadRequest(400, "The Content-Length is not a number.")
    # Request smuggling (RFC 9112 §6.1).
    if "transfer-encoding" in fields and (length is not None or not is_1_1):
        raise BadRequest(400, "The length of the request body is ambiguous.")


def _check_authority(authority: str) -> None:
    try:
        split_authority(authority)
    except ValueError:
        raise BadRequest(400, "The host is missing or malformed.") from None
