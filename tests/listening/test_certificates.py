from __future__ import annotations

import re
import ssl
import subprocess
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from OpenSSL import SSL
from twisted.internet.ssl import CertificateOptions, TLSVersion

from tests import programs
from tests.certificates import SigningKey, pem, self_signed
from wshost.listening.certificates import Certificates, negotiate
from wshost.results import ConfigurationError


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(ca: trustme.CA) -> trustme.LeafCert:
    """A certificate in server.pem, its key in server.key."""
    issued = ca.issue_cert("localhost")
    issued.private_key_pem.write_to_path("server.key")
    for blob in issued.cert_chain_pems:
        blob.write_to_path("server.pem", append=True)
    return issued


def shake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Let the standard library shake its own hands, in memory; return the server's side."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    for _ in range(3):
        for side in (theirs, ours):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return ours


def handshake(factory: CertificateOptions, client: ssl.SSLContext) -> tuple[ssl.SSLObject, SSL.Connection]:
    """Let the standard library's client and the server shake hands, in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = SSL.Connection(factory.getContext())
    ours.set_accept_state()
    theirs = client.wrap_bio(to_client, to_server, server_hostname="localhost")

    for _ in range(3):
        with suppress(ssl.SSLWantReadError):
            theirs.do_handshake()
        if to_server.pending:
            ours.bio_write(to_server.read())
        with suppress(SSL.WantReadError):
            ours.do_handshake()
        with suppress(SSL.WantReadError):
            to_client.write(ours.bio_read(1 << 16))
    return theirs, ours


class TestContextFactory:
    def test_clients_that_trust_the_authority_trust_the_server(self, ca: trustme.CA, server: trustme.LeafCert) -> None:
        client = ssl.create_default_context()
        ca.configure_trust(client)
        theirs, _ = handshake(Certificates(["server.pem"], ["server.key"]).context_factory(), client)
        assert theirs.version() == "TLSv1.3"

    def test_the_chain_is_sent(self, ca: trustme.CA) -> None:
        issued = ca.create_child_ca().issue_cert("localhost")
        Path("server.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path("server.key")
        client = ssl.create_default_context()
        ca.configure_trust(client)
        theirs, _ = handshake(Certificates(["server.pem"], ["server.key"]).context_factory(), client)
        assert theirs.version() == "TLSv1.3"

    def test_the_key_may_be_in_the_certificates_file(self, ca: trustme.CA, server: trustme.LeafCert) -> None:
        server.private_key_and_cert_chain_pem.write_to_path("both.pem")
        client = ssl.create_default_context()
        ca.configure_trust(client)
        theirs, _ = handshake(Certificates(["both.pem"]).context_factory(), client)
        assert theirs.version() == "TLSv1.3"

    def test_tls_1_1_is_refused(self, ca: trustme.CA, server: trustme.LeafCert) -> None:
        client = ssl.create_default_context()
        ca.configure_trust(client)
        client.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(SSL.Error, match="unsupported protocol"):
            handshake(Certificates(["server.pem"], ["server.key"]).context_factory(), client)

    def test_tls_1_2_is_taken(self, ca: trustme.CA, server: trustme.LeafCert) -> None:
        client = ssl.create_default_context()
        ca.configure_trust(client)
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        theirs, _ = handshake(Certificates(["server.pem"], ["server.key"]).context_factory(), client)
        assert theirs.version() == "TLSv1.2"

    @pytest.mark.parametrize(
        "generate",
        [
            lambda: rsa.generate_private_key(65537, 2048),
            lambda: ec.generate_private_key(ec.SECP256R1()),
            ed25519.Ed25519PrivateKey.generate,
            ed448.Ed448PrivateKey.generate,
        ],
        ids=["RSA", "EC", "Ed25519", "Ed448"],
    )
    def test_every_kind_of_signing_key_is_taken(self, generate: Callable[[], SigningKey]) -> None:
        key = generate()
        Path("both.pem").write_bytes(pem(key) + self_signed(key))
        assert isinstance(Certificates(["both.pem"]).context_factory(), CertificateOptions)


class TestALPN:
    """RFC 7301 §3.2, where Twisted's own TLS serves."""

    @pytest.fixture
    def client(self, ca: trustme.CA, server: trustme.LeafCert) -> ssl.SSLContext:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ca.configure_trust(client)
        return client

    def options(self, *protocols: bytes) -> CertificateOptions:
        return Certificates(["server.pem"], ["server.key"]).context_factory(protocols)

    @pytest.mark.parametrize("offered", [["http/1.1"], ["h2", "http/1.1"], ["http/1.1", "h2"]], ids=" ".join)
    def test_a_protocol_that_both_speak_is_selected(self, client: ssl.SSLContext, offered: list[str]) -> None:
        client.set_alpn_protocols(offered)
        theirs, ours = handshake(self.options(b"http/1.1"), client)
        assert theirs.selected_alpn_protocol() == "http/1.1"
        assert ours.get_alpn_proto_negotiated() == b"http/1.1"

    def test_the_servers_favourite_protocol_is_selected(self, client: ssl.SSLContext) -> None:
        client.set_alpn_protocols(["a", "b", "c"])
        theirs, _ = handshake(self.options(b"x", b"c", b"a"), client)
        assert theirs.selected_alpn_protocol() == "c"

    def test_clients_that_offer_only_other_protocols_are_refused(self, client: ssl.SSLContext) -> None:
        client.set_alpn_protocols(["h2"])
        with pytest.raises(SSL.Error, match="no application protocol"):
            handshake(self.options(b"http/1.1"), client)

    @pytest.mark.parametrize("offered", [[], ["h2"]], ids=["nothing", "h2"])
    def test_no_protocol_is_selected_where_none_is_named(self, client: ssl.SSLContext, offered: list[str]) -> None:
        client.set_alpn_protocols(offered)
        theirs, _ = handshake(self.options(), client)
        assert theirs.version() == "TLSv1.3"
        assert theirs.selected_alpn_protocol() is None


