"""Reads the URLs of brokers and the files for TLS, for a client. Knows no connection."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from twisted.plugins import wshost_plugin

from wshost.backplanes import urls
from wshost.backplanes.settings import BackplaneSettings
from wshost.client.conversation import Conversation
from wshost.connections.confirmation import MOST_SECONDS
from wshost.connections.home import this_machine
from wshost.exact import seconds
from wshost.plugins import BackplaneKind
from wshost.results import ConfigurationError

#: Plugins of others are not looked for, as this imports them all; their backplanes need a reactor, too.
_KINDS = {kind.scheme: kind for kind in vars(wshost_plugin).values() if isinstance(kind, BackplaneKind)}


class Configuration(NamedTuple):
    """What a client is told."""

    #: Begins a new conversation.
    converse: Callable[[], Conversation]
    #: Returns the options of TLS.
    tls: Callable[[], ssl.SSLContext]
    #: Seconds that a call may take.
    timeout: float


class Files(NamedTuple):
    """The paths of files that are about us and the brokers; see `wshost.connect`."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    credentials: str | None = None


def read(url: str | Sequence[str], cluster: str, files: Files, timeout: float) -> Configuration:
    """Check all. Nothing is connected.

    :param url: of one broker, or those of several.
    :param cluster: the cluster's name.
    :param timeout: seconds that a call may take.
    :raises ConfigurationError: with one line that says what is wrong.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,63}", cluster):
        raise ConfigurationError(f"cluster: {cluster!r} is no name: 1 to 63 letters, digits, - and _")
    if not 0 < seconds(timeout) <= MOST_SECONDS:
        raise ConfigurationError(f"timeout: {timeout!r} is no time to wait: at most {MOST_SECONDS:g} seconds")
    named = [url] if isinstance(url, str) else list(url)
    if not named:
        raise ConfigurationError("backplane: no broker is named")
    scheme = urls.scheme_of(named)
    kind = _KINDS.get(scheme)
    if kind is None:
        raise ConfigurationError(f"backplane: no client knows {scheme}://; there are: {', '.join(sorted(_KINDS))}")
    settings = BackplaneSettings(
        scheme=scheme,
        brokers=urls.read(named, kind.port, kind.tls),
        ca=files.ca,
        cert=files.cert,
        key=files.key,
        credentials=files.credentials,
        name=f"wshost-client-{this_machine()}",
    )
    make: Any = kind.load()
    # What is wrong with the settings is said now.
    make(settings)
    # Some need several connections, which a client has not.
    make = getattr(make, "from_outside", make)
    tls = cache(lambda: _tls(files))
    if files.ca is not None or files.cert is not None:
        tls()
    return Configuration(lambda: Conversation(make, settings, cluster), tls, timeout)


def _tls(files: Files) -> ssl.SSLContext:
    context = ssl.create_default_context() if files.ca is None else _trusting(files.ca)
    if files.cert is not None:
        key = files.key or files.cert
        _check_readable(files.cert)
        _check_readable(key)
        try:
            # Without a passphrase, OpenSSL would ask for it on the terminal.
            context.load_cert_chain(files.cert, key, password="")
        except (ssl.SSLError, ValueError) as error:
            raise ConfigurationError(f"{key}: there is no certificate with its private key (PEM)") from error
    return context


def _trusting(ca: str) -> ssl.SSLContext:
    _check_readable(ca)
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise ConfigurationError(f"{ca}: there is no certificate (PEM) in it") from error


def _check_readable(path: str) -> None:
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
