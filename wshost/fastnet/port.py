"""Twisted's listening ports, with this package's transports for accepted sockets; and the reactor's event loop."""

from __future__ import annotations

import errno
import select
import socket
from asyncio import AbstractEventLoop, TimerHandle
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from ssl import SSLContext
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet import tcp, unix
from twisted.logger import Logger, globalLogPublisher
from twisted.python.failure import Failure

from wshost.fastnet import adopted
from wshost.fastnet.addresses import with_scope
from wshost.fastnet.negotiation import acceptable_protocols
from wshost.fastnet.poll import Direct, Poll
from wshost.fastnet.secure import SecureTransport
from wshost.fastnet.stale_sockets import replacing_stale_socket
from wshost.fastnet.syscalls import accept
from wshost.fastnet.transport import Transport
from wshost.logs.limit import LogLimit

#: While no file descriptor is free, up to `REFUSALS` waiting connections are accepted and closed at once. If this is
#: not possible either, none is accepted for `PAUSE` seconds.
REFUSALS = 100
PAUSE = 1.0

#: At most so many connections are accepted in one turn, and so many are made. At most so many sockets are kept of which
#: no connection was made yet.
ACCEPTED, MADE = 256, 32
MOST_ACCEPTED = 1_024

#: Errors that concern one waiting connection only, not the next ones.
_ERRORS_OF_ONE = {errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.EINTR}