class TestACertificateThatNoClientTakes:
    @pytest.mark.parametrize(
        "curve",
        [ec.SECP256K1(), ec.SECP224R1(), ec.BrainpoolP256R1(), ec.BrainpoolP384R1(), ec.BrainpoolP512R1()],
        ids=lambda curve: curve.name,
    )
    def test_a_certificate_without_a_common_cipher_is_refused(self, curve: ec.EllipticCurve) -> None:
        key = ec.generate_private_key(curve)
        Path("odd.pem").write_bytes(pem(key) + self_signed(key))
        with pytest.raises(ConfigurationError) as caught:
            Certificates(["odd.pem"])
        # Which of the two it is depends on OpenSSL.
        assert re.fullmatch(
            r"odd\.pem: clients can't agree on a cipher for it: no (shared cipher|suitable signature algorithm); "
            r"use a key of RSA, or on the curve P-256",
            str(caught.value),
        )

    def test_twisteds_tls_refuses_a_certificate_without_a_common_cipher(self) -> None:
        # Twisted's annotations know only pyOpenSSL's own classes.
        key: Any = ec.generate_private_key(ec.SECP224R1())
        certificate: Any = x509.load_pem_x509_certificate(self_signed(key))
        options = CertificateOptions(
            privateKey=key,
            certificate=certificate,
            raiseMinimumTo=TLSVersion.TLSv1_2,
        )
        with pytest.raises(
            ConfigurationError, match=r"^odd: clients can't agree on a cipher for it: no shared cipher; "
        ):
            negotiate(options, (b"http/1.1",), "odd")

    def test_a_certificate_that_pyopenssl_refuses_can_be_used_without_it(self) -> None:
        """RSA-PSS (RFC 8446 §4.2.3): the key in the certificate is not of the kind of the private one, it finds."""
        openssl = programs.find("openssl", package="openssl")
        command = [openssl, "req", "-x509", "-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048", "-nodes"]
        subprocess.run(
            [*command, "-subj", "/CN=localhost", "-keyout", "pss.key", "-out", "pss.pem"],
            check=True,
            capture_output=True,
        )
        certificates = Certificates(["pss.pem"], ["pss.key"])
        with pytest.raises(ConfigurationError, match=r"^pss.pem: OpenSSL won't use the certificate: \w"):
            certificates.context_factory()


