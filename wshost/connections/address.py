"""Addresses as text, for logs and for handlers. Imports no other module of wshost."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress


def address(peer: IAddress) -> str:
    """Return an address as text: ``127.0.0.1:50000``, ``[::1]:50000``, ``unix:/path``.

    A Unix socket with an abstract name (Linux) is ``unix:@name``, a Unix socket without a name is ``unix:``. Any other
    address is ``host:port`` if it has these, else its `str`. Control characters are escaped.
    """
    if isinstance(peer, IPv4Address):
        return f"{peer.host}:{peer.port}"
    host = getattr(peer, "host", None) or getattr(peer, "hostname", None)
    if host:
        host = _printable(_text(host))
        port = getattr(peer, "port", None)
        host = f"[{host}]" if ":" in host else host
        return host if port is None else f"{host}:{port}"
    if not hasattr(peer, "name"):
        return _printable(str(peer))
    name = _text(peer.name or b"")
    return "unix:" + _printable("@" + name[1:] if name.startswith("\0") else name)


def _text(name: Any) -> str:
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name)


def _printable(text: str) -> str:
    """Return the text with all characters escaped that are not printable: it stays on one line of a log."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
