"""Runs the protocols of any Twisted `IProtocolFactory` as a protocol module. They see a transport, not the chain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.python.failure import Failure
from twisted.python.reflect import namedAny
from zope.interface import alsoProvides, implementer, moduleProvides

from wshost.interfaces import IContext, IPreparedModule, IPromptDriver, Timer
from wshost.loading.importing import make_importable, run
from wshost.results import REFUSED, Close, ConfigurationError, Refused, Results, Stop
from wshost.settings.options import module_options

if TYPE_CHECKING:
    from OpenSSL.crypto import X509

moduleProvides(IPreparedModule)

#: The first words of Twisted's reason for a clean close.
_CLEAN = str(ConnectionDone()).removesuffix(".")


def prepare(options: Mapping[str, Any]) -> IProtocolFactory:
    """Return the option `factory`: an `IProtocolFactory`, or its dotted path, also in the current directory.

    The factory is started here, as a listening port would do it. It is never stopped, as modules are not told when a
    server stops.

    :raises ConfigurationError: when the option is no factory, or there are other options.
    """
    factory = module_options("factory", options)["factory"]
    if isinstance(factory, str):
        make_importable(Path.cwd())
        factory = run(f"factory: {factory!r} can't be imported", namedAny, factory)
    if not IProtocolFactory.providedBy(factory):
        raise ConfigurationError(f"factory: {factory!r} provides no IProtocolFactory")
    factory.doStart()
    return factory


def init(options: IProtocolFactory, context: IContext) -> FactoryDriver:
    """Build one protocol and connect it."""
    return FactoryDriver(options, context)


@implementer(IPromptDriver, ITCPTransport, IConsumer, IPushProducer)
class FactoryDriver:
    """The driver of a connection, and the transport of its protocol.

    It provides `ITCPTransport`, but ignores settings of TCP: the connection has its own.

    :param factory: builds the protocol; when it returns None, the connection closes.
    """

    def __init__(self, factory: IProtocolFactory, context: IContext) -> None:
        #: Input is dropped from now on, and only a registered producer still writes.
        self.disconnecting = False
        self._context = context
        self._producer: Any = None
        self._streaming = False
        # The next call of a pull producer.
        self._turn: Timer | None = None
        self._aborted = False
        if context.tls is not None:
            # By this interface, twisted.web sees that a request is secure.
            alsoProvides(self, ISSLTransport)
        self._protocol: IProtocol | None = factory.buildProtocol(context.peer_address)
        if self._protocol is None:
            context.perform(Close())
        else:
            self._protocol.makeConnection(self)

    # From the connection

    def handle_connection_in(self, data: bytes) -> Results:
        if self._protocol is not None and not self.disconnecting:
            self._protocol.dataReceived(data)
        return None

    def handle_action(self, action: str, *args: Any) -> Results | Refused:
        if action != "drained":
            return REFUSED
        if self._producer is not None and self._streaming:
            self._producer.resumeProducing()
        elif self._turn is None:
            self._pull()
        return None

    def handle_connection_close(self, reason: str) -> None:
        producer, self._producer = self._producer, None
        protocol, self._protocol = self._protocol, None
        try:
            if producer is not None:
                producer.stopProducing()
        finally:
            if protocol is not None:
                protocol.connectionLost(Failure(self._error(reason)))

    def _error(self, reason: str) -> Exception:
        if self._aborted:
            return ConnectionAborted()
        return ConnectionDone() if reason.startswith(_CLEAN) else ConnectionLost(reason)

    # From the protocol

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"a transport writes bytes, not {type(data).__name__}")
        self._context.write(data)
        if self._producer is not None and self._streaming and self._context.output_full:
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.disconnecting = True
        if self._producer is None:
            self._context.perform(Close())

    def abortConnection(self) -> None:
        """Close at once."""
        self.disconnecting = self._aborted = True
        self._context.perform(Stop("the protocol aborted"))

    def loseWriteConnection(self) -> None:
        """Close the connection: half-closing is not supported."""
        self.loseConnection()

    def getPeer(self) -> Any:
        return self._context.peer_address

    def getHost(self) -> Any:
        return self._context.host_address

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing."""

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Do nothing."""

    def getPeerCertificate(self) -> X509 | None:
        """Return the peer's certificate; None without TLS or without one."""
        tls = self._context.tls
        return None if tls is None else tls.peer_certificate

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("another producer is registered")
        if self._protocol is None or self.disconnecting:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        if not streaming:
            self._pull()

    def unregisterProducer(self) -> None:
        self._producer = None
        if self.disconnecting:
            self._context.perform(Close())

    def pauseProducing(self) -> None:
        self._context.pause_reading()

    def resumeProducing(self) -> None:
        self._context.resume_reading()

    def stopProducing(self) -> None:
        self.loseConnection()

    def _pull(self) -> None:
        """Ask a pull producer for more, once a turn, while the output is not full."""
        self._turn = None
        if self._producer is None or self._streaming or self._context.output_full:
            return
        self._producer.resumeProducing()
        if self._turn is None and self._producer is not None:
            self._turn = self._context.call_later(0, self._pull)
