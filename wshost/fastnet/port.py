"""Twisted's listening ports, of which each accepted socket gets one of our transports. Knows no host of wshost's."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from ssl import SSLContext
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet import tcp, unix
from twisted.logger import Logger, globalLogPublisher
from twisted.python.failure import Failure

from wshost.fastnet.negotiation import spoken
from wshost.fastnet.secure import SecureTransport
from wshost.fastnet.stale_sockets import vacant
from wshost.fastnet.transport import Transport
from wshost.process.log_limit import LogLimit

#: While there are no descriptors, so many connections are accepted and closed at once; when not even that can be done,
#: none is accepted for so many seconds.
REFUSALS = 100
PAUSE = 1.0

#: What ends one connection that waits, or forbids it, and says nothing of the next.
_PASSING = {errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.EINTR}


class _Fast:
    """What both kinds of ports add to Twisted's: binding and stopping are Twisted's."""

    # Twisted's, whose port comes behind this class in both. To mypy a mixin has no base: `super` goes unchecked below.
    reactor: Any
    socket: Any
    factory: Any
    fileno: Any
    connected: Any
    disconnecting: Any
    stopReading: Any
    numberAccepts: int
    sessionno: int
    _buildAddr: Any

    def __init__(self, *args: Any, context: SSLContext | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loop = loop_of(self.reactor)
        #: For TLS, and what it may negotiate.
        self.context = context
        self.protocols = () if context is None else spoken(self.factory)
        if context is not None and self.protocols:
            context.set_alpn_protocols([name.decode("ascii") for name in self.protocols])
        self.transport: Any = Transport if context is None else SecureTransport

    def startReading(self) -> None:
        super().startReading()  # type: ignore[misc]
        # Not through the reactor: it looks for a log context and for descriptors that are none, each time.
        self.loop.add_reader(self.fileno(), self.doRead)

    def doRead(self) -> None:
        """Accept those who wait: one, or as many more as there were the last time, and then it is others' turn."""
        accepted = 0
        while accepted < self.numberAccepts and not self.disconnecting:
            try:
                skt, addr = self.socket.accept()
            except BlockingIOError:
                break
            except OSError as error:
                self._fail_to_accept(error)
                break
            accepted += 1
            self._connect(skt, addr)
        # Whoever was last in the queue may not have been the last.
        self.numberAccepts = accepted + 20 if accepted == self.numberAccepts else max(1, accepted)

    def _fail_to_accept(self, error: OSError) -> None:
        """Turn away who waits while there are no descriptors; or else leave them waiting for a while.

        Whatever is done, they may not be found there again at once, and again.
        """
        if error.errno in _PASSING:
            return
        refused = 0
        spare = tcp._reservedFD  # noqa: SLF001 - Twisted's ports have it for this, and it is one for all of them
        if error.errno == errno.EMFILE and spare.available():
            with spare, suppress(OSError):
                while refused < REFUSALS:
                    self.socket.accept()[0].close()
                    refused += 1
        if refused:
            self.loop.log.warn("{reason}: connections were closed", reason=error.strerror)
        else:
            self.loop.log.warn("can't accept connections: {reason}", reason=error.strerror)
            self.stopReading()
            self.reactor.callLater(PAUSE, self._go_on)

    def _go_on(self) -> None:
        if self.connected and not self.disconnecting:
            self.startReading()

    def _connect(self, skt: socket.socket, addr: Any) -> None:
        if isinstance(addr, tuple) and len(addr) == 4 and addr[3]:
            # The interface is part of the address for Twisted.
            host, _ = socket.getnameinfo(addr, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
            addr = (host, *addr[1:])
        number = self.sessionno
        transport = None
        try:
            protocol = self.factory.buildProtocol(self._buildAddr(addr))
            if protocol is not None:
                self.sessionno = number + 1
                transport = self.transport(skt, protocol, addr, self, number, self.reactor)
                protocol.makeConnection(transport)
        except BaseException:  # the port serves others
            if transport is not None:
                transport.abortConnection()
            self.loop.log.failure("{port} failed to make a connection", port=self)
        if transport is None:
            skt.close()


class Port(_Fast, tcp.Port):
    """A TCP port."""


class UNIXPort(_Fast, unix.Port):
    """A port of a Unix socket. It takes the place of one that a server has left behind which was killed."""

    def startListening(self) -> None:
        with vacant(self._bindPath):
            super().startListening()  # type: ignore[no-untyped-call]


class Loop:
    """A reactor's event loop, which knows its connections, and logs to Twisted's log."""

    def __init__(self, reactor: Any) -> None:
        # It has no public name.
        self._loop = reactor._asyncioEventloop  # noqa: SLF001
        #: Peers may be the reason for all that our ports and transports log.
        self.log = Logger("wshost.fastnet", observer=LogLimit(globalLogPublisher, later=self._loop.call_later))
        #: All connections of our ports on this reactor.
        self.connections: set[Transport] = set()
        # Twisted does the same with those that it knows.
        reactor.addSystemEventTrigger("during", "shutdown", self._disconnect_all)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._loop, name)
        setattr(self, name, value)
        return value

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what the transport below one of ours could not tell it."""
        error = context["exception"]
        # That a peer has left in its handshake is told by the class alone, and is no error of ours.
        if isinstance(error, BaseException):
            # Not as "message": that is what Twisted's older observers put into an event.
            self.log.failure("{what}", Failure(error), what=context["message"])

    def _disconnect_all(self) -> None:
        for connection in list(self.connections):
            try:
                connection.disconnect()
            except BaseException:  # the others are to end, too
                self.log.failure("{connection} failed to end", connection=connection)


_loops: WeakKeyDictionary[Any, Loop] = WeakKeyDictionary()


def loop_of(reactor: Any) -> Loop:
    """Return the event loop of an asyncio reactor."""
    loop = _loops.get(reactor)
    if loop is None:
        loop = _loops[reactor] = Loop(reactor)
    return loop
