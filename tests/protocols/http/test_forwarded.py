from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wshost.networks import Networks
from wshost.protocols.http.forwarded import MAX_PIECES, MAX_PROXIES, Client, find
from wshost.protocols.http.head import BadRequest
from wshost.request import Headers, fields_of

TRUSTED = Networks(["10.0.0.0/8", "2001:db8:a::/48", "unix"])


def found(*fields: tuple[str, str]) -> Client:
    """What these header lines say of the client."""
    return find(fields_of(Headers(fields)), TRUSTED)


def listed(*values: str) -> Client:
    return found(*(("X-Forwarded-For", value) for value in values))


def forwarded(*values: str) -> Client:
    return found(*(("Forwarded", value) for value in values))


class TestXForwardedFor:
    @pytest.mark.parametrize(
        ("values", "host", "port"),
        [
            (["192.0.2.1"], "192.0.2.1", 0),
            (["192.0.2.1:4711"], "192.0.2.1", 4711),
            (["192.0.2.1:0"], "192.0.2.1", 0),
            (["192.0.2.1:65536"], "192.0.2.1", 0),
            (["192.0.2.1:_hidden"], "192.0.2.1", 0),
            (["2001:DB8::1"], "2001:db8::1", 0),
            (["::ffff:192.0.2.1"], "192.0.2.1", 0),
            (["1:2::3"], "1:2::3", 0),
            (["[2001:db8::1]"], "2001:db8::1", 0),
            (["[2001:db8::1]:4711"], "2001:db8::1", 4711),
            # The rightmost that is not trusted.
            (["6.6.6.6, 192.0.2.1"], "192.0.2.1", 0),
            (["6.6.6.6, 192.0.2.1, 10.0.0.1, 10.0.0.2"], "192.0.2.1", 0),
            (["192.0.2.1,10.0.0.1,2001:db8:a::1"], "192.0.2.1", 0),
            (["6.6.6.6", "192.0.2.1", "10.0.0.1"], "192.0.2.1", 0),
            (["10.6.6.6, 192.0.2.1, ::ffff:10.0.0.1"], "192.0.2.1", 0),
            # All are.
            (["10.0.0.1:7, 10.0.0.2:8"], "10.0.0.1", 7),
            # Empty members count for nothing (RFC 9110 §5.6.1.2).
            ([", 192.0.2.1 ,\t, "], "192.0.2.1", 0),
            # What is no address ends the search.
            (["unknown"], None, 0),
            ([""], None, 0),
            (["192.0.2.1, unknown"], None, 0),
            (["192.0.2.1:"], None, 0),
            (["192.0.2.1, _hidden, 10.0.0.1, 10.0.0.2"], "10.0.0.1", 0),
            (["192.0.2.1, fe80::1%eth0"], None, 0),
            (["192.0.2.1, 192.0.2.01"], None, 0),
            (["192.0.2.1, 192.0.2.1:123456"], None, 0),
            (["192.0.2.1, 2001:db8::1:4711]"], None, 0),
            (["192.0.2.1, [192.0.2.2"], None, 0),
            (['192.0.2.1, "192.0.2.2"'], None, 0),
            (["192.0.2.1, 192.0.2.2 192.0.2.3"], None, 0),
        ],
    )
    def test_the_first_from_the_right_that_is_not_trusted_is_the_client(
        self, values: list[str], host: str | None, port: int
    ) -> None:
        assert listed(*values) == (host, port, None)

    def test_no_more_than_some_proxies_are_looked_at_as_each_takes_time(self) -> None:
        assert listed("192.0.2.1", *["10.0.0.1"] * (MAX_PROXIES - 1)).host == "192.0.2.1"
        assert listed("192.0.2.1", *["10.0.0.1"] * MAX_PROXIES).host == "10.0.0.1"


