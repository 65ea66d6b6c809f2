"""Parses the header of the PROXY protocol, versions 1 and 2, into addresses. Knows no connection.

The specification is HAProxy's `doc/proxy-protocol.txt`; the section numbers here are those of that file.
"""

from __future__ import annotations

import re
import socket
from typing import NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

#: The first bytes of version 2, and the number of bytes before its addresses.
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = 16
#: The first bytes of version 1, and the most bytes of its line, CRLF included.
_WORD = b"PROXY "
_LINE = 107

_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")
_FAMILIES = {b"TCP4": socket.AF_INET, b"TCP6": socket.AF_INET6}
_TYPES = {socket.AF_INET: IPv4Address, socket.AF_INET6: IPv6Address}

# Version 2's byte for version and command, and the nibbles for family and protocol.
_LOCAL, _PROXY = 0x20, 0x21
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_STREAM, _DGRAM = 1, 2
#: The size of one address, and of both addresses with their ports.
_SIZES = {_UNSPEC: (0, 0), _INET: (4, 12), _INET6: (16, 36), _UNIX: (108, 216)}


class InvalidHeader(ValueError):
    """These bytes are no valid header."""


class Header(NamedTuple):
    """A parsed header."""

    #: The client's address. None: the header has none, and the socket's own address counts.
    source: IAddress | None
    #: The address that the client has connected to; None as above.
    destination: IAddress | None
    #: How many bytes the header takes; the client's bytes follow.
    size: int


def parse(data: bytes | bytearray) -> Header | None:
    """Parse a header.

    :param data: all bytes that have been received.
    :returns: None while the header is not whole. A header has at most 65,551 bytes.
    :raises InvalidHeader: as soon as the bytes can't become a valid header.
    """
    if data.startswith(_WORD):
        return _parse_line(data)
    if data.startswith(_SIGNATURE):
        return _parse_binary(data)
    if _WORD.startswith(data) or _SIGNATURE.startswith(data):
        return None
    raise InvalidHeader("it begins with neither signature")


def _parse_line(data: bytes | bytearray) -> Header | None:
    """Parse version 1 (§2.1)."""
    end = data.find(b"\r\n", 0, _LINE)
    if end < 0:
        if len(data) >= _LINE:
            raise InvalidHeader("the line is too long")
        return None
    size = end + 2
    _, protocol, *rest = bytes(data[:end]).split(b" ")
    if protocol == b"UNKNOWN":
        # The rest of the line must be ignored.
        return Header(None, None, size)
    if protocol not in _FAMILIES or len(rest) != 4:
        raise InvalidHeader("the protocol is unknown, or there are not two addresses and two ports")
    family = _FAMILIES[protocol]
    source, destination, source_port, destination_port = rest
    return Header(
        _address(family, "TCP", _packed(family, source), _port(source_port)),
        _address(family, "TCP", _packed(family, destination), _port(destination_port)),
        size,
    )


def _packed(family: int, text: bytes) -> bytes:
    try:
        # Leading zeros, zones and short forms of IPv4 are refused.
        return socket.inet_pton(family, text.decode("ascii"))
    except (OSError, ValueError):
        raise InvalidHeader("an address is invalid") from None


def _port(text: bytes) -> int:
    if not _PORT.fullmatch(text) or int(text) > 0xFFFF:
        raise InvalidHeader("a port is invalid")
    return int(text)


def _address(family: int, kind: str, packed: bytes, port: int) -> IAddress:
    # `inet_ntop` writes each address in one form only, the same as for the kernel's addresses.
    address: IAddress = _TYPES[socket.AddressFamily(family)](kind, socket.inet_ntop(family, packed), port)
    return address


def _parse_binary(data: bytes | bytearray) -> Header | None:
    """Parse version 2 (§2.2)."""
    if len(data) > 12 and data[12] not in {_LOCAL, _PROXY}:
        raise InvalidHeader("the version or the command is unknown")
    if len(data) < _FIXED:
        return None
    command = data[12]
    family, protocol = data[13] >> 4, data[13] & 0x0F
    size = _FIXED + int.from_bytes(data[14:16], "big")
    if command == _PROXY and (family not in _SIZES or protocol > _DGRAM):
        raise InvalidHeader("the family or the protocol is unknown")
    # If the family or the protocol is unspecified, the addresses mean nothing.
    unspecified = command == _LOCAL or _UNSPEC in {family, protocol}
    width, both = _SIZES[_UNSPEC if unspecified else family]
    if size < _FIXED + both:
        raise InvalidHeader("the length leaves no room for the addresses")
    if len(data) < size:
        return None
    if unspecified:
        return Header(None, None, size)
    _check_vectors(data, _FIXED + both, size)
    source, destination = (bytes(data[start : start + width]) for start in (_FIXED, _FIXED + width))
    if family == _UNIX:
        return Header(_unix(source), _unix(destination), size)
    family = socket.AF_INET if family == _INET else socket.AF_INET6
    kind = "TCP" if protocol == _STREAM else "UDP"
    ports = _FIXED + 2 * width
    return Header(
        _address(family, kind, source, int.from_bytes(data[ports : ports + 2], "big")),
        _address(family, kind, destination, int.from_bytes(data[ports + 2 : ports + 4], "big")),
        size,
    )


def _check_vectors(data: bytes | bytearray, start: int, end: int) -> None:
    """Check that type-length-value vectors follow the addresses. wshost uses none of them."""
    while start < end:
        start += 3 + int.from_bytes(data[start + 1 : start + 3], "big")
    if start > end:
        raise InvalidHeader("a value is longer than the header")


def _unix(name: bytes) -> IAddress:
    # All names are padded with zeros; a name without a file begins with one.
    name = name.rstrip(b"\0") if name.startswith(b"\0") else name.partition(b"\0")[0]
    return UNIXAddress(name or None)
