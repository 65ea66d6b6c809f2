from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.internet.protocol import Factory
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.protocols.policies import WrappingFactory
from zope.interface import implementer

from tests.certificates import pem, self_signed
from wshost.fastnet.negotiation import (
    ClientHello,
    acceptable_protocols,
    check_ciphers,
    openssl_reason,
    server_answers,
    server_context,
)


@implementer(IProtocolNegotiationFactory)
class Negotiating(Factory):
    def acceptableProtocols(self) -> list[bytes]:
        return [b"chat", b"http/1.1"]


class TestAcceptableProtocols:
    def test_the_factory_says_which_protocols_it_accepts(self) -> None:
        assert acceptable_protocols(Negotiating()) == (b"chat", b"http/1.1")

    def test_a_factory_that_says_nothing_accepts_no_protocol(self) -> None:
        assert acceptable_protocols(Factory()) == ()
        assert acceptable_protocols(WrappingFactory(Factory())) == ()

    def test_a_wrapping_factory_accepts_what_the_wrapped_one_does(self) -> None:
        assert acceptable_protocols(HAProxyWrappingFactory(WrappingFactory(Negotiating()))) == (b"chat", b"http/1.1")


def hello(*protocols: str, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """Return the record with a client's first message."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = maximum
    if protocols:
        context.set_alpn_protocols(protocols)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def record(data: bytes, kind: int = 22) -> bytes:
    return bytes((kind, 3, 1)) + len(data).to_bytes(2) + data


def message(*extensions: tuple[int, bytes]) -> bytes:
    """Return a ClientHello with these extensions, and no more."""
    listed = b"".join(kind.to_bytes(2) + len(data).to_bytes(2) + data for kind, data in extensions)
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + len(listed).to_bytes(2) + listed
    return b"\1" + len(body).to_bytes(3) + body


def alpn(*names: bytes) -> tuple[int, bytes]:
    listed = b"".join(bytes((len(name),)) + name for name in names)
    return 16, len(listed).to_bytes(2) + listed


class TestClientHello:
    """RFC 8446 §4.1.2, RFC 7301 §3.1."""

    @pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_a_client_hello_tells_the_offered_protocols(self, maximum: ssl.TLSVersion) -> None:
        assert ClientHello().feed(hello("h2", "http/1.1", maximum=maximum)) == (b"h2", b"http/1.1")
        assert ClientHello().feed(hello(maximum=maximum)) == ()

    def test_bytes_like_those_of_alpn_in_another_extension_offer_nothing(self) -> None:
        assert ClientHello().feed(record(message((99, b"\0\x10\0\5\0\3\2h2")))) == ()

    def test_a_client_hello_is_read_when_it_is_whole(self) -> None:
        told = ClientHello()
        whole = hello("h2")[5:]
        for at in range(len(whole) - 1):
            assert told.feed(record(whole[at : at + 1])) is None
        assert told.feed(record(whole[-1:])) == (b"h2",)

    def test_a_client_hello_may_be_in_many_records(self) -> None:
        whole = hello("h2")[5:]
        parts = [record(whole[at : at + 7]) for at in range(0, len(whole), 7)]
        assert ClientHello().feed(b"".join(parts)) == (b"h2",)

    def test_other_extensions_are_skipped(self) -> None:
        hello = message((0x0A0A, b""), (0, b"name"), alpn(b"\n\n", b"h2"), (21, bytes(9)))
        assert ClientHello().feed(record(hello)) == (b"\n\n", b"h2")

    def test_a_client_hello_without_extensions_offers_nothing(self) -> None:
        """RFC 5246 §7.4.1.2: extensions may be left out, with their length."""
        body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0"
        assert ClientHello().feed(record(b"\1" + len(body).to_bytes(3) + body)) == ()

    @pytest.mark.parametrize(
        "records",
        [
            record(b"\2" + message(alpn(b"h2"))[1:]),
            record(b"\1\xff\xff\xff"),
            record(message((16, b""))),
            record(message((16, b"\0\0"))),
            record(message(alpn(b""))),
            record(message((16, b"\0\3\5h2"))),
            record(message((99, b"")) + b"\0"),
            record(b"\1\0\0\0"),
            record(b"\1\0\0\1\3"),
        ],
        ids=[
            *["ServerHello", "huge", "no list", "empty list", "empty name", "cut short"],
            *["nothing more", "no body", "no random"],
        ],
    )
    def test_a_malformed_client_hello_offers_nothing(self, records: bytes) -> None:
        assert ClientHello().feed(records) == ()

    @pytest.mark.parametrize("kind", [20, 21, 23], ids=["change of ciphers", "alert", "early data"])
    def test_records_of_other_types_are_skipped(self, kind: int) -> None:
        """RFC 8446 §2.3, §D.4."""
        other = record(b"\1", kind)
        assert ClientHello().feed(hello("h2") + other + record(bytes(100), kind)) == (b"h2",)
        told = ClientHello()
        assert told.feed(other) is None
        assert told.feed(hello("h2")) == (b"h2",)

    def test_a_client_hello_tells_the_name_that_the_client_asks_for(self) -> None:
        told = ClientHello()
        told.feed(hello("h2"))
        assert told.server_name == b"localhost"

    @pytest.mark.parametrize("extensions", [[], [alpn(b"h2")], [(0, b"")], [(0, b"\0\3\0")]])
    def test_a_client_hello_may_have_no_name(self, extensions: list[tuple[int, bytes]]) -> None:
        told = ClientHello()
        told.feed(record(message(*extensions)))
        assert told.server_name == b""

    def test_plain_http_is_no_client_hello(self) -> None:
        assert ClientHello().feed(b"GET / HTTP/1.1\r\n\r\n") is None

    def test_a_client_hello_is_read_no_further_than_it_goes(self) -> None:
        """Whatever the lengths in it say, it is read no further than it goes."""
        whole = message((0, b"name"), alpn(b"h2"))
        for end in range(4, len(whole)):
            cut = b"\1" + (end - 4).to_bytes(3) + whole[4:end]
            assert ClientHello().feed(record(cut)) in {(), (b"h2",)}


class TestServerContext:
    def test_a_connection_gives_its_client_one_ticket_that_resumes_it(self) -> None:
        authority = trustme.CA()
        theirs = ssl.create_default_context()
        authority.configure_trust(theirs)
        ours = server_context()
        authority.issue_cert("localhost").configure_cert(ours)
        session, resumed, tickets = None, [], []
        for _ in range(3):
            there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
            server = ours.wrap_bio(there, back, server_side=True)
            client = theirs.wrap_bio(back, there, server_hostname="localhost", session=session)
            for one in (client, server, client, server):
                with suppress(ssl.SSLWantReadError):
                    one.do_handshake()
            said = back.read()
            back.write(said)
            # One record, with all that the server says after the client's last part.
            tickets.append(5 + int.from_bytes(said[3:5]) == len(said))
            with suppress(ssl.SSLWantReadError):
                client.read(1)
            session = client.session
            resumed.append(client.session_reused)
        assert (tickets, resumed) == ([True] * 3, [False, True, True])


class TestCheckCiphers:
    @pytest.fixture
    def context(self) -> ssl.SSLContext:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def certify(self, context: ssl.SSLContext, curve: ec.EllipticCurve, where: Path) -> None:
        key = ec.generate_private_key(curve)
        (where / "both.pem").write_bytes(pem(key) + self_signed(key))
        context.load_cert_chain(where / "both.pem")

    @pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
    def test_common_curves_have_a_common_cipher(
        self, context: ssl.SSLContext, curve: ec.EllipticCurve, tmp_path: Path
    ) -> None:
        self.certify(context, curve, tmp_path)
        said: list[bytes] = []

        def noted(client: bytes) -> bytes:
            said.append(server_answers(context)(client))
            return said[0]

        check_ciphers(noted)
        assert said[0].startswith(b"\x16\3\3"), "a ServerHello"

    @pytest.mark.parametrize("curve", [ec.SECP256K1(), ec.SECP224R1()], ids=lambda curve: curve.name)
    def test_other_curves_have_no_common_cipher(
        self, context: ssl.SSLContext, curve: ec.EllipticCurve, tmp_path: Path
    ) -> None:
        self.certify(context, curve, tmp_path)
        with pytest.raises(ssl.SSLError) as caught:
            check_ciphers(server_answers(context))
        assert openssl_reason(caught.value) == "no shared cipher"

    def test_a_client_that_refuses_raises_its_error(self) -> None:
        refusing: Callable[[bytes], Any] = lambda _: b"\x15\3\3\0\2\2\x28"  # noqa: E731
        with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
            check_ciphers(refusing)

    def test_no_certificate_of_the_client_is_needed(self, context: ssl.SSLContext) -> None:
        trustme.CA().issue_cert("localhost").configure_cert(context)
        context.verify_mode = ssl.CERT_REQUIRED
        assert server_answers(context)(hello()).startswith(b"\x16\3\3")
        check_ciphers(server_answers(context))