class TestContext:
    """The standard library's form."""

    @pytest.fixture
    def client(self, ca: trustme.CA, server: trustme.LeafCert) -> ssl.SSLContext:
        client = ssl.create_default_context()
        ca.configure_trust(client)
        ca.cert_pem.write_to_path("ca.pem")
        return client

    def test_the_context_shows_the_certificate(self, client: ssl.SSLContext) -> None:
        assert shake(Certificates(["server.pem"], ["server.key"]).context, client).version() == "TLSv1.3"

    def test_the_context_asks_for_no_clients_certificate(self, client: ssl.SSLContext, ca: trustme.CA) -> None:
        ca.issue_cert("ada@example.com").configure_cert(client)
        assert shake(Certificates(["server.pem"], ["server.key"]).context, client).getpeercert(True) is None

    def test_the_context_demands_a_clients_certificate_of_the_authority(
        self, client: ssl.SSLContext, ca: trustme.CA
    ) -> None:
        context = Certificates(["server.pem"], ["server.key"], "ca.pem").context
        client.maximum_version = ssl.TLSVersion.TLSv1_2  # in which a refusal is part of the handshake
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            shake(context, client)
        ca.issue_cert("ada@example.com").configure_cert(client)
        assert shake(context, client).getpeercert() is not None

    def test_the_context_refuses_tls_1_1(self, client: ssl.SSLContext) -> None:
        context = Certificates(["server.pem"], ["server.key"]).context
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION


def shown(ours: Certificates, name: str | None, ca: trustme.CA, twisteds: bool = False) -> list[str]:
    """Return the names of the certificate that a client gets which asks for this name."""
    client = ssl.create_default_context()
    ca.configure_trust(client)
    client.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = client.wrap_bio(incoming, outgoing, server_hostname=name)
    server: Any
    if twisteds:
        server = SSL.Connection(ours.context_factory([b"http/1.1"]).getContext())
        server.set_accept_state()
    else:
        # As the handshake of wshost's own transports does.
        choose = ours.context.choose
        context = ours.context if choose is None else choose((name or "").encode())
        server = context.wrap_bio(to_server := ssl.MemoryBIO(), incoming, server_side=True)
    for _ in range(3):
        with suppress(ssl.SSLWantReadError):
            theirs.do_handshake()
        if outgoing.pending:
            (server.bio_write if twisteds else to_server.write)(outgoing.read())
        with suppress(SSL.WantReadError, ssl.SSLWantReadError):
            server.do_handshake()
        with suppress(SSL.WantReadError):
            if twisteds:
                incoming.write(server.bio_read(1 << 16))
    encoded = theirs.getpeercert(True)
    assert encoded is not None
    names = x509.load_der_x509_certificate(encoded).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return names.value.get_values_for_type(x509.DNSName)


def issue(ca: trustme.CA, path: str, *names: str) -> str:
    """Write a certificate with its key to a file."""
    ca.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(path)
    return path