class TestForwarded:
    @pytest.mark.parametrize(
        ("values", "host", "port", "secure"),
        [
            (["for=192.0.2.1"], "192.0.2.1", 0, None),
            (["For=192.0.2.1;PROTO=HTTPS"], "192.0.2.1", 0, True),
            (["proto=http; for=192.0.2.1 ;by=10.0.0.1"], "192.0.2.1", 0, False),
            (["for=192.0.2.1;proto=wss"], "192.0.2.1", 0, True),
            (["for=192.0.2.1;proto=gopher"], "192.0.2.1", 0, None),
            (['for="192.0.2.1:4711";host="a,b;c";proto=https'], "192.0.2.1", 4711, True),
            (['for="[2001:db8::1]:4711"'], "2001:db8::1", 4711, None),
            ([r'for="\1\92.0.2.1"'], "192.0.2.1", 0, None),
            (['host="a\\"b, for=6.6.6.6", for=192.0.2.1'], "192.0.2.1", 0, None),
            (['host="";for=192.0.2.1'], "192.0.2.1", 0, None),
            # The rightmost that is not trusted; its proto counts.
            (["for=6.6.6.6;proto=http, for=192.0.2.1;proto=https, for=10.0.0.1;proto=http"], "192.0.2.1", 0, True),
            (["for=6.6.6.6", "for=192.0.2.1, for=10.0.0.1"], "192.0.2.1", 0, None),
            # All are.
            (["for=10.0.0.1;proto=https,for=10.0.0.2"], "10.0.0.1", 0, True),
            # Empty elements and pairs count for nothing.
            ([" , ;for=192.0.2.1;;, ,"], "192.0.2.1", 0, None),
            ([""], None, 0, None),
            # What is no address ends the search. A trusted proxy has seen it, so its proto counts.
            (["for=192.0.2.1, for=unknown;proto=https"], None, 0, True),
            (["for=192.0.2.1, for=_hidden, for=10.0.0.1"], "10.0.0.1", 0, None),
            (["for=192.0.2.1, by=10.0.0.9;proto=https, for=10.0.0.1;proto=http"], "10.0.0.1", 0, True),
        ],
    )
    def test_the_first_from_the_right_that_is_not_trusted_is_the_client(
        self, values: list[str], host: str | None, port: int, secure: bool | None
    ) -> None:
        assert forwarded(*values) == (host, port, secure)

    @pytest.mark.parametrize(
        "value",
        [
            "192.0.2.1",
            "for",
            "for=",
            "=192.0.2.1",
            "for=192.0.2.1 proto=https",
            "for =192.0.2.1",
            "for=[2001:db8::1]",
            "for=192.0.2.1:80",
            'for="192.0.2.1',
            'for="192.0.2.1\\"',
            'for="192.0.2.1"x',
            "for=192.0.2.1;for=192.0.2.2",
            "for=192.0.2.1;For=192.0.2.1",
            'for="\xe4"',
            'for="6.6.6.6, for=192.0.2.1',
            'host="a, for="[2001:db8::1]"',
        ],
    )
    def test_what_is_malformed_gets_400(self, value: str) -> None:
        """A client may have opened a quote that hides what the proxy has added."""
        with pytest.raises(BadRequest) as caught:
            forwarded("for=192.0.2.1", value)
        assert (caught.value.status, caught.value.reason) == (400, "The Forwarded header is malformed.")

    @pytest.mark.parametrize("piece", [",", ";", "for=10.0.0.1,"])
    def test_very_many_pieces_get_400_as_each_takes_time(self, piece: str) -> None:
        assert forwarded(piece * (MAX_PIECES - 1) + "for=192.0.2.1").host == "192.0.2.1"
        with pytest.raises(BadRequest, match="too long"):
            forwarded(piece * MAX_PIECES + "for=192.0.2.1")


class TestProto:
    @pytest.mark.parametrize(
        ("values", "secure"),
        [
            (["https"], True),
            (["WSS"], True),
            (["http"], False),
            (["ws"], False),
            (["https, http"], False),
            (["http", "https"], True),
            (["https,"], None),
            ([""], None),
            (["gopher"], None),
        ],
    )
    def test_the_last_value_counts(self, values: list[str], secure: bool | None) -> None:
        protos = [("X-Forwarded-Proto", value) for value in values]
        assert found(*protos) == (None, 0, secure)
        assert found(("X-Forwarded-For", "192.0.2.1:7"), *protos) == ("192.0.2.1", 7, secure)
        assert found(("Forwarded", 'for="192.0.2.1:7"'), *protos) == ("192.0.2.1", 7, secure)

    def test_without_a_header_nothing_is_known(self) -> None:
        assert found(("Host", "example.com")) == (None, 0, None)


