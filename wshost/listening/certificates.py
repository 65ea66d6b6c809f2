"""Loads and checks the files for TLS: certificates, keys, authorities of clients. Knows no endpoint."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLContextFactory
from zope.interface import implementer

from wshost.fastnet.negotiation import check_ciphers, openssl_reason, server_answers, server_context
from wshost.listening.sni import ServerNames
from wshost.results import ConfigurationError

if TYPE_CHECKING:
    from twisted.internet.ssl import CertificateOptions

_PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey


class _Identity:
    """A certificate with its chain and its key, checked.

    :param cert: a PEM file with the certificate first, then the rest of its chain.
    :param key: a PEM file with the private key; None when `cert` has the key, too.
    :raises ConfigurationError: as `Certificates`.
    """

    def __init__(self, cert: str, key: str | None) -> None:
        self.path = cert
        self.certificates = _certificates(cert)
        self.private_key = _private_key(key or cert)
        if self.private_key.public_key() != self.certificates[0].public_key():
            raise ConfigurationError(f"{key or cert}: the private key is not that of the (first) certificate in {cert}")
        self.context = server_context()
        try:
            self.context.load_cert_chain(cert, key)
        except ssl.SSLError as error:
            raise ConfigurationError(f"{cert}: OpenSSL won't use the certificate: {_reason(error)}") from error
        try:
            check_ciphers(server_answers(self.context))
        except ssl.SSLError as error:
            raise _no_cipher(cert, error) from error

    @property
    def names(self) -> list[str]:
        """The names in the certificate's subjectAltName (RFC 6125 §6.4); none if that can't be read.

        OpenSSL decides whether a certificate can be used. It takes some that this parser refuses.
        """
        with suppress(x509.ExtensionNotFound, x509.UnsupportedGeneralNameType, ValueError):
            extension = self.certificates[0].extensions.get_extension_for_class(x509.SubjectAlternativeName)
            return extension.value.get_values_for_type(x509.DNSName)
        return []

    def options(self, trusted: Sequence[x509.Certificate]) -> CertificateOptions:
        """Return options for Twisted's own TLS.

        :param trusted: the authorities of clients; clients need no certificate if there are none.
        """
        from twisted.internet.ssl import (  # noqa: PLC0415 - few servers need it, and it is slow
            Certificate,
            CertificateOptions,
            TLSVersion,
            trustRootFromCertificates,
        )

        # Twisted's annotations want pyOpenSSL's own classes, which pyOpenSSL has deprecated.
        certificates: Any = self.certificates
        private_key: Any = self.private_key
        leaf, *chain = certificates
        authorities = [Certificate(crypto.X509.from_cryptography(one)) for one in trusted]
        return CertificateOptions(
            privateKey=private_key,
            certificate=leaf,
            extraCertChain=chain,
            trustRoot=trustRootFromCertificates(authorities) if authorities else None,
            raiseMinimumTo=TLSVersion.TLSv1_2,
        )


class Certificates:
    """The files for TLS, as a context for the standard library and for Twisted. Both accept TLS 1.2 and later.

    Of several certificates, the context presents the one that has the name which the client asks for, or else the
    first.

    :param certs: PEM files, each with a certificate of the server first, then the rest of its chain.
    :param keys: PEM files with their private keys, not encrypted, in the same order; none when the files of the
        certificates have the keys, too.
    :param client_ca: a PEM file of authorities: clients must present a certificate that one of them has signed. None:
        clients need no certificate.
    :raises ConfigurationError: naming the file, when it can't be read or holds something else; when no client would
        agree on a cipher for a certificate; or when no client would get a certificate, as it has no name of its own.
    """

    def __init__(self, certs: Sequence[str], keys: Sequence[str] = (), client_ca: str | None = None) -> None:
        self._identities = [_Identity(*pair) for pair in zip_longest(certs, keys)]
        self._names = ServerNames([identity.names for identity in self._identities])
        for place, identity in enumerate(self._identities):
            if not self._names.serves(place):
                raise ConfigurationError(
                    f"{identity.path}: no client would get this certificate: it has no name (subjectAltName) that no "
                    "certificate before it has"
                )
        self._trusted = _certificates(client_ca) if client_ca else []
        for identity in self._identities if client_ca else ():
            identity.context.load_verify_locations(client_ca)
            identity.context.verify_mode = ssl.CERT_REQUIRED
        #: For the standard library's TLS, which `wshost.fastnet` uses.
        self.context = self._identities[0].context
        if len(self._identities) > 1:
            self.context.choose = self._choose

    def __len__(self) -> int:
        return len(self._identities)

    def _choose(self, name: bytes) -> ssl.SSLContext:
        return self._identities[self._names.place(name)].context

    def out_of_date(self, now: datetime) -> list[str]:
        """Return one line about each certificate that clients will refuse at this time."""
        lines = []
        for identity in self._identities:
            leaf = identity.certificates[0]
            start, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
            if now > end:
                lines.append(f"{identity.path}: the certificate expired at {end:%Y-%m-%d %H:%M} UTC")
            if now < start:
                lines.append(f"{identity.path}: the certificate is valid only from {start:%Y-%m-%d %H:%M} UTC")
        return lines

    def select(self, protocols: Sequence[bytes]) -> None:
        """Let `context` select one of these by ALPN, with any of the certificates: the favourite first."""
        for identity in self._identities if protocols else ():
            identity.context.set_alpn_protocols([name.decode("ascii") for name in protocols])

    def context_factory(self, protocols: Sequence[bytes] = ()) -> CertificateOptions:
        """Return a context for Twisted's own TLS.

        :param protocols: see `negotiate`.
        :raises ConfigurationError: as the class does.
        """
        first, *others = [identity.options(self._trusted) for identity in self._identities]
        for options, identity in zip(others, self._identities[1:], strict=True):
            negotiate(options, protocols, identity.path)

        def choose(connection: SSL.Connection) -> None:
            place = self._names.place(connection.get_servername() or b"")
            if place:
                connection.set_context(others[place - 1].getContext())

        negotiate(first, protocols, self._identities[0].path, choose if others else None)
        return first


@implementer(IOpenSSLContextFactory)
class Renewable:
    """Options for Twisted's TLS that may be replaced while it is in use: each connection asks for the context anew."""

    def __init__(self, options: CertificateOptions) -> None:
        #: Those for new connections.
        self.options = options

    def getContext(self) -> SSL.Context:
        return self.options.getContext()


