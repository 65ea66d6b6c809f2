"""Loads and checks the certificates that the server shows and demands. Knows no option and no endpoint."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from wshost.results import ConfigurationError

if TYPE_CHECKING:
    from twisted.internet.ssl import CertificateOptions

_PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey


class Certificates:
    """What TLS connections are made with, in two forms: TLS 1.2 and later.

    :param cert: a PEM file with the server's certificate first, then the others of its chain.
    :param key: a PEM file with its private key, not encrypted; None when that is in `cert`, too.
    :param client_ca: a PEM file of authorities; clients must then show a certificate that one of them has signed.
    :raises ConfigurationError: naming the file, when one can't be read, or holds something else.
    """

    def __init__(self, cert: str, key: str | None = None, client_ca: str | None = None) -> None:
        self._certificates = _certificates(cert)
        self._private_key = _private_key(key or cert)
        if self._private_key.public_key() != self._certificates[0].public_key():
            raise ConfigurationError(f"{key or cert}: the private key is not that of the (first) certificate in {cert}")
        self._trusted = _certificates(client_ca) if client_ca else []
        #: For the standard library.
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= ssl.OP_NO_RENEGOTIATION
        try:
            self.context.load_cert_chain(cert, key)
        except ssl.SSLError as error:
            reason = error.reason.lower().replace("_", " ")
            raise ConfigurationError(f"{cert}: OpenSSL won't use the certificate: {reason}") from error
        if client_ca:
            self.context.load_verify_locations(client_ca)
            self.context.verify_mode = ssl.CERT_REQUIRED

    def context_factory(self) -> CertificateOptions:
        """Return the form for Twisted's own TLS."""
        # pyOpenSSL is imported only where it is needed.
        from OpenSSL import crypto  # noqa: PLC0415
        from twisted.internet.ssl import (  # noqa: PLC0415
            Certificate,
            CertificateOptions,
            TLSVersion,
            trustRootFromCertificates,
        )

        # Twisted's annotations know only pyOpenSSL's own classes for these; pyOpenSSL has them deprecated.
        certificates: Any = self._certificates
        private_key: Any = self._private_key
        leaf, *chain = certificates
        trusted = [Certificate(crypto.X509.from_cryptography(one)) for one in self._trusted]
        return CertificateOptions(
            privateKey=private_key,
            certificate=leaf,
            extraCertChain=chain,
            trustRoot=trustRootFromCertificates(trusted) if trusted else None,
            raiseMinimumTo=TLSVersion.TLSv1_2,
        )


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
        raise ConfigurationError(f"{path}: a private key of this kind is of no use for TLS")
    return key
