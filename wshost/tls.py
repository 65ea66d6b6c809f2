"""Loads and checks the certificates that the server shows and demands. Knows no option and no endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.ssl import Certificate, CertificateOptions, TLSVersion, trustRootFromCertificates

from wshost.results import ConfigurationError

_PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey


def context_factory(cert: str, key: str | None = None, client_ca: str | None = None) -> CertificateOptions:
    """Return what TLS connections are made with: TLS 1.2 and later.

    :param cert: a PEM file with the server's certificate first, then the others of its chain.
    :param key: a PEM file with its private key, not encrypted; None when that is in `cert`, too.
    :param client_ca: a PEM file of authorities; clients must then show a certificate that one of them has signed.
    :raises ConfigurationError: naming the file, when one can't be read, or holds something else.
    """
    # Twisted's annotations know only pyOpenSSL's own classes for these; pyOpenSSL has them deprecated.
    certificates: Any = _certificates(cert)
    private_key: Any = _private_key(key or cert)
    leaf, *chain = certificates
    if private_key.public_key() != leaf.public_key():
        raise ConfigurationError(f"{key or cert}: the private key is not that of the (first) certificate in {cert}")
    trusted = [Certificate(crypto.X509.from_cryptography(one)) for one in _certificates(client_ca)] if client_ca else []
    factory = CertificateOptions(
        privateKey=private_key,
        certificate=leaf,
        extraCertChain=chain,
        trustRoot=trustRootFromCertificates(trusted) if trusted else None,
        raiseMinimumTo=TLSVersion.TLSv1_2,
    )
    try:
        factory.getContext()
    except SSL.Error as error:
        reasons = ", ".join(reason for _, _, reason in error.args[0])
        raise ConfigurationError(f"{cert}: OpenSSL won't use the certificate: {reasons}") from error
    return factory


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
