"""Twisted's listening ports, of which each accepted socket gets a transport over aiofastnet's."""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp, unix

from wshost.fastnet.transport import Transport


class Port(tcp.Port):
    """A TCP port. Binding, accepting, running out of descriptors and stopping are Twisted's."""

    transport: Any = Transport

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Of asyncio or uvloop.
        self.loop = event_loop(self.reactor)


class UNIXPort(unix.Port):
    """A port of a Unix socket, with Twisted's lock file."""

    transport: Any = Transport

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Of asyncio or uvloop.
        self.loop = event_loop(self.reactor)


def event_loop(reactor: Any) -> Any:
    """Return the event loop that an asyncio reactor of Twisted's runs on, None of another reactor."""
    # It has no public name.
    return getattr(reactor, "_asyncioEventloop", None)
