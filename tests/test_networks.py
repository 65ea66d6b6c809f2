from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress

from wshost.networks import Networks, ip


def v4(host: str) -> IPv4Address:
    return IPv4Address("TCP", host, 50_000)


def v6(host: str) -> IPv6Address:
    return IPv6Address("TCP", host, 50_000)


@pytest.mark.parametrize(
    ("member", "inside", "outside"),
    [
        ("10.0.0.1", [v4("10.0.0.1"), v6("::ffff:10.0.0.1")], [v4("10.0.0.2"), v6("::10.0.0.1")]),
        ("10.0.0.0/8", [v4("10.0.0.0"), v4("10.255.255.255")], [v4("9.255.255.255"), v4("11.0.0.0")]),
        ("0.0.0.0/0", [v4("192.0.2.1"), v6("::ffff:192.0.2.1")], [v6("::1"), UNIXAddress("/run/a.sock")]),
        ("2001:db8::/32", [v6("2001:db8::1"), v6("2001:DB8:0:0::1")], [v6("2001:db9::1"), v4("32.1.13.184")]),
        ("fe80::/10", [v6("fe80::1%eth0"), v6("fe80::1")], [v6("fec0::1")]),
        ("::ffff:10.0.0.0/104", [v4("10.1.2.3"), v6("::ffff:10.1.2.3")], [v4("11.0.0.0"), v6("::10.1.2.3")]),
        ("::ffff:10.0.0.1", [v4("10.0.0.1")], [v4("10.0.0.2")]),
        ("unix", [UNIXAddress("/run/a.sock"), UNIXAddress(None), UNIXAddress(b"\0abstract")], [v4("127.0.0.1")]),
    ],
)
def test_a_network_has_the_peers_within_it(member: str, inside: list[Any], outside: list[Any]) -> None:
    networks = Networks([member])
    assert [networks.have(peer) for peer in inside] == [True] * len(inside)
    assert [networks.have(peer) for peer in outside] == [False] * len(outside)


def test_a_set_has_the_peers_of_all_its_members() -> None:
    networks = Networks(["10.0.0.1", "::1", "unix"])
    assert [networks.have(peer) for peer in (v4("10.0.0.1"), v6("::1"), UNIXAddress(None))] == [True] * 3
    assert not networks.have(v4("10.0.0.2"))


@pytest.mark.parametrize("peer", [HostnameAddress(b"10.0.0.1", 1), v4("a name"), v4(""), object()])
def test_a_peer_without_an_ip_address_is_in_no_network(peer: Any) -> None:
    assert not Networks(["0.0.0.0/0", "::/0"]).have(peer)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "proxy.example",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0",
        "010.0.0.1",
        "10.0.0.1:80",
        "[::1]",
        "fe80::1%eth0",
        "2001:db8::1/32",
        "UNIX",
        "unix:/run/a.sock",
        "*",
        " 10.0.0.1",
    ],
)
def test_what_is_no_network_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an address, a network such as") as caught:
        Networks([text])
    assert str(caught.value).startswith(repr(text))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8::0001", "2001:db8::1"),
        ("fe80::1%eth0", None),
        ("192.0.2.01", None),
        ("192.0.2", None),
        ("1", None),
        ("", None),
    ],
)
def test_an_ip_address_has_one_form(text: str, address: str | None) -> None:
    assert ip(text) == (None if address is None else ip_address(address))