class TestSeveral:
    """RFC 6066 §3."""

    @pytest.mark.parametrize("twisteds", [False, True])
    @pytest.mark.parametrize(
        ("asked", "names"),
        [
            (None, ["a.example"]),
            ("b.example", ["b.example", "c.example"]),
            ("C.Example", ["b.example", "c.example"]),
            ("chat.d.example", ["*.d.example"]),
            ("other.example", ["a.example"]),
        ],
    )
    def test_a_client_gets_the_certificate_with_the_name_it_asks_for_or_else_the_first(
        self, ca: trustme.CA, twisteds: bool, asked: str | None, names: list[str]
    ) -> None:
        certificates = Certificates(
            [
                issue(ca, "a.pem", "a.example"),
                issue(ca, "b.pem", "b.example", "c.example"),
                issue(ca, "d.pem", "*.d.example"),
            ]
        )
        assert len(certificates) == 3
        assert shown(certificates, asked, ca, twisteds) == names

    def test_each_certificate_has_its_own_key(self, ca: trustme.CA, server: trustme.LeafCert) -> None:
        other = ca.issue_cert("b.example")
        other.private_key_pem.write_to_path("b.key")
        other.cert_chain_pems[0].write_to_path("b.pem")
        certificates = Certificates(["server.pem", "b.pem"], ["server.key", "b.key"])
        assert shown(certificates, "b.example", ca) == ["b.example"]

    def test_one_certificate_costs_no_choice(self, server: trustme.LeafCert) -> None:
        assert Certificates(["server.pem"], ["server.key"]).context.choose is None

    def test_clients_certificates_are_demanded_with_each(self, ca: trustme.CA) -> None:
        ca.cert_pem.write_to_path("ca.pem")
        files = [issue(ca, "a.pem", "a.example"), issue(ca, "b.pem", "b.example")]
        certificates = Certificates(files, client_ca="ca.pem")
        assert certificates.context.choose is not None
        assert certificates.context.choose(b"b.example").verify_mode is ssl.CERT_REQUIRED

    def test_protocols_are_selected_with_each(self, ca: trustme.CA) -> None:
        certificates = Certificates([issue(ca, "a.pem", "a.example"), issue(ca, "localhost.pem", "localhost")])
        certificates.select([b"chat", b"http/1.1"])
        assert certificates.context.choose is not None
        client = ssl.create_default_context()
        ca.configure_trust(client)
        client.set_alpn_protocols(["http/1.1"])
        assert shake(certificates.context.choose(b"localhost"), client).selected_alpn_protocol() == "http/1.1"

    @pytest.mark.parametrize("name", [["a.example"], []])
    def test_a_certificate_that_no_client_would_get_is_refused(self, ca: trustme.CA, name: list[str]) -> None:
        if name:
            issue(ca, "b.pem", *name)
        else:
            key = ec.generate_private_key(ec.SECP256R1())
            Path("b.pem").write_bytes(pem(key) + self_signed(key))
        with pytest.raises(ConfigurationError, match=r"^b\.pem: no client would get this certificate: "):
            Certificates([issue(ca, "a.pem", "a.example"), "b.pem"])

    @pytest.mark.parametrize("names", [b"\x30\x04\x87\x02ab", b"\x30\x06\xa3\x00\x82\x02ab"])
    def test_a_certificate_whose_names_can_not_be_read_has_none(self, ca: trustme.CA, names: bytes) -> None:
        """An address of the wrong length; a name of a kind that the parser does not know, before another."""
        key = ec.generate_private_key(ec.SECP256R1())
        Path("odd.pem").write_bytes(pem(key) + self_signed(key, names))
        assert len(Certificates(["odd.pem", issue(ca, "a.pem", "a.example")])) == 2
        with pytest.raises(ConfigurationError, match=r"^odd\.pem: no client would get this certificate: "):
            Certificates(["a.pem", "odd.pem"])


class TestDates:
    def test_a_certificate_that_is_valid_is_not_out_of_date(self, server: trustme.LeafCert) -> None:
        assert Certificates(["server.pem"], ["server.key"]).out_of_date(datetime.now(UTC)) == []

    def test_a_certificate_that_has_expired_or_is_not_valid_yet_is_named(
        self, ca: trustme.CA, server: trustme.LeafCert
    ) -> None:
        start, end = datetime(2020, 1, 2, tzinfo=UTC), datetime(2020, 3, 4, tzinfo=UTC)
        issued = ca.issue_cert("old.example", not_before=start, not_after=end)
        issued.private_key_and_cert_chain_pem.write_to_path("old.pem")
        certificates = Certificates(["old.pem"])
        assert certificates.out_of_date(end + timedelta(1)) == [
            "old.pem: the certificate expired at 2020-03-04 00:00 UTC"
        ]
        assert certificates.out_of_date(start - timedelta(1)) == [
            "old.pem: the certificate is valid only from 2020-01-02 00:00 UTC"
        ]


