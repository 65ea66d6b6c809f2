"""Makes the options of TLS with brokers: whom we trust, and what we show. Knows no connection."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wshost.results import ConfigurationError

if TYPE_CHECKING:
    from wshost.backplanes.settings import BackplaneSettings

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


class ClientTLS:
    """The options of one backplane; its files are read once.

    :raises ConfigurationError: with one line, when a file can't be read, or is wrong.
    """

    def __init__(self, settings: BackplaneSettings) -> None:
        self._trusted: list[Any] | None = None
        self._shown: dict[str, Any] = {}
        if settings.ca is not None:
            self._trusted = _certificates(settings.ca)
        if settings.cert is not None:
            leaf, *chain = _certificates(settings.cert)
            self._shown = {"certificate": leaf, "extraCertChain": chain, "privateKey": _key(settings)}
            self._check(settings.key or settings.cert)

    def _check(self, path: str) -> None:
        from OpenSSL import SSL  # noqa: PLC0415 - slow, and few need it

        context = SSL.Context(SSL.TLS_METHOD)
        try:
            context.use_certificate(self._shown["certificate"])
            context.use_privatekey(self._shown["privateKey"])
            context.check_privatekey()
        except SSL.Error as error:
            raise ConfigurationError(f"{path}: the private key is not that of the certificate") from error

    def options(self, host: str) -> Any:
        """Return options for `startTLS` with a broker, whose certificate must be for this name or address."""
        from OpenSSL import crypto  # noqa: PLC0415 - as above
        from twisted.internet.ssl import (  # noqa: PLC0415 - as above
            Certificate,
            optionsForClientTLS,
            trustRootFromCertificates,
        )

        trust = None
        if self._trusted is not None:
            trust = trustRootFromCertificates(
                [Certificate(crypto.X509.from_cryptography(one)) for one in self._trusted]
            )
        return optionsForClientTLS(host, trust, extraCertificateOptions=dict(self._shown))


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error


def _certificates(path: str) -> list[Any]:
    from cryptography import x509  # noqa: PLC0415 - as above

    try:
        found = [x509.load_pem_x509_certificate(pem) for pem in _CERTIFICATE.findall(_read(path))]
    except ValueError as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"{path}: a certificate in it is damaged") from error
    if not found:
        raise ConfigurationError(f"{path}: there is no certificate (PEM) in it")
    return found


def _key(settings: BackplaneSettings) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - as above

    path = settings.key or settings.cert or ""
    pem = _read(path)
    try:
        return load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{path}: there is no private key (PEM, without a passphrase) in it") from error