def negotiate(
    options: CertificateOptions,
    protocols: Sequence[bytes],
    name: str,
    choose: Callable[[SSL.Connection], None] | None = None,
) -> None:
    """Let Twisted's TLS select a protocol by ALPN, as RFC 7301 §3.2 says, and check its certificate.

    Twisted's own callback returns an empty name when there is nothing to select: OpenSSL makes an internal error of it.

    :param options: Twisted's options; no connection may have been made with them yet.
    :param protocols: the favourite first. A client that offers only others is refused; with none, nothing is selected.
    :param name: names the certificate in errors.
    :param choose: called with each connection when it is known which name the client asks for, if any.
    :raises ConfigurationError: when OpenSSL won't use the certificate, or no client would agree on a cipher for it.
    """

    def select(_: SSL.Connection, offered: Sequence[bytes]) -> Any:
        for protocol in protocols:
            if protocol in offered:
                return protocol
        if protocols:
            # OpenSSL sends the alert no_application_protocol, and `do_handshake` raises this error.
            raise SSL.Error([("SSL routines", "", "no application protocol")])
        return SSL.NO_OVERLAPPING_PROTOCOLS

    def answer(hello: bytes) -> bytes:
        server = SSL.Connection(context)
        server.set_accept_state()
        server.bio_write(hello)
        with suppress(SSL.WantReadError):
            server.do_handshake()
        return server.bio_read(1 << 16)

    try:
        with warnings.catch_warnings():
            # Twisted's own endpoints use functions that pyOpenSSL has deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            context = options.getContext()
    except SSL.Error as error:
        raise ConfigurationError(f"{name}: OpenSSL won't use the certificate: {_reason(error)}") from error
    context.set_alpn_select_callback(select)
    if choose is not None:
        context.set_tlsext_servername_callback(choose)
    try:
        check_ciphers(answer)
    except (SSL.Error, ssl.SSLError) as error:
        raise _no_cipher(name, error) from error


def _no_cipher(name: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"{name}: clients can't agree on a cipher for it: {_reason(error)}; use a key of RSA, or on the curve P-256"
    )


def _reason(error: Exception) -> str:
    """Return OpenSSL's reason for an error of the standard library or of pyOpenSSL, in words."""
    if isinstance(error, ssl.SSLError):
        return openssl_reason(error)
    return "; ".join(what for _, _, what in error.args[0])


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error


def _certificates(path: str) -> list[x509.Certificate]:
    pem = _read(path)
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ConfigurationError(f"{path}: no certificate in PEM") from error


def _private_key(path: str) -> _PrivateKey:
    pem = _read(path)
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise ConfigurationError(f"{path}: the private key is encrypted; decrypt it first") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{path}: no private key in PEM") from error
    if not isinstance(key, _PrivateKey):
        raise ConfigurationError(f"{path}: TLS can't use a private key of this kind")
    return key