class TestBoth:
    """A proxy adds to one of them, and may pass the other on as the client has sent it."""

    @pytest.mark.parametrize("old", ["192.0.2.1", "6.6.6.6, 192.0.2.1:7, 10.0.0.1"])
    def test_both_headers_may_name_the_same_client(self, old: str) -> None:
        client = found(("Forwarded", 'for="192.0.2.1:4711";proto=https'), ("X-Forwarded-For", old))
        assert client == ("192.0.2.1", 4711, True)

    @pytest.mark.parametrize("old", ["6.6.6.6", "unknown", "", "10.0.0.1"])
    @pytest.mark.parametrize("standard", ["for=192.0.2.1", "for=192.0.2.2;proto=https"])
    def test_different_clients_get_400(self, standard: str, old: str) -> None:
        with pytest.raises(BadRequest, match=r"^") as caught:
            found(("Forwarded", standard), ("X-Forwarded-For", old))
        assert caught.value.reason == "Forwarded and X-Forwarded-For name different clients."

    def test_an_empty_header_does_not_agree_with_the_other(self) -> None:
        with pytest.raises(BadRequest, match=r"^"):
            found(("Forwarded", ""), ("X-Forwarded-For", "192.0.2.1"))

    @pytest.mark.parametrize(("one", "other"), [("http", "https"), ("https", "ws")])
    def test_different_protocols_get_400(self, one: str, other: str) -> None:
        with pytest.raises(BadRequest, match=r"^") as caught:
            found(("Forwarded", f"for=192.0.2.1;proto={one}"), ("X-Forwarded-Proto", other))
        assert caught.value.reason == "Forwarded and X-Forwarded-Proto name different protocols."

    @pytest.mark.parametrize("proto", ["https", "wss", "gopher"])
    def test_protocols_that_mean_the_same_agree(self, proto: str) -> None:
        client = found(("Forwarded", "for=192.0.2.1;proto=https"), ("X-Forwarded-Proto", proto))
        assert client == ("192.0.2.1", 0, True)


#: What clients may write into a header's value.
ANYTHING = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60)
TRICKS = st.lists(
    st.sampled_from(
        [*'",;=\\ \t[]:.', "for", "proto", "https", "192.0.2.6", "10.0.0.1", "2001:db8::6", "unknown", "_a"]
    )
).map("".join)
#: Addresses that are not trusted.
CLIENTS = st.ip_addresses().filter(lambda one: not TRUSTED.have_ip(one)).map(str)


def believed(*fields: tuple[str, str]) -> Client | None:
    """What these header lines say of the client; None if they get 400."""
    try:
        return found(*fields)
    except BadRequest:
        return None


def is_at(client: Client, address: str) -> bool:
    one = ip_address(address)
    return client.host == str(getattr(one, "ipv4_mapped", None) or one)


def node(address: str) -> str:
    return f'"[{address}]"' if ":" in address else address


class TestForgery:
    """Whatever a client sends, the address that a trusted proxy adds is believed, or nothing."""

    @given(ANYTHING | TRICKS, CLIENTS)
    def test_an_x_forwarded_for_of_the_client_changes_nothing(self, forged: str, address: str) -> None:
        assert is_at(listed(forged, address), address)
        assert is_at(listed(forged, f"{address}, 10.0.0.1"), address)

    @given(ANYTHING | TRICKS, CLIENTS, st.sampled_from(["", ";proto=https", ';by="_a";host="b"']))
    def test_a_forwarded_of_the_client_changes_nothing_or_gets_400(self, forged: str, address: str, more: str) -> None:
        client = believed(("Forwarded", forged), ("Forwarded", f"for={node(address)}{more}"))
        assert client is None or (is_at(client, address) and client.secure is (True if "https" in more else None))

    @given(ANYTHING | TRICKS, CLIENTS)
    def test_the_other_header_of_the_client_changes_nothing_or_gets_400(self, forged: str, address: str) -> None:
        for client in (
            believed(("Forwarded", forged), ("X-Forwarded-For", address)),
            believed(("X-Forwarded-For", forged), ("Forwarded", f"for={node(address)}")),
        ):
            assert client is None or is_at(client, address)

    @given(ANYTHING | TRICKS, ANYTHING | TRICKS, ANYTHING | TRICKS)
    def test_whatever_comes_names_an_address_or_nobody(self, standard: str, old: str, proto: str) -> None:
        ours = [("Forwarded", standard), ("X-Forwarded-For", old), ("X-Forwarded-Proto", proto)]
        for fields in (ours, ours[1:], ours[::2]):
            client = believed(*fields)
            if client is not None:
                assert client.host is None or ip_address(client.host)
                assert 0 <= client.port <= 65_535
