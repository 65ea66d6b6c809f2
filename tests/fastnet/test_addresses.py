from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from wshost.fastnet.addresses import address_of, with_scope


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("127.0.0.1", 80), IPv4Address("TCP", "127.0.0.1", 80)),
        (("::1", 80, 0, 0), IPv6Address("TCP", "::1", 80)),
        (("fe80::1%lo", 80, 0, 1), IPv6Address("TCP", "fe80::1%lo", 80, 0, 1)),
        (("fe80::1", 80, 0, 1), IPv6Address("TCP", "fe80::1%lo", 80, 0, 1)),
        ("/run/x", UNIXAddress("/run/x")),
        ("", UNIXAddress(None)),
    ],
)
def test_an_address_is_twisteds_for_its_family(name: Any, address: Any) -> None:
    assert address_of(name) == address


@pytest.mark.parametrize("name", ["/run/x", ("127.0.0.1", 80), ("::1", 80, 0, 0), ("fe80::1%lo", 80, 0, 1)])
def test_a_name_without_a_scope_to_add_stays_as_it_is(name: Any) -> None:
    assert with_scope(name) is name
