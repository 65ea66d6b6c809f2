from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorSocket
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.testing import MemoryReactor
from zope.interface.verify import verifyObject

from wshost.fastnet import adopted
from wshost.fastnet.adopted import listening_socket
from wshost.fastnet.negotiation import server_context
from wshost.fastnet.port import AdoptedPort, AdoptedUNIXPort
from wshost.fastnet.reactor import FastReactor
from wshost.fastnet.secure import SecureTransport
from wshost.fastnet.transport import Transport


class Factory(ServerFactory):
    protocol = Protocol
    noisy = False
    started = 0

    def startFactory(self) -> None:
        self.started += 1

    def stopFactory(self) -> None:
        self.started -= 1


@pytest.fixture
def path() -> Iterator[Path]:
    """One that is short enough for a socket."""
    with TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder) / "x"


@pytest.fixture
def unix(path: Path) -> Iterator[socket.socket]:
    """A Unix socket of systemd's, with permissions that only systemd knows."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o604)
        listening.listen()
        yield listening


@pytest.fixture
def reactor() -> Iterator[AsyncioSelectorReactor]:
    loop = asyncio.new_event_loop()
    reactor = AsyncioSelectorReactor(loop)
    yield reactor
    for reader in reactor.removeAll():
        reader.connectionLost(None)
    loop.close()


def is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


class TestSockets:
    def test_a_listening_socket_is_duplicated(self, unix: socket.socket) -> None:
        with listening_socket(unix.fileno(), socket.AF_UNIX) as found:
            assert found.fileno() != unix.fileno()
            assert found.getsockname() == unix.getsockname()
            assert not os.get_inheritable(found.fileno())

    @pytest.mark.parametrize(
        ("family", "kind", "wanted", "reason"),
        [
            (socket.AF_UNIX, socket.SOCK_STREAM, socket.AF_INET, "the socket's domain is UNIX"),
            (socket.AF_NETLINK, socket.SOCK_RAW, socket.AF_NETLINK, "the socket's domain is NETLINK"),
            (
                *(socket.AF_INET, socket.SOCK_DGRAM, socket.AF_INET),
                "the socket is for datagrams, not for connections: let systemd make it by ListenStream=",
            ),
            (
                *(socket.AF_INET6, socket.SOCK_STREAM, socket.AF_INET6),
                "the socket does not listen: systemd must not accept its connections (Accept=no)",
            ),
        ],
    )
    def test_another_kind_of_socket_is_refused(self, family: int, kind: int, wanted: int, reason: str) -> None:
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        with socket.socket(family, kind) as other, pytest.raises(CannotListenError) as caught:
            listening_socket(other.fileno(), wanted)
        assert str(caught.value.socketError) == reason
        assert len(list(Path("/proc/self/fd").iterdir())) == descriptors

    def test_a_file_is_refused(self, tmp_path: Path) -> None:
        with (tmp_path / "file").open("w") as file, pytest.raises(CannotListenError) as caught:
            listening_socket(file.fileno(), socket.AF_INET)
        assert caught.value.socketError.strerror == "Socket operation on non-socket"


class TestUnixPorts:
    def test_the_socket_stays_as_systemd_has_made_it(self, unix: socket.socket, path: Path) -> None:
        port: Any = adopted.UNIXPort(listening_socket(unix.fileno(), socket.AF_UNIX), Factory(), MemoryReactor())
        assert verifyObject(IListeningPort, port)
        port.startListening()
        assert port.getHost().name == os.fsencode(path)
        assert port.factory.started == 1
        port.connectionLost(None)
        assert port.factory.started == 0
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
        assert is_served(path)

    def test_a_port_reads_until_it_stops(self, unix: socket.socket) -> None:
        reactor = MemoryReactor()
        port: Any = adopted.UNIXPort(listening_socket(unix.fileno(), socket.AF_UNIX), Factory(), reactor)
        port.startListening()
        assert reactor.readers == {port}
        port.stopReading()
        port.connectionLost(None)
        assert reactor.readers == set()


class TestTcpPorts:
    def test_a_port_knows_its_address(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as passed:
            reactor: Any = MemoryReactor()
            port: Any = adopted.Port(listening_socket(passed.fileno(), socket.AF_INET), Factory(), reactor)
            port.startListening()
            assert (port.getHost().host, port.getHost().port) == passed.getsockname()
            port.connectionLost(None)
            # It listens still.
            assert passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            with socket.create_connection(passed.getsockname()):
                pass


class TestFastReactor:
    @pytest.mark.parametrize(
        ("context", "transport"), [(None, Transport), (server_context(), SecureTransport)], ids=["plain", "tls"]
    )
    def test_passed_sockets_get_our_ports(
        self, reactor: AsyncioSelectorReactor, unix: socket.socket, context: ssl.SSLContext | None, transport: type
    ) -> None:
        fast = FastReactor(reactor, context)
        assert verifyObject(IReactorSocket, fast)
        first: Any = fast.adoptStreamPort(unix.fileno(), socket.AF_UNIX, Factory())
        with socket.create_server(("127.0.0.1", 0)) as passed:
            second: Any = fast.adoptStreamPort(passed.fileno(), socket.AF_INET, Factory())
        assert (type(first), type(second)) == (AdoptedUNIXPort, AdoptedPort)
        for port in (first, second):
            assert (port.context, port.transport, port.connected) == (context, transport, True)
            assert port in reactor.getReaders()
