from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from wshost.listening.proxy_header import Header, InvalidHeader, parse

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
INET = bytes([192, 0, 2, 1, 192, 0, 2, 2]) + b"\x12\x67\x00\x50"
INET6 = b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01" + bytes(10) + b"\xff\xff\x7f\x00\x00\x01" + b"\x12\x67\x00\x50"
SSL = b"\x20\x00\x0f" + b"\x01\0\0\0\0" + b"\x21\x00\x07TLSv1.3"
VECTORS = [
    b"",
    b"\x04\x00\x00",
    b"\x04\x00\x02\0\0",
    b"\x01\x00\x02h2",
    b"\x02\x00\x07example",
    b"\x03\x00\x04\0\0\0\0",
    b"\x05\x00\x80" + bytes(128),
    SSL,
    b"\x30\x00\x02ns",
    b"\xea\xff\x00" + bytes(0xFF00),
    b"\x01\x00\x02h2" + SSL + b"\xee\x00\x00",
]


def binary(command: int, family: int, block: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(block).to_bytes(2, "big") + block


def padded(name: bytes) -> bytes:
    return name.ljust(108, b"\0")


def v4(host: str, port: int, kind: str = "TCP") -> IAddress:
    return IPv4Address(kind, host, port)  # type: ignore[arg-type]


def v6(host: str, port: int, kind: str = "TCP") -> IAddress:
    return IPv6Address(kind, host, port)  # type: ignore[arg-type]


#: Valid headers, and what they say.
VALID: list[tuple[bytes, IAddress | None, IAddress | None]] = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n", v4("192.0.2.1", 4711), v4("192.0.2.2", 80)),
    (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", v4("0.0.0.0", 0), v4("255.255.255.255", 65535)),
    (b"PROXY TCP6 2001:db8::1 ::1 4711 80\r\n", v6("2001:db8::1", 4711), v6("::1", 80)),
    (b"PROXY TCP6 2001:0DB8:0:0:0:0:0:1 :: 1 2\r\n", v6("2001:db8::1", 1), v6("::", 2)),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 1 2\r\n", v6("::ffff:192.0.2.1", 1), v6("::ffff:192.0.2.2", 2)),
    (
        b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n",
        v6("ffff:" * 7 + "ffff", 65535),
        v6("ffff:" * 7 + "ffff", 65535),
    ),
    (b"PROXY UNKNOWN\r\n", None, None),
    (b"PROXY UNKNOWN \r\n", None, None),
    (b"PROXY UNKNOWN " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n", None, None),
    (b"PROXY UNKNOWN any thing\n\r \xff\0\r\n", None, None),
    (binary(0x21, 0x11, INET), v4("192.0.2.1", 4711), v4("192.0.2.2", 80)),
    (binary(0x21, 0x12, INET), v4("192.0.2.1", 4711, "UDP"), v4("192.0.2.2", 80, "UDP")),
    (binary(0x21, 0x21, INET6), v6("2001:db8::1", 4711), v6("::ffff:127.0.0.1", 80)),
    (binary(0x21, 0x22, INET6), v6("2001:db8::1", 4711, "UDP"), v6("::ffff:127.0.0.1", 80, "UDP")),
    (binary(0x21, 0x31, padded(b"/run/a") + padded(b"/run/b")), UNIXAddress("/run/a"), UNIXAddress("/run/b")),
    (binary(0x21, 0x32, padded(b"/run/a\0junk") + b"b" * 108), UNIXAddress("/run/a"), UNIXAddress(b"b" * 108)),
    (binary(0x21, 0x31, padded(b"\0a\0b") + bytes(108)), UNIXAddress(b"\0a\0b"), UNIXAddress(None)),
    *((binary(0x21, 0x11, INET + tlv), v4("192.0.2.1", 4711), v4("192.0.2.2", 80)) for tlv in VECTORS),
    # What is not said: health checks, and what the proxy has no word for.
    *((binary(0x20, family, INET), None, None) for family in (0x00, 0x11, 0x21, 0x31, 0x99, 0xFF)),
    *((binary(0x20, 0x00, block), None, None) for block in (b"", b"x", bytes(0xFFFF))),
    *((binary(0x21, family, b""), None, None) for family in (0x00, 0x01, 0x02, 0x10, 0x20, 0x30)),
    (binary(0x21, 0x00, b"odd"), None, None),
]

INVALID = [
    b"G",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01",
    b"PROXYTCP4",
    b"PROXY\r\n",
    b"proxy TCP4 ",
    b" PROXY ",
    b"\r\nPROXY ",
    b"PROXY \r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
    b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1\t192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\nGET / HTTP/1.1\r\n",
    *(
        b"PROXY TCP4 " + one + b" 192.0.2.2 1 2\r\n"
        for one in (b"192.0.2", b"192.0.2.1.1", b"256.0.2.1", b"192.0.2.01", b"::1", b"\xff", b"1.1.1.1\0", b"0x7f.1")
    ),
    b"PROXY TCP4 192.0.2.1 localhost 1 2\r\n",
    *(
        b"PROXY TCP6 " + one + b" ::1 1 2\r\n"
        for one in (b"192.0.2.1", b":::", b"1::2::3", b"fe80::1%eth0", b"[::1]", b"12345::", b"1:2:3:4:5:6:7:8:9")
    ),
    *(
        b"PROXY TCP4 192.0.2.1 192.0.2.2 " + one + b" 2\r\n"
        for one in (b"65536", b"01", b"+1", b"-1", b"1_0", b"", b"x")
    ),
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 \xb2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 99999\r\n",
    # Longer than a line may be, with its end and without.
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    b"PROXY UNKNOWN " + b"x" * 93,
    SIGNATURE[:5] + b"x",
    SIGNATURE + b"\x11",
    SIGNATURE + b"\x31",
    SIGNATURE + b"\x22",
    *(binary(0x21, family, bytes(216)) for family in (0x13, 0x1F, 0x41, 0xF1, 0x03, 0x40)),
    # Too short for what it says, also before it is whole.
    *(binary(0x21, family, block) for family, block in ((0x11, INET[:-1]), (0x21, INET6[:-1]), (0x31, bytes(215)))),
    binary(0x21, 0x11, b""),
    SIGNATURE + b"\x21\x21\x00\x0c",
    # A value that goes on behind the header.
    *(binary(0x21, 0x11, INET + tlv) for tlv in (b"\x01", b"\x01\x00", b"\x01\x00\x01", b"\x04\x00\x00\x01\x00\x03h2")),
]


class TestValid:
    @pytest.mark.parametrize(("data", "source", "destination"), VALID)
    def test_valid_headers_tell_the_addresses(
        self, data: bytes, source: IAddress | None, destination: IAddress | None
    ) -> None:
        assert parse(data) == Header(source, destination, len(data))

    @pytest.mark.parametrize(("data", "source", "destination"), VALID)
    def test_a_header_ends_where_the_clients_bytes_begin(
        self, data: bytes, source: IAddress | None, destination: IAddress | None
    ) -> None:
        assert parse(bytearray(data) + b"\r\nGET / HTTP/1.1\r\n") == Header(source, destination, len(data))

    @pytest.mark.parametrize("data", [data for data, _, _ in VALID if len(data) < 1000])
    def test_a_header_is_awaited_to_its_last_byte(self, data: bytes) -> None:
        assert [parse(data[:size]) for size in range(len(data))] == [None] * len(data)

    def test_a_header_may_be_as_long_as_its_length_can_say(self) -> None:
        data = binary(0x20, 0, bytes(0xFFFF))
        assert parse(data[:-1]) is None
        assert parse(data) == Header(None, None, 65_551)


class TestInvalid:
    @pytest.mark.parametrize("data", INVALID)
    def test_an_invalid_header_is_refused_as_soon_as_it_is_invalid(self, data: bytes) -> None:
        with pytest.raises(InvalidHeader):
            parse(data)

    @pytest.mark.parametrize("data", INVALID)
    def test_an_invalid_header_stays_invalid_whatever_follows(self, data: bytes) -> None:
        with pytest.raises(InvalidHeader):
            parse(data + b"\r\n" + bytes(300))