class TestClientCertificates:
    @pytest.fixture
    def client(self, ca: trustme.CA, server: trustme.LeafCert) -> ssl.SSLContext:
        client = ssl.create_default_context()
        client.maximum_version = ssl.TLSVersion.TLSv1_2  # in which a refusal is part of the handshake
        ca.configure_trust(client)
        ca.cert_pem.write_to_path("ca.pem")
        return client

    def test_clients_certificates_of_the_authority_are_accepted(self, ca: trustme.CA, client: ssl.SSLContext) -> None:
        ca.issue_cert("ada@example.com").configure_cert(client)
        _, ours = handshake(Certificates(["server.pem"], ["server.key"], "ca.pem").context_factory(), client)
        certificate = ours.get_peer_certificate()
        assert certificate is not None
        names = certificate.to_cryptography().extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert names.value.get_values_for_type(x509.RFC822Name) == ["ada@example.com"]

    def test_clients_certificates_of_another_authority_are_refused(self, client: ssl.SSLContext) -> None:
        trustme.CA().issue_cert("ada@example.com").configure_cert(client)
        with pytest.raises(SSL.Error, match="certificate verify failed"):
            handshake(Certificates(["server.pem"], ["server.key"], "ca.pem").context_factory(), client)

    def test_clients_certificates_are_demanded(self, client: ssl.SSLContext) -> None:
        with pytest.raises(SSL.Error, match="peer did not return a certificate"):
            handshake(Certificates(["server.pem"], ["server.key"], "ca.pem").context_factory(), client)

    def test_clients_certificates_are_not_asked_for_by_default(self, client: ssl.SSLContext) -> None:
        trustme.CA().issue_cert("ada@example.com").configure_cert(client)
        _, ours = handshake(Certificates(["server.pem"], ["server.key"]).context_factory(), client)
        assert ours.get_peer_certificate() is None


class TestWhatIsWrong:
    @pytest.fixture(autouse=True)
    def _files(self, server: trustme.LeafCert) -> None:
        Path("text.pem").write_text("no PEM", encoding="ascii")
        Path("directory").mkdir()
        secret = BestAvailableEncryption(b"secret")
        Path("encrypted.key").write_bytes(pem(ec.generate_private_key(ec.SECP256R1()), secret))
        Path("exchange.key").write_bytes(pem(x25519.X25519PrivateKey.generate()))
        Path("broken.key").write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        trustme.CA().issue_cert("localhost").private_key_pem.write_to_path("other.key")
        weak = rsa.generate_private_key(65537, 1024)
        Path("weak.pem").write_bytes(pem(weak) + self_signed(weak))

    @pytest.mark.parametrize(
        ("files", "complaint"),
        [
            (("none.pem",), "none.pem: No such file or directory"),
            (("directory",), "directory: Is a directory"),
            (("text.pem",), "text.pem: no certificate in PEM"),
            (("server.key",), "server.key: no certificate in PEM"),
            (("server.pem",), "server.pem: no private key in PEM"),
            (("server.pem", "none.key"), "none.key: No such file or directory"),
            (("server.pem", "text.pem"), "text.pem: no private key in PEM"),
            (("server.pem", "broken.key"), "broken.key: no private key in PEM"),
            (("server.pem", "encrypted.key"), "encrypted.key: the private key is encrypted; decrypt it first"),
            (("server.pem", "exchange.key"), "exchange.key: TLS can't use a private key of this kind"),
            (
                ("server.pem", "other.key"),
                "other.key: the private key is not that of the (first) certificate in server.pem",
            ),
            (("server.pem", "server.key", "none.pem"), "none.pem: No such file or directory"),
            (("server.pem", "server.key", "text.pem"), "text.pem: no certificate in PEM"),
            (("weak.pem",), "weak.pem: OpenSSL won't use the certificate: ee key too small"),
        ],
    )
    def test_unusable_files_are_refused_by_name(self, files: tuple[str, ...], complaint: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            Certificates(files[:1], files[1:2], *files[2:])
        assert str(caught.value) == complaint
