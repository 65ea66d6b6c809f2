"""Loads and checks the files for TLS: certificates, keys, authorities of clients. Knows no endpoint."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Sequence
from contextlib import suppress
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

from wshost.fastnet.negotiation import check_ciphers, openssl_reason, server_answers, server_context
from wshost.results import ConfigurationError

if TYPE_CHECKING:
    from twisted.internet.ssl import CertificateOptions

_PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey


class Certificates:
    """The files for TLS, as a context for the standard library and for Twisted. Both accept TLS 1.2 and later.

    :param cert: a PEM file with the server's certificate first, then the rest of its chain.
    :param key: a PEM file with the private key, not encrypted; None when `cert` has the key, too.
    :param client_ca: a PEM file of authorities: clients must present a certificate that one of them has signed. None:
        clients need no certificate.
    :raises ConfigurationError: naming the file, when it can't be read or holds something else, or when no client would
        agree on a cipher for the certificate.
    """

    def __init__(self, cert: str, key: str | None = None, client_ca: str | None = None) -> None:
        self._cert = cert
        self._certificates = _certificates(cert)
        self._private_key = _private_key(key or cert)
        if self._private_key.public_key() != self._certificates[0].public_key():
            raise ConfigurationError(f"{key or cert}: the private key is not that of the (first) certificate in {cert}")
        self._trusted = _certificates(client_ca) if client_ca else []
        #: For the standard library's TLS, which `wshost.fastnet` uses.
        self.context = server_context()
        try:
            self.context.load_cert_chain(cert, key)
        except ssl.SSLError as error:
            raise ConfigurationError(f"{cert}: OpenSSL won't use the certificate: {_reason(error)}") from error
        try:
            check_ciphers(server_answers(self.context))
        except ssl.SSLError as error:
            raise _no_cipher(cert, error) from error
        if client_ca:
            self.context.load_verify_locations(client_ca)
            self.context.verify_mode = ssl.CERT_REQUIRED

    def context_factory(self, protocols: Sequence[bytes] = ()) -> CertificateOptions:
        """Return a context for Twisted's own TLS.

        :param protocols: see `negotiate`.
        :raises ConfigurationError: as the class does.
        """
        from twisted.internet.ssl import (  # noqa: PLC0415 - few servers need it, and it is slow
            Certificate,
            CertificateOptions,
            TLSVersion,
            trustRootFromCertificates,
        )

        # Twisted's annotations want pyOpenSSL's own classes, which pyOpenSSL has deprecated.
        certificates: Any = self._certificates
        private_key: Any = self._private_key
        leaf, *chain = certificates
        trusted = [Certificate(crypto.X509.from_cryptography(one)) for one in self._trusted]
        options = CertificateOptions(
            privateKey=private_key,
            certificate=leaf,
            extraCertChain=chain,
            trustRoot=trustRootFromCertificates(trusted) if trusted else None,
            raiseMinimumTo=TLSVersion.TLSv1_2,
        )
        negotiate(options, protocols, self._cert)
        return options


def negotiate(options: CertificateOptions, protocols: Sequence[bytes], name: str) -> None:
    """Let Twisted's TLS select a protocol by ALPN, as RFC 7301 §3.2 says, and check its certificate.

    Twisted's own callback returns an empty name when there is nothing to select: OpenSSL makes an internal error of it.

    :param options: Twisted's options; no connection may have been made with them yet.
    :param protocols: the favourite first. A client that offers only others is refused; with none, nothing is selected.
    :param name: names the certificate in errors.
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
