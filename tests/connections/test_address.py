from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from wshost.connections.address import address


class TestAddress:
    @pytest.mark.parametrize(
        ("peer", "text"),
        [
            (IPv4Address("TCP", "127.0.0.1", 50000), "127.0.0.1:50000"),
            (IPv6Address("TCP", "::1", 50000), "[::1]:50000"),
            (UNIXAddress("/run/a"), "unix:/run/a"),
            (UNIXAddress(b"/run/\xff"), "unix:/run/\\xff"),
            (UNIXAddress(None), "unix:"),
            (UNIXAddress(b""), "unix:"),
            (UNIXAddress(b"\0chat\0\n"), "unix:@chat\\x00\\n"),
            (UNIXAddress("/run/ü\r\n\x1b"), "unix:/run/ü\\r\\n\\x1b"),
            (IPv6Address("TCP", "fe80::1%eth0", 5, 0, 2), "[fe80::1%eth0]:5"),
            (HostnameAddress(b"localhost", 80), "localhost:80"),
            (HostnameAddress(b"::1", 80), "[::1]:80"),
            (HostnameAddress(b"\xff", 80), "\\xff:80"),
            (SimpleNamespace(host="192.0.2.1"), "192.0.2.1"),
            (SimpleNamespace(x=1), "namespace(x=1)"),
        ],
    )
    def test_an_address_is_written_as_text(self, peer: IAddress, text: str) -> None:
        assert address(peer) == text

    def test_a_unix_address_may_have_a_name_that_is_text(self) -> None:
        class Named:
            name = "pipe"

        named: Any = Named()
        assert address(named) == "unix:pipe"