class _Fast:
    """Accepts connections, for both kinds of ports. They bind and stop as Twisted's ports do."""

    # Attributes of Twisted's port, the next base of both kinds. mypy does not see the bases of a mixin.
    reactor: Any
    socket: Any
    factory: Any
    fileno: Any
    connected: Any
    disconnecting: Any
    stopReading: Any
    sessionno: int
    _buildAddr: Any
    _shouldShutdown: bool

    def __init__(self, *args: Any, context: SSLContext | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loop = loop_of(self.reactor)
        #: The context for TLS of new connections; None for plain ones. It may be replaced, if there is one.
        self.context = context
        #: The protocols that TLS may select by ALPN.
        self.protocols = () if context is None else acceptable_protocols(self.factory)
        if context is not None and self.protocols:
            context.set_alpn_protocols([name.decode("ascii") for name in self.protocols])
        # Accepted sockets, with their peers' names, of which connections are still to be made; and whether a call of
        # `_go_on` is scheduled, which does it.
        self._accepted: deque[tuple[socket.socket, Any]] = deque()
        self._going_on = False
        #: Takes accepted sockets out of the queue, all of them, instead of the factory; None: the factory gets them.
        self.hand_on: Callable[[deque[tuple[socket.socket, Any]]], None] | None = None
        self.transport: Any = Transport if context is None else SecureTransport

    def startReading(self) -> None:
        super().startReading()  # type: ignore[misc]
        # Call `doRead` directly: the reactor would look up a log context and check the descriptor at each call.
        self.loop.direct.add_reader(self.fileno(), self.doRead)

    def doRead(self) -> None:
        """Accept waiting connections, and make the first of them. Other descriptors are ready, too.

        The kernel drops connections when its queue is full, and their clients try again after seconds. So connections
        are accepted faster than they are made.
        """
        for _ in range(ACCEPTED):
            if self.disconnecting or len(self._accepted) >= MOST_ACCEPTED:
                break
            try:
                self._accepted.append(accept(self.socket))
            except BlockingIOError:
                break
            except OSError as error:
                self._fail_to_accept(error)
                break
        self.loop.note_ready(len(self._accepted))
        if self.hand_on is None:
            self._make_some()
        else:
            self.hand_on(self._accepted)

    def _make_some(self) -> None:
        """Make connections of accepted sockets, a few in each turn."""
        for _ in range(min(MADE, len(self._accepted))):
            if not self.disconnecting:
                self._connect(*self._accepted.popleft())
        if self._accepted and not (self.disconnecting or self._going_on):
            self._going_on = True
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._going_on = False
        self._make_some()

    def connectionLost(self, reason: Any) -> None:
        """Stop, and close the sockets of which no connection was made, as the kernel does with its own queue."""
        while self._accepted:
            self._accepted.popleft()[0].close()
        super().connectionLost(reason)  # type: ignore[misc]

    @property
    def accepted(self) -> int:
        """Of how many accepted sockets connections are still to be made."""
        return len(self._accepted)

    def release(self) -> None:
        """Leave the listening socket to another process, which has a copy, and goes on to accept. Called while paused.

        Of what was accepted, connections are made now. When this port stops, the socket goes on to listen.
        """
        self._shouldShutdown = False
        while self._accepted:
            self._connect(*self._accepted.popleft())

    def adopt(self, skt: socket.socket, protocol: Any, addr: Any) -> None:
        """Go on with a plain connection that another process has accepted.

        :param skt: the connected socket.
        :param protocol: is given the connection. The port's factory is not asked.
        :param addr: the peer's name, as `accept` has returned it there.
        """
        self.sessionno += 1
        transport = Transport(skt, protocol, addr, self, self.sessionno - 1, self.reactor)
        try:
            protocol.makeConnection(transport)
        except BaseException:  # the port must serve other connections
            transport.abortConnection()
            self.loop.log.failure("{port} failed to adopt a connection", port=self)

    def take(self, skt: socket.socket, addr: Any) -> None:
        """Make a connection of a socket that another process has accepted, as if it were accepted here.

        :param addr: the peer's name, as `accept` has returned it there.
        """
        skt.setblocking(False)
        if self.disconnecting or not self.connected:
            skt.close()
        else:
            self._connect(skt, addr)

    def _fail_to_accept(self, error: OSError) -> None:
        """Close waiting connections while no descriptor is free; if this fails, accept none for `PAUSE` seconds.

        Otherwise the loop would report the same connections again and again.
        """
        if error.errno in _ERRORS_OF_ONE:
            return
        refused = 0
        spare = tcp._reservedFD  # noqa: SLF001 - all ports of Twisted share this one spare descriptor
        if error.errno == errno.EMFILE and spare.available():
            with spare, suppress(OSError):
                while refused < REFUSALS:
                    self.socket.accept()[0].close()
                    refused += 1
        if refused:
            self.loop.log.warn("{reason}: waiting connections were closed", reason=error.strerror)
        else:
            self.loop.log.warn("can't accept connections: {reason}", reason=error.strerror)
            self.stopReading()
            self.reactor.callLater(PAUSE, self._resume_accepting)

    def _resume_accepting(self) -> None:
        if self.connected and not self.disconnecting:
            self.startReading()

    def _connect(self, skt: socket.socket, addr: Any) -> None:
        addr = with_scope(addr)
        number = self.sessionno
        transport = None
        try:
            protocol = self.factory.buildProtocol(self._buildAddr(addr))
            if protocol is not None:
                self.sessionno = number + 1
                transport = self.transport(skt, protocol, addr, self, number, self.reactor)
                protocol.makeConnection(transport)
        except BaseException:  # the port must serve other connections
            if transport is not None:
                transport.abortConnection()
            self.loop.log.failure("{port} failed to make a connection", port=self)
        if transport is None:
            skt.close()


class Port(_Fast, tcp.Port):
    """A TCP port."""


class UNIXPort(_Fast, unix.Port):
    """A port for a Unix socket. It replaces a socket that a killed server has left."""

    _preexistingSocket: Any
    lockFile: Any

    def startListening(self) -> None:
        if self._preexistingSocket is not None:
            # The process that has bound it holds the lock still.
            self.wantPID = 0
            super().startListening()  # type: ignore[no-untyped-call]
            return
        with replacing_stale_socket(self._bindPath):
            super().startListening()  # type: ignore[no-untyped-call]

    def release(self) -> None:
        """Leave the listening socket to another process, with its file."""
        super().release()
        lock, self.lockFile = self.lockFile, None
        if lock is not None:
            lock.unlock()
        # A name that is no file: there is nothing to remove.
        self._bindPath = b"\0"


class AdoptedPort(_Fast, adopted.Port):
    """A TCP port on a socket that listens already."""


class AdoptedUNIXPort(_Fast, adopted.UNIXPort):
    """A port on a Unix socket that listens already."""


class Loop:
    """A reactor's event loop, with its connections and their log.

    It makes calls in copies of one context. That of the code which asks for them may be some user's.
    """

    def __init__(self, reactor: Any) -> None:
        loop: AbstractEventLoop = reactor._asyncioEventloop  # noqa: SLF001 - it has no public name
        self._loop = loop
        self._context = copy_context()
        #: Watches the ports.
        self.direct = Direct(loop, self._context)
        watching = (
            self.direct if not hasattr(select, "epoll") else Poll(loop, self._context, self.call_exception_handler)
        )
        self.note_ready = watching.note_ready
        self.add_reader, self.remove_reader = watching.add_reader, watching.remove_reader
        self.add_writer, self.remove_writer = watching.add_writer, watching.remove_writer
        #: A limited log, as peers can cause most events of ports and transports.
        self.log = Logger("wshost.fastnet", observer=LogLimit(globalLogPublisher, later=self.call_later))
        #: All connections of this package's ports on this reactor.
        self.connections: set[Transport] = set()
        # As Twisted's reactor does with its own connections, which do not include these.
        reactor.addSystemEventTrigger("during", "shutdown", self._disconnect_all)

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        self._loop.call_soon(callback, *args, context=self._context.copy())

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> TimerHandle:
        return self._loop.call_later(delay, callback, *args, context=self._context.copy())

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log an error that a layer could not report to the layer above."""
        # The text can't be named "message": Twisted's older observers use this name for their own text.
        self.log.failure("{what}", Failure(context["exception"]), what=context["message"])

    def _disconnect_all(self) -> None:
        for connection in list(self.connections):
            try:
                connection.disconnect()
            except BaseException:  # the others must end, too
                self.log.failure("{connection} failed to disconnect", connection=connection)


_loops: WeakKeyDictionary[Any, Loop] = WeakKeyDictionary()


def loop_of(reactor: Any) -> Loop:
    """Return the event loop of an asyncio reactor."""
    loop = _loops.get(reactor)
    if loop is None:
        loop = _loops[reactor] = Loop(reactor)
    return loop
