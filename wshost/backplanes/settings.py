"""What a backplane is told at its start: its brokers, credentials and limits. Knows no broker's protocol."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Broker:
    """One server of a broker, as a URL names it. Its `repr` has no secrets: a username may be a token."""

    host: str
    port: int
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    #: The connection begins with TLS.
    tls: bool = False
    #: The rest of the URL: path without its slash, and query, by name.
    path: str = ""
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    #: It speaks TLS after a first word in the clear.
    upgrades: bool = False


@dataclass(frozen=True, kw_only=True)
class BackplaneSettings:
    """The settings of one backplane: sizes in bytes, times in seconds."""

    #: The scheme of the URLs: ``nats``, ``redis``.
    scheme: str
    #: At least one. They are tried in random order, and all belong to one cluster.
    brokers: tuple[Broker, ...]
    #: Authorities (PEM) that must have signed the brokers' certificates; None: those of the system.
    ca: str | None = None
    #: A certificate and its key (PEM), which are shown to brokers.
    cert: str | None = None
    key: str | None = None
    #: A file with credentials, such as NATS' .creds.
    credentials: str | None = None
    #: So many bytes may wait to be sent.
    buffer: int = 8 << 20
    #: While no broker is connected, a payload waits for so long.
    patience: float = 5.0
    #: How this process is called in the broker's lists of clients.
    name: str = "wshost"
