"""Twisted's own tests of transports, run on ours against its own clients, on uvloop and on asyncio's event loop.

The reactor under test is one whose ports are ours. What is left out is about what ours don't have: that the reactor
knows them as descriptors (`getReaders`), `startTLS`, passing descriptors over Unix sockets, and a log context in
`dataReceived`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
import uvloop
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, wrapClientTLS
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.ssl import CertificateOptions
from twisted.internet.test import connectionmixins, test_tcp, test_unix
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.trial.unittest import SynchronousTestCase

from wshost.fastnet.negotiation import server_context
from wshost.fastnet.reactor import FastReactor
from wshost.process.reactors import AsyncioReactor


@pytest.fixture(autouse=True)
def no_loop_runs() -> Iterator[None]:
    """pytest-twisted's own loop stays in its greenlet, and asyncio takes it for running, if a test before used it."""
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(running)


class Plain(connectionmixins.EndpointCreator):
    """Our server, Twisted's client."""

    def server(self, reactor: Any) -> Any:
        return TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")

    def client(self, reactor: Any, serverAddress: Any) -> Any:
        return TCP4ClientEndpoint(reactor, "127.0.0.1", serverAddress.port)


class Secure(Plain):
    """The same with TLS."""

    def __init__(self) -> None:
        self.context = server_context()
        trustme.CA().issue_cert("localhost").configure_cert(self.context)

    def server(self, reactor: Any) -> Any:
        return super().server(FastReactor(reactor, self.context))

    def client(self, reactor: Any, serverAddress: Any) -> Any:
        return wrapClientTLS(CertificateOptions(), super().client(reactor, serverAddress))


class Connections(ReactorBuilder, connectionmixins.ConnectionTestsMixin):
    requiredInterfaces = (IReactorTCP,)
    endpoints = Plain()
    test_logPrefix: Any = None


class SecureConnections(Connections):
    endpoints = Secure()


class Aborts(ReactorBuilder, test_tcp.AbortConnectionMixin):
    """The server is the one that is aborted."""

    requiredInterfaces = (IReactorTCP,)
    endpoints = Plain()


class SecureAborts(Aborts):
    endpoints = Secure()
    # Without an exchange of bytes before, it takes for sure that a server which doesn't read holds the handshake up,
    # and with it the client's producer. Ours says that a connection is made when the handshake is done.
    test_fullWriteBuffer: Any = None


class OurAborts(Aborts):
    """The server is the one that aborts."""

    def runAbortTest(self, clientClass: Any, serverClass: Any, clientConnectionLostReason: Any = None) -> None:
        run = connectionmixins.runProtocolsWithReactor

        def swapped(builder: Any, server: Any, client: Any, endpoints: Any) -> Any:
            return run(builder, client, server, endpoints)

        test: Any = self
        test.patch(test_tcp, "runProtocolsWithReactor", swapped)
        test_tcp.AbortConnectionMixin.runAbortTest(test, clientClass, serverClass, clientConnectionLostReason)


class OurSecureAborts(OurAborts):
    endpoints = Secure()


class Transports(test_tcp.TCPTransportTestsBuilder):
    # They look at the names of Twisted's own connections in the log.
    test_serverAddressTCP4: Any = None
    test_serverAddressTCP6: Any = None


class TCPConnections(test_tcp.TCPConnectionTestsBuilder):
    # They ask the reactor whether it knows the connection.
    test_resumeProducing: Any = None
    test_resumeProducingWhileDisconnected: Any = None


BUILDERS = [
    Connections,
    SecureConnections,
    Aborts,
    SecureAborts,
    OurAborts,
    OurSecureAborts,
    Transports,
    TCPConnections,
    test_tcp.TCPPortTestsBuilder,
    test_unix.UNIXPortTestsBuilder,
]
LOOPS = {"Uvloop": uvloop.new_event_loop, "Asyncio": asyncio.new_event_loop}


def case(name: str, builder: type[ReactorBuilder], new_event_loop: Callable[[], asyncio.AbstractEventLoop]) -> type:
    """Return a test case of this builder's tests on such loops."""

    def reactorFactory(self: SynchronousTestCase) -> FastReactor:
        # The tests' own reactor may be waiting in its loop, beneath.
        self.addCleanup(asyncio._set_running_loop, asyncio._get_running_loop())
        asyncio._set_running_loop(None)
        loop = new_event_loop()
        self.addCleanup(loop.close)
        # What was open when the reactor stopped is closed in the turn that it had no more.
        self.addCleanup(lambda: loop.run_until_complete(asyncio.sleep(0)))
        return FastReactor(AsyncioReactor(loop))

    return type(name, (builder, SynchronousTestCase), {"__module__": __name__, "reactorFactory": reactorFactory})


for _builder in BUILDERS:
    for _on, _new_event_loop in LOOPS.items():
        _name = f"Test{_builder.__name__}On{_on}"
        globals()[_name] = case(_name, _builder, _new_event_loop)
