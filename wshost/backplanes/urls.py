"""Reads the URLs of brokers (RFC 3986). Knows no scheme."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import parse_qsl, unquote

from wshost.backplanes.settings import Broker
from wshost.results import ConfigurationError

#: So many brokers may be named.
MOST = 64

_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<user>[^@/?#]*)@)?(?P<hosts>[^@/?#]+)(?:/(?P<path>[^@?#]*))?(?:\?(?P<query>[^@#]*))?",
    re.ASCII,
)
_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>\d{1,5}))?", re.ASCII)


def scheme_of(urls: Sequence[str]) -> str:
    """Return the scheme of all URLs. :raises ConfigurationError: when it is not one and the same, or one is no URL."""
    schemes = {_match(url)["scheme"] for url in urls}
    if len(schemes) > 1:
        raise ConfigurationError(
            f"backplane: all brokers belong to one cluster, not to {' and '.join(sorted(schemes))}"
        )
    return schemes.pop()


def read(urls: Sequence[str], port: int, tls: bool) -> tuple[Broker, ...]:
    """Return the brokers that URLs name. One may name several: ``nats://user:password@a:4222,b:4222``.

    :param port: where none is named.
    :param tls: what the scheme says of TLS.
    :raises ConfigurationError: with one line that says what is wrong, and no password.
    """
    brokers = tuple(broker for url in urls for broker in _brokers(url, port, tls))
    if len(brokers) > MOST:
        raise ConfigurationError(f"backplane: {len(brokers)} brokers are too many: name {MOST} at most")
    return brokers


def shown(url: str) -> str:
    """Return a URL without what it says of a user, even if that is not written as it should be."""
    return re.sub(r"//.*@", "//", url, flags=re.DOTALL)


def _match(url: str) -> re.Match[str]:
    match = _URL.fullmatch(url)
    if match is None:
        raise ConfigurationError(f"backplane: {shown(url)!r} is no URL, such as nats://127.0.0.1:4222")
    return match


def _brokers(url: str, port: int, tls: bool) -> Iterator[Broker]:
    match = _match(url)
    user, colon, password = (match["user"] or "").partition(":")
    for one in match["hosts"].split(","):
        host = _HOST.fullmatch(one)
        number = port if host is None or host["port"] is None else int(host["port"])
        if host is None or not 0 < number < 1 << 16:
            raise ConfigurationError(f"backplane: {shown(url)!r}: {one!r} is no host with a port")
        yield Broker(
            host["v6"] or host["name"],
            number,
            unquote(user) or None,
            unquote(password) if colon else None,
            tls,
            unquote(match["path"] or ""),
            tuple(parse_qsl(match["query"] or "")),
        )
