from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from twisted.application.service import IService, Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import IProtocol
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.ports import Reactor
from wshost.cluster.exchange import Exchange
from wshost.compiled import form
from wshost.connections.handover import Frozen
from wshost.connections.home import Home
from wshost.connections.hub import Hub
from wshost.connections.ref import Ref
from wshost.connections.shared import Limits
from wshost.handlers import echo
from wshost.listening.listener import Listener
from wshost.process import ending, reactors
from wshost.protocols.websocket import on_demand
from wshost.reloading import Reloaded
from wshost.results import ConfigurationError, Outcome
from wshost.server import BACKPLANE_TIMEOUT, HOME_SHARED, Server, publish, service
from wshost.settings.options import OPTIONS, Settings

REQUEST = (
    b"GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
#: RFC 6455 §5.7: a masked text frame, "Hello", and the same from a server.
HELLO = bytes.fromhex("818537fa213d7f9f4d5158")
HELLO_BACK = b"\x81\x05Hello"
GOING_AWAY = b"\x88\x0c\x03\xe9going away"


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


def connect(reactor: Reactor, listener: int = 0) -> tuple[IProtocol, StringTransport]:
    """Connect to a server that listens, and send nothing yet."""
    protocol = reactor.tcpServers[listener][1].buildProtocol(IPv4Address("TCP", "192.0.2.1", 50_000))
    assert protocol is not None
    transport = StringTransport()
    protocol.makeConnection(transport)
    return protocol, transport


def hello(reactor: Reactor) -> bytes:
    """Open a WebSocket, say hello, and return the answer to that."""
    protocol, transport = connect(reactor)
    protocol.dataReceived(REQUEST)
    head: bytes = transport.value()
    assert head.startswith(b"HTTP/1.1 101 ")
    protocol.dataReceived(HELLO)
    everything: bytes = transport.value()
    return everything.removeprefix(head)


def started(given: Any, reactor: Reactor) -> Server:
    server = service(given, reactor)
    server.startService()
    return server


def run(reactor: Reactor) -> None:
    """Let the reactor begin to run, and make the calls that waited for that."""
    reactor.running = True
    for call, args, options in reactor.whenRunningHooks:
        call(*args, **options)


def listening(server: Server) -> list[str]:
    """Start a server, and return what it logs."""
    with capturedLogs() as events:
        server.startService()
    return [formatEvent(event) for event in events]


LONG_AGO = datetime(2020, 1, 2, tzinfo=UTC)


def certificate(path: Path, not_after: datetime | None = None, name: str = "localhost") -> str:
    """Write a new certificate with its key to a file."""
    issued = trustme.CA().issue_cert(name, not_before=LONG_AGO - timedelta(1), not_after=not_after)
    issued.private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


class TCPTransport(StringTransport):
    """One that TLS can be put before."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing."""


def serial(reactor: Reactor, listener: int = 0) -> int:
    """Return the number of the certificate that a new connection presents."""
    protocol: Any = reactor.tcpServers[listener][1].buildProtocol(IPv4Address("TCP", "192.0.2.1", 50_000))
    protocol.makeConnection(TCPTransport())  # type: ignore[no-untyped-call]
    number: int = protocol.getHandle().get_certificate().get_serial_number()
    protocol.abortConnection()
    return number


class TestReload:
    @staticmethod
    def reload(server: Server, reactor: Reactor) -> tuple[Reloaded, list[str]]:
        """Reload, and return what was done and logged."""
        done: list[Reloaded] = []
        with capturedLogs() as events:
            server.reload().addCallback(done.append)
            assert done == []
            reactor.advance(0)
        return done[0], [formatEvent(event) for event in events]

    def test_new_connections_get_the_certificate_that_is_in_the_file_now(
        self, reactor: Reactor, tmp_path: Path
    ) -> None:
        paths = [certificate(tmp_path / "a.pem")]
        listen = ["tcp:1", "tcp:2"]
        server = started({"handler": echo, "tls_cert": paths, "listen": listen}, reactor)
        before = serial(reactor)
        certificate(tmp_path / "a.pem")
        assert self.reload(server, reactor) == (Reloaded(certificates=1), ["reloaded: 1 certificate"])
        assert serial(reactor) == serial(reactor, 1) != before

    def test_handlers_are_imported_again_and_connections_go_over(
        self, reactor: Reactor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        source = tmp_path / "reloaded_handler.py"
        text = "def init(options): ...\n\n\ndef handle(message, state):\n    return ('reply', '{}', state)\n"
        source.write_text(text.format("Hallo"), encoding="ascii")
        server = started({"handler": "reloaded_handler"}, reactor)
        protocol, transport = connect(reactor)
        protocol.dataReceived(REQUEST)
        transport.clear()
        protocol.dataReceived(HELLO)
        assert transport.value() == b"\x81\x05Hallo"
        source.write_text(text.format("Hello"), encoding="ascii")
        done = Reloaded(handlers=("reloaded_handler",), connections=1)
        assert self.reload(server, reactor) == (
            done,
            ["reloaded: handler reloaded_handler (1 connection goes over)"],
        )
        transport.clear()
        protocol.dataReceived(HELLO)
        assert transport.value() == HELLO_BACK
        source.write_text("1 / 0", encoding="ascii")
        problem = (
            "the handlers stay as they are: handler 'reloaded_handler' can't be imported: "
            "ZeroDivisionError: division by zero"
        )
        reloaded, (line,) = self.reload(server, reactor)
        assert reloaded == Reloaded(problems=(problem,))
        assert line.startswith(f"{problem}\nTraceback (most recent call last):\n")
        transport.clear()
        protocol.dataReceived(HELLO)
        assert transport.value() == HELLO_BACK
        source.write_text("raise KeyboardInterrupt", encoding="ascii")
        problem = "the handlers stay as they are: KeyboardInterrupt"
        assert self.reload(server, reactor) == (Reloaded(problems=(problem,)), [problem])

    def test_a_reload_ends_and_everything_stays_whatever_an_import_raises(
        self, reactor: Reactor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Finder:
            def find_spec(self, *args: Any) -> None: ...

            def invalidate_caches(self) -> None:
                raise ValueError("no")

        monkeypatch.syspath_prepend(str(tmp_path))
        text = "def init(options): ...\n\n\ndef handle(message, state): ...\n"
        (tmp_path / "reloaded_unfound.py").write_text(text, encoding="ascii")
        server = service({"handler": "reloaded_unfound"}, reactor)
        before = sys.modules["reloaded_unfound"]
        monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
        problem = "the handlers stay as they are: ValueError: no"
        assert self.reload(server, reactor) == (Reloaded(problems=(problem,)), [problem])
        assert sys.modules["reloaded_unfound"] is before

    def test_a_server_that_is_stopped_has_no_connections_that_go_over(
        self, reactor: Reactor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        text = "def init(options): ...\n\n\ndef handle(message, state): ...\n"
        (tmp_path / "reloaded_idle.py").write_text(text, encoding="ascii")
        server = service({"handler": "reloaded_idle"}, reactor)
        reloaded, _ = self.reload(server, reactor)
        assert reloaded == Reloaded(handlers=("reloaded_idle",))

    def test_a_server_without_certificates_has_nothing_to_read_again(self, reactor: Reactor) -> None:
        server = started({"handler": echo}, reactor)
        assert self.reload(server, reactor) == (Reloaded(), ["reloaded: nothing"])

    @pytest.mark.parametrize("listening", [True, False])
    @pytest.mark.parametrize("wrong", ["missing", "broken", "expired", "authority"])
    def test_all_certificates_stay_if_one_can_not_be_used(
        self, reactor: Reactor, tmp_path: Path, wrong: str, listening: bool
    ) -> None:
        path = certificate(tmp_path / "a.pem")
        authority = certificate(tmp_path / "ca.pem")
        given = {"handler": echo, "tls_cert": path, "tls_client_ca": authority}
        server = started(given, reactor) if listening else service(given, reactor)
        before = serial(reactor) if listening else 0
        certificate(tmp_path / "a.pem", LONG_AGO if wrong == "expired" else None)
        reason = "the certificate expired at 2020-01-02 00:00 UTC"
        if wrong == "missing":
            (tmp_path / "a.pem").unlink()
            reason = "No such file or directory"
        elif wrong != "expired":
            path = str(tmp_path / ("a.pem" if wrong == "broken" else "ca.pem"))
            Path(path).write_text("no PEM", encoding="ascii")
            reason = "no certificate in PEM"
        problem = f"the certificates stay as they are: {path}: {reason}"
        assert self.reload(server, reactor) == (Reloaded(problems=(problem,)), [problem])
        if listening:
            assert serial(reactor) == before

    def test_one_that_was_out_of_date_before_does_not_keep_the_others_from_being_renewed(
        self, reactor: Reactor, tmp_path: Path
    ) -> None:
        paths = [certificate(tmp_path / "a.pem"), certificate(tmp_path / "b.pem", LONG_AGO, "b.example")]
        server = started({"handler": echo, "tls_cert": paths}, reactor)
        before = serial(reactor)
        certificate(tmp_path / "a.pem")
        late = f"{paths[1]}: the certificate expired at 2020-01-02 00:00 UTC"
        assert self.reload(server, reactor) == (Reloaded(certificates=2), [late, "reloaded: 2 certificates"])
        assert serial(reactor) != before

    def test_a_server_that_starts_again_has_the_certificates_of_the_reload(
        self, reactor: Reactor, tmp_path: Path
    ) -> None:
        server = service({"handler": echo, "tls_cert": certificate(tmp_path / "a.pem")}, reactor)
        certificate(tmp_path / "a.pem")
        self.reload(server, reactor)
        (tmp_path / "a.pem").unlink()
        server.startService()
        assert serial(reactor)


class TestService:
    def test_what_connections_need_is_imported_before_a_service_starts(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its program may be in another directory or user when the service starts."""
        loads: list[bool] = []
        monkeypatch.setattr(on_demand, "load", lambda: loads.append(True))
        service({"handler": echo}, reactor)
        assert loads == [True]

    def test_service_makes_a_twisted_service(self, reactor: Reactor) -> None:
        assert verifyObject(IService, service({"handler": echo}, reactor))

    def test_service_runs_the_example_of_wsservers_readme(self, reactor: Reactor) -> None:
        """The example is in the section "Starting"; here it is in Python."""
        options = [
            ("port", 8080),
            ("number_of_workers", 10),
            (
                "worker_options",
                [
                    (
                        "protocol_modules",
                        [
                            (
                                "wsserver_websocket_protocol",
                                [
                                    ("handler_module", "wshost.handlers.echo"),
                                ],
                            )
                        ],
                    )
                ],
            ),
        ]
        started(options, reactor)
        assert reactor.tcpServers[0][0] == 8080
        assert hello(reactor) == HELLO_BACK

    @pytest.mark.parametrize("key", ["protocol_modules", "protocol_modules_options"])
    def test_service_takes_wsservers_options_as_mappings(self, reactor: Reactor, key: str) -> None:
        """wsserver's README names the first key, and its code reads the second."""
        pairs = [("http", {}), ("websocket", {"handler_module": echo})]
        started({"port": 8080, "number_of_workers": 10, "worker_options": {key: pairs}}, reactor)
        assert hello(reactor) == HELLO_BACK

    @pytest.mark.parametrize(
        ("trusted", "peer"),
        [([], "192.168.1.1:54321"), (["unix"], "192.168.1.1:54321"), (["unix", "192.168.0.0/16"], "192.0.2.1:0")],
    )
    def test_the_proxies_of_trust_proxy_name_their_clients(
        self, reactor: Reactor, trusted: list[str], peer: str
    ) -> None:
        class Handler:
            def init(self, options: Any) -> None:
                peers.append(options["connection"].peer)

            def handle(self, message: Any, state: None) -> tuple[Any, ...]:
                raise NotImplementedError

        peers: list[str] = []
        started({"handler": Handler(), "trust_proxy": trusted}, reactor)
        protocol, _ = connect(reactor)
        protocol.dataReceived(REQUEST.removesuffix(b"\r\n") + b"X-Forwarded-For: 192.0.2.1\r\n\r\n")
        assert peers == [peer]

    def test_number_of_workers_limits_the_connections(self, reactor: Reactor) -> None:
        started({"number_of_workers": 1, "handler": echo}, reactor)
        assert hello(reactor) == HELLO_BACK
        _, transport = connect(reactor)
        reactor.advance(0)
        assert transport.value().startswith(b"HTTP/1.1 503 ")

    def test_register_names_the_service(self, reactor: Reactor) -> None:
        assert service({"handler": echo, "register": "chat"}, reactor).name == "chat"
        assert service({"handler": echo}, reactor).name is None

    def test_service_takes_options_by_name(self, reactor: Reactor) -> None:
        started({"port": 0, "interface": "::1", "route": {"/chat": echo}, "max-message-size": "5"}, reactor)
        assert [(port, interface) for port, _, _, interface in reactor.tcpServers] == [(0, "::1")]
        assert hello(reactor) == HELLO_BACK

    @pytest.mark.parametrize(
        ("given", "complaint"),
        [
            (5, "the options: 5 is not a table"),
            ({"prot": 5}, "unknown option 'prot'; did you mean port?"),
            ({"number_of_workers": "many"}, "number_of_workers: 'many' is not a whole number from 1 to 10000000"),
            ({"register": ("local", "chat")}, "register: ('local', 'chat') is not a string"),
            ({"worker_options": 5}, "worker_options: 5 is not a table"),
            ({"worker_options": {"a": 5}}, "worker_options: unknown option 'a'"),
            (
                {"protocol_modules": [], "worker_options": {"protocol_modules": []}},
                "worker_options: protocol_modules is given twice",
            ),
            (
                {"protocol_module": [], "worker_options": {"protocol_modules": []}},
                "protocol_modules is given twice, by two names",
            ),
            ({"tls_key": "a.pem"}, "tls-key needs tls-cert"),
            ({"log-level": "debug"}, "log-level is an option of the command: your program has a log of its own"),
            ({"workers": 2}, "workers is an option of the command: it is about the process"),
            ({}, "there is no handler: name one with --handler, or with --route for each path"),
            ({"handler": echo, "tls_cert": "none.pem"}, "none.pem: No such file or directory"),
        ],
    )
    def test_service_tells_at_once_what_is_wrong_with_its_options(
        self, reactor: Reactor, given: Any, complaint: str
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            service(given, reactor)
        assert str(caught.value) == complaint

    def test_a_server_takes_the_installed_reactor_when_it_starts(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = service({"handler": echo})
        monkeypatch.setattr(reactors, "installed", lambda: reactor)
        server.startService()
        assert len(reactor.tcpServers) == 1


class TestStart:
    def test_privileged_start_takes_the_ports(self, reactor: Reactor) -> None:
        server = service({"handler": echo, "listen": ["tcp:80", "unix:/run/x"]}, reactor)
        assert reactor.tcpServers == []
        server.privilegedStartService()
        assert len(reactor.tcpServers) == len(reactor.unixServers) == 1
        assert listening(server) == [
            f"wshost listening on ws://:80 (http -> websocket; {form()}; on reactor; pid {os.getpid()})",
            f"wshost listening on unix:/run/x (http -> websocket; {form()}; on reactor; pid {os.getpid()})",
        ]
        assert len(reactor.tcpServers) == len(reactor.unixServers) == 1

    def test_start_takes_the_ports_that_privileged_start_has_not_taken(self, reactor: Reactor) -> None:
        server = service({"handler": echo}, reactor)
        assert listening(server) == [
            f"wshost listening on ws://127.0.0.1:8080 (http -> websocket; {form()}; on reactor; pid {os.getpid()})"
        ]
        assert hello(reactor) == HELLO_BACK

    def test_a_server_without_websockets_logs_tcp_and_its_chain(self, reactor: Reactor) -> None:
        factory = "tests.test_chain.twisted_factory"
        server = service({"protocol_modules": [factory]}, reactor)
        assert listening(server) == [
            f"wshost listening on tcp://127.0.0.1:8080 ({factory}; {form()}; on reactor; pid {os.getpid()})"
        ]

    def test_a_server_with_a_certificate_listens_by_tls(self, reactor: Reactor, tmp_path: Path) -> None:
        path = str(tmp_path / "both.pem")
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
        server = service({"handler": echo, "tls_cert": path}, reactor)
        assert listening(server) == [
            f"wshost listening on wss://127.0.0.1:8080 (http -> websocket; {form()}; on reactor; pid {os.getpid()})"
        ]
        assert isinstance(reactor.tcpServers[0][1], TLSMemoryBIOFactory)

    def test_a_certificate_that_has_expired_is_served_with_a_warning(self, reactor: Reactor, tmp_path: Path) -> None:
        path = certificate(tmp_path / "old.pem", not_after=LONG_AGO)
        with capturedLogs() as events:
            service({"handler": echo, "tls_cert": path}, reactor)
        assert [formatEvent(event) for event in events] == [f"{path}: the certificate expired at 2020-01-02 00:00 UTC"]

    def test_bind_may_leave_unix_sockets_for_later(self, reactor: Reactor) -> None:
        server = service({"handler": echo, "listen": ["tcp:80", "unix:/run/x"]}, reactor)
        server.bind(unix=False)
        assert (len(reactor.tcpServers), len(reactor.unixServers)) == (1, 0)
        server.privilegedStartService()
        assert (len(reactor.tcpServers), len(reactor.unixServers)) == (1, 1)

    def test_start_starts_the_services_that_were_added(self, reactor: Reactor) -> None:
        server = service({"handler": echo}, reactor)
        child = Service()
        child.setServiceParent(server)
        server.startService()
        assert child.running

    def test_a_server_that_can_not_take_all_ports_holds_none(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = service({"handler": echo, "listen": ["tcp:80", "unix:/run/x"]}, reactor)

        def fail(*args: Any, **kwargs: Any) -> None:
            raise CannotListenError(None, b"/run/x", "Cannot acquire lock")

        with monkeypatch.context() as patch:
            patch.setattr(reactor, "listenUNIX", fail)
            with pytest.raises(ConfigurationError, match=r"^can't listen on unix:/run/x: Cannot acquire lock$"):
                server.startService()
        assert not server.running
        assert reactor.ports[0].closed is not None
        server.startService()
        assert (len(reactor.tcpServers), len(reactor.unixServers)) == (2, 1)

    def test_an_unknown_endpoint_is_named(self, reactor: Reactor) -> None:
        with pytest.raises(ConfigurationError, match="Unknown endpoint type: 'nope'"):
            service({"handler": echo, "listen": ["tcp:80", "nope:"]}, reactor).startService()
        assert reactor.tcpServers == []

    def test_an_endpoint_behind_a_proxy_counts_the_peers_addresses(self, reactor: Reactor) -> None:
        server = service({"handler": echo, "listen": ["haproxy:tcp:80"], "max_connections_per_address": 1}, reactor)
        server.startService()
        for address in (b"192.0.2.7", b"192.0.2.8"):
            protocol, transport = connect(reactor)
            protocol.dataReceived(b"PROXY TCP4 %s 127.0.0.1 5 80\r\n" % address + REQUEST)
            assert transport.value().startswith(b"HTTP/1.1 101 ")
        protocol, transport = connect(reactor)
        protocol.dataReceived(b"PROXY TCP4 192.0.2.8 127.0.0.1 5 80\r\n" + REQUEST)
        reactor.advance(0)
        assert transport.value().startswith(b"HTTP/1.1 503 ")


class TestHub:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("max_connections", 3),
            ("max_connections_per_address", 3),
            ("max_output", 3),
            ("stall_timeout", 3.0),
            ("close_timeout", 3.0),
            ("drain_spread", 3.0),
            ("drain_timeout", 3.0),
        ],
    )
    def test_limits_reach_the_hub(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch, option: str, value: Any
    ) -> None:
        given: list[Limits] = []

        class Watched(Hub):
            def __init__(self, reactor: Any, chain: Any, limits: Limits, **more: Any) -> None:
                given.append(limits)
                super().__init__(reactor, chain, limits, **more)

        monkeypatch.setattr("wshost.server.Hub", Watched)
        started({"handler": echo, option: value}, reactor)
        started({"handler": echo}, reactor)
        assert [getattr(limits, option) for limits in given] == [value, OPTIONS[option].default]

    def test_a_handler_that_raises_systemexit_ends_the_process(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        left: list[Any] = []
        monkeypatch.setattr(ending, "leave", lambda *asked: left.append(asked))
        error = SystemExit(3)

        class Leaving:
            def init(self, options: Any) -> None:
                """Nothing is kept of a connection."""

            def handle(self, message: Any, state: None) -> Any:
                raise error

        started({"handler": Leaving()}, reactor)
        protocol, _ = connect(reactor)
        protocol.dataReceived(REQUEST + HELLO)
        assert left == [(reactor, error)]


class TestPublish:
    """`publish` reaches all servers of the process."""

    class Member:
        """A handler whose connections are members of one room."""

        def init(self, options: Any) -> None:
            options["worker"].subscribe("room")

        def handle(self, message: Any, state: None) -> Any:
            return ("noreply", state)

    def test_publish_reaches_the_subscribers_of_all_servers(self) -> None:
        transports = []
        for reactor in (Reactor(), Reactor()):
            started({"handler": self.Member()}, reactor)
            protocol, transport = connect(reactor)
            protocol.dataReceived(REQUEST)
            transports.append((reactor, protocol, transport))
        assert publish("room", "Hello") is True
        for reactor, protocol, transport in transports:
            reactor.advance(0)
            assert transport.value().endswith(b"\r\n\r\n" + HELLO_BACK)
            protocol.connectionLost(Failure(ConnectionDone()))
        assert publish("room", "Hello") is True

    @pytest.mark.parametrize(
        ("topic", "data", "error"),
        [(b"room", "", TypeError), ("", "", ValueError), ("rooms.*", "", ValueError), ("room", None, TypeError)],
    )
    def test_publish_checks_its_arguments(self, topic: Any, data: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match=r"^a (topic|message) "):
            publish(topic, data)


class TestTheBackplane:
    """`IExchange.connect`: a server serves when its backplane has connected, or logs why it has not."""

    class Slow(Exchange):
        """A backplane that connects and closes when the test says so, and notes what it is told."""

        def __init__(self) -> None:
            super().__init__()
            self.told: list[str] = []
            self.connecting: Deferred[None] = Deferred()
            self.closing: Deferred[None] = Deferred()

        def connect(self, reactor: Any, cluster: Any = None) -> Deferred[None]:
            self.told.append("connect")
            self.connecting = Deferred(lambda _: self.told.append("cancel"))
            return self.connecting

        def close(self) -> Deferred[None]:
            self.told.append("close")
            self.closing = Deferred()
            return self.closing

    @pytest.fixture
    def backplane(self) -> Slow:
        return self.Slow()

    @pytest.fixture
    def server(self, reactor: Reactor, backplane: Slow) -> Server:
        """A server that has been started, and waits for its backplane."""
        server = Server(Settings(handler=echo, port=80), reactor, backplane)
        server.startService()
        return server

    def stop(self, reactor: Reactor, server: Server) -> list[None]:
        """Stop a server and close its port; return a list that is no longer empty when the server has stopped."""
        stopped: list[None] = []
        server.stopService().addCallback(stopped.append)
        self.close_port(reactor)
        return stopped

    @staticmethod
    def close_port(reactor: Reactor) -> None:
        closed = reactor.ports[-1].closed
        assert closed is not None
        closed.callback(None)

    def test_the_backplane_connects_at_the_start_and_closes_at_the_stop(self, reactor: Reactor) -> None:
        told: list[Any] = []

        class Backplane(Exchange):
            def connect(self, reactor: Any, cluster: Any = None) -> Deferred[None]:
                told.append(("connect", reactor))
                return super().connect(reactor)

            def close(self) -> Deferred[None]:
                told.append(("close",))
                return super().close()

        server = Server(Settings(handler=echo, port=0), reactor, Backplane())
        server.stopService()
        assert told == []
        server.startService()
        assert told == [("connect", reactor)]
        assert self.stop(reactor, server) == [None]
        assert told == [("connect", reactor), ("close",)]

    def test_a_server_serves_when_its_backplane_has_connected(self, reactor: Reactor, backplane: Slow) -> None:
        server = Server(Settings(handler=echo, port=80), reactor, backplane)
        assert listening(server) == ["waiting for the backplane to connect"]
        with capturedLogs() as events:
            backplane.connecting.callback(None)
        assert [formatEvent(event) for event in events] == [
            f"wshost listening on ws://127.0.0.1:80 (http -> websocket; {form()}; on reactor; pid {os.getpid()})"
        ]
        assert hello(reactor) == HELLO_BACK

    def test_clients_wait_until_the_backplane_has_connected(
        self, reactor: Reactor, backplane: Slow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[str] = []
        monkeypatch.setattr(Listener, "pause", lambda _: calls.append("pause"))
        monkeypatch.setattr(Listener, "resume", lambda _: calls.append("resume"))
        Server(Settings(handler=echo, port=80), reactor, backplane).startService()
        assert calls == ["pause"]
        backplane.connecting.callback(None)
        assert calls == ["pause", "resume"]

    def test_a_backplane_that_connects_at_once_lets_no_client_wait(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(Listener, "pause")
        started({"handler": echo}, reactor)
        assert reactor.getDelayedCalls() == []
        assert hello(reactor) == HELLO_BACK

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (OSError(111, "Connection refused"), "the backplane can't connect: [Errno 111] Connection refused"),
            (ValueError("a password\nis missing"), "the backplane can't connect: a password is missing"),
            (KeyError(), "the backplane can't connect: KeyError"),
            (ConfigurationError("redis: no such host"), "redis: no such host"),
        ],
    )
    @pytest.mark.usefixtures("server")
    def test_a_backplane_that_can_not_connect_is_logged_and_ends_the_listening(
        self, reactor: Reactor, backplane: Slow, error: Exception, reason: str
    ) -> None:
        with capturedLogs() as events:
            backplane.connecting.errback(error)
        assert [formatEvent(event) for event in events] == [reason]
        self.close_port(reactor)
        assert backplane.told == ["connect", "close"]

    @pytest.mark.parametrize("raised", [False, True])
    def test_a_backplane_that_fails_to_connect_at_once_raises_at_the_start(
        self, reactor: Reactor, backplane: Slow, monkeypatch: pytest.MonkeyPatch, raised: bool
    ) -> None:
        error = OSError(111, "Connection refused")

        def connect(*_: object) -> Deferred[None]:
            if raised:
                raise error
            return fail(error)

        server = Server(Settings(handler=echo, port=80), reactor, backplane)
        with monkeypatch.context() as patch:
            patch.setattr(backplane, "connect", connect)
            with pytest.raises(ConfigurationError, match=r"^the backplane can't connect: \[Errno 111\]") as caught:
                server.startService()
        assert caught.value.__cause__ is error
        assert not server.running
        self.close_port(reactor)
        assert backplane.told == ["close"]
        backplane.closing.callback(None)
        del reactor.tcpServers[:]
        server.startService()
        backplane.connecting.callback(None)
        assert hello(reactor) == HELLO_BACK

    def test_a_backplane_that_does_not_answer_in_time_is_cancelled_and_closed(
        self, reactor: Reactor, backplane: Slow, server: Server
    ) -> None:
        reactor.advance(BACKPLANE_TIMEOUT - 1)
        assert backplane.told == ["connect"]
        with capturedLogs() as events:
            reactor.advance(2)
        assert [formatEvent(event) for event in events] == ["the backplane has not answered within 30 seconds"]
        self.close_port(reactor)
        assert backplane.told == ["connect", "cancel", "close"]
        assert self.done(server) == []
        backplane.closing.callback(None)
        assert self.done(server) == [None]

    def done(self, server: Server) -> list[None]:
        stopped: list[None] = []
        server.stopService().addCallback(stopped.append)
        return stopped

    def test_a_stop_cancels_a_backplane_that_is_still_connecting(
        self, reactor: Reactor, backplane: Slow, server: Server
    ) -> None:
        stopped = self.stop(reactor, server)
        assert backplane.told == ["connect", "cancel", "close"]
        backplane.closing.callback(None)
        assert stopped == [None]
        assert reactor.getDelayedCalls() == []

    def test_a_backplane_that_connects_after_the_stop_is_ignored(
        self, reactor: Reactor, backplane: Slow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """This backplane can't cancel its connecting. The server does not serve again."""
        connecting: Deferred[None] = Deferred()
        monkeypatch.setattr(backplane, "connect", lambda *_: connecting)
        server = Server(Settings(handler=echo, port=80), reactor, backplane)
        server.startService()
        self.stop(reactor, server)
        with capturedLogs() as events:
            connecting.callback(None)
        assert events == []

    def test_another_start_connects_the_backplane_again(
        self, reactor: Reactor, backplane: Slow, server: Server
    ) -> None:
        self.stop(reactor, server)
        backplane.closing.callback(None)
        del reactor.tcpServers[:]
        server.startService()
        backplane.connecting.callback(None)
        assert hello(reactor) == HELLO_BACK
        assert backplane.told == ["connect", "cancel", "close", "connect"]

    def test_a_stop_after_the_backplane_has_failed_waits_until_it_is_closed(
        self, reactor: Reactor, backplane: Slow, server: Server
    ) -> None:
        backplane.connecting.errback(OSError())
        stopped = self.done(server)
        self.close_port(reactor)
        assert stopped == []
        backplane.closing.callback(None)
        assert stopped == [None]

    @pytest.mark.parametrize("answers", [False, True])
    def test_a_backplane_that_can_not_close_does_not_keep_the_server_from_stopping(
        self, reactor: Reactor, backplane: Slow, server: Server, answers: bool
    ) -> None:
        backplane.connecting.callback(None)
        stopped = self.stop(reactor, server)
        assert stopped == []
        with capturedLogs() as events:
            if answers:
                backplane.closing.errback(OSError())
            else:
                reactor.advance(BACKPLANE_TIMEOUT)
        assert [formatEvent(event) for event in events] == ["the backplane could not close"]
        assert stopped == [None]


class TestWatchdog:
    """A server looks for long turns while its reactor runs."""

    @pytest.fixture
    def posted(self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """What is to be called in the reactor's thread."""
        posted: list[Any] = []
        monkeypatch.setattr(reactor, "callFromThread", posted.append)
        return posted

    def test_it_starts_with_the_server_and_knows_its_handlers(self, reactor: Reactor, posted: list[Any]) -> None:
        server = service({"handler": echo, "slow_turn": 0.5}, reactor)
        assert server.watchdog is None
        server.startService()
        assert server.watchdog is not None
        assert posted == [server.watchdog._begin]
        assert server.watchdog._slow == 0.5
        frame: Any = SimpleNamespace(f_code=echo.handle.__code__, f_locals={"message": ("text", "hello")})
        held = server.watchdog._held([frame])
        assert held == "handle of wshost.handlers.echo (text of 5 characters: 'hello')"

    def test_it_ends_when_the_last_connection_has_gone(self, reactor: Reactor, posted: list[Any]) -> None:
        server = started({"handler": echo}, reactor)
        watchdog = server.watchdog
        assert watchdog is not None
        stopped = server.stopService()
        for port in reactor.ports:
            assert not watchdog._stopped
            assert port.closed is not None
            port.closed.callback(None)
        assert watchdog._stopped
        assert stopped.called

    def test_a_server_that_starts_again_has_another(self, reactor: Reactor, posted: list[Any]) -> None:
        server = started({"handler": echo}, reactor)
        first = server.watchdog
        server.stopService()
        server.startService()
        assert server.watchdog is not first
        assert len(posted) == 2

    def test_without_it_nothing_is_started(self, reactor: Reactor, posted: list[Any]) -> None:
        assert started({"handler": echo, "slow_turn": 0}, reactor).watchdog is None
        assert posted == []


class TestAnnouncing:
    """A server logs that it listens when signals are handled: once the reactor runs."""

    def test_a_server_announces_itself_when_the_reactor_runs(self, reactor: Reactor) -> None:
        reactor.running = False
        server = service({"handler": echo}, reactor)
        assert listening(server) == []
        with capturedLogs() as events:
            run(reactor)
        assert [formatEvent(event) for event in events] == [
            f"wshost listening on ws://127.0.0.1:8080 (http -> websocket; {form()}; on reactor; pid {os.getpid()})"
        ]

    def test_a_stopped_server_does_not_announce_itself(self, reactor: Reactor) -> None:
        reactor.running = False
        server = started({"handler": echo}, reactor)
        server.stopService()
        with capturedLogs() as events:
            run(reactor)
        assert events == []

    def test_signals_are_handled_before_a_server_announces_itself(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def twisteds(*args: Any) -> None:
            """Twisted's handler, which ours replaces."""

        reactor.running = False
        found: list[Any] = []
        monkeypatch.setattr(reactor, "sigTerm", twisteds, raising=False)
        monkeypatch.setattr(Listener, "announce", lambda *_: found.append(signal.getsignal(signal.SIGTERM)))
        before = signal.signal(signal.SIGTERM, twisteds)
        try:
            started({"handler": echo}, reactor)
            assert signal.getsignal(signal.SIGTERM) is twisteds
            run(reactor)
        finally:
            signal.signal(signal.SIGTERM, before)
        assert len(found) == 1
        assert found[0] is not twisteds


class TestReady:
    """A server is ready while clients are served."""

    def test_a_server_is_ready_once_the_reactor_runs_until_it_stops(self, reactor: Reactor) -> None:
        reactor.running = False
        server = service({"handler": echo, "listen": ["tcp:80", "tcp:81"]}, reactor)
        assert not server.ready
        server.startService()
        assert not server.ready
        run(reactor)
        assert server.ready
        server.stopService()
        assert not server.ready

    def test_a_server_is_not_ready_while_its_backplane_connects(self, reactor: Reactor) -> None:
        backplane = TestTheBackplane.Slow()
        server = Server(Settings(handler=echo, port=80), reactor, backplane)
        server.startService()
        assert not server.ready
        backplane.connecting.callback(None)
        assert server.ready

    def test_a_server_is_ready_when_its_last_endpoint_listens(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[Callable[[], None]] = []
        monkeypatch.setattr(Listener, "when_listening", lambda _, call: calls.append(call))
        server = started({"handler": echo, "listen": ["tcp:80", "tcp:81"]}, reactor)
        calls[0]()
        assert not server.ready
        calls[1]()
        assert server.ready

    def test_an_endpoint_that_listens_after_the_stop_changes_nothing(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[Callable[[], None]] = []
        monkeypatch.setattr(Listener, "when_listening", lambda _, call: calls.append(call))
        server = started({"handler": echo}, reactor)
        server.stopService()
        calls[0]()
        assert not server.ready

    def test_a_server_that_starts_again_is_ready_again(self, reactor: Reactor) -> None:
        server = started({"handler": echo}, reactor)
        server.stopService()
        TestTheBackplane.close_port(reactor)
        server.startService()
        assert server.ready


class TestASecondSignal:
    @pytest.fixture
    def abort(self, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
        """Return a list of what a second signal calls."""
        aborts: list[Callable[[], None]] = []
        monkeypatch.setattr(ending, "watch", lambda _, abort: aborts.append(abort))
        return aborts

    @pytest.mark.parametrize("stopping", [False, True])
    def test_a_second_signal_aborts_the_connections_that_are_left(
        self, reactor: Reactor, abort: list[Callable[[], None]], stopping: bool
    ) -> None:
        """It may come before the server was told to stop."""
        server = started({"handler": echo, "drain_timeout": 60, "close_timeout": 60}, reactor)
        protocol, transport = connect(reactor)
        protocol.dataReceived(REQUEST)
        if stopping:
            server.stopService()
        assert not transport.disconnected
        [call] = abort
        call()
        assert transport.disconnected

    def test_a_second_signal_does_nothing_when_all_connections_are_gone(
        self, reactor: Reactor, abort: list[Callable[[], None]]
    ) -> None:
        server = started({"handler": echo}, reactor)
        server.stopService()
        [call] = abort
        call()
        call()
        assert reactor.getDelayedCalls() == []


class TestTryingEndpoints:
    def test_endpoints_are_tried_and_closed_by_a_stop(self, reactor: Reactor) -> None:
        server = service({"handler": echo, "listen": ["tcp:80", "tcp:81"], "admin": "9090"}, reactor)
        assert server.try_endpoints() == []
        assert [port for port, *_ in reactor.tcpServers] == [80, 81, 9090]
        server.stopService()
        for port in reactor.ports:
            assert port.closed is not None
            port.closed.callback(None)
        assert service({"handler": echo}, reactor).try_endpoints() == []


class TestStop:
    def test_stop_closes_the_ports_and_the_connections(self, reactor: Reactor) -> None:
        server = started({"handler": echo}, reactor)
        protocol, transport = connect(reactor)
        protocol.dataReceived(REQUEST)
        stopped: list[None] = []
        server.stopService().addCallback(stopped.append)
        reactor.advance(0)
        assert transport.value().endswith(GOING_AWAY)
        (port,) = reactor.ports
        assert port.closed is not None
        port.closed.callback(None)
        assert stopped == []
        protocol.connectionLost(Failure(ConnectionDone()))
        reactor.advance(0)
        assert stopped == [None]
        assert not server.running

    def test_stop_aborts_the_connections_that_are_left_at_the_drain_timeout(self, reactor: Reactor) -> None:
        server = started({"handler": echo, "drain_timeout": 2.5, "close_timeout": 60}, reactor)
        protocol, transport = connect(reactor)
        protocol.dataReceived(REQUEST)
        server.stopService()
        reactor.advance(2)
        assert not transport.disconnected
        reactor.advance(1)
        assert transport.disconnected

    def test_stop_ends_added_services_when_the_connections_are_gone(self, reactor: Reactor) -> None:
        server = service({"handler": echo}, reactor)
        child = Service()
        child.setServiceParent(server)
        server.startService()
        protocol, _ = connect(reactor)
        server.stopService()
        assert reactor.ports[0].closed is not None
        reactor.ports[0].closed.callback(None)
        assert child.running
        protocol.connectionLost(Failure(ConnectionDone()))
        reactor.advance(0)
        assert not child.running

    def test_a_second_stop_is_done_with_the_first(self, reactor: Reactor) -> None:
        server = service({"handler": echo}, reactor)
        child = Service()
        child.setServiceParent(server)
        server.startService()
        protocol, _ = connect(reactor)
        stopped: list[None] = []
        server.stopService().addCallback(stopped.append)
        server.stopService().addCallback(stopped.append)
        assert reactor.ports[0].closed is not None
        reactor.ports[0].closed.callback(None)
        assert (stopped, child.running) == ([], True)
        protocol.connectionLost(Failure(ConnectionDone()))
        reactor.advance(0)
        assert (stopped, bool(child.running)) == ([None, None], False)
        server.stopService().addCallback(stopped.append)
        assert len(stopped) == 3

    def test_a_server_that_was_started_again_stops_again(self, reactor: Reactor) -> None:
        server = started({"handler": echo}, reactor)
        first = server.stopService()
        stopped: list[None] = []
        server.startService()
        server.stopService().addCallback(stopped.append)
        for port in reactor.ports:
            assert stopped == []
            assert port.closed is not None
            port.closed.callback(None)
            assert first.called
        assert stopped == [None]

    def test_stop_is_done_at_once_when_the_server_was_not_started(self, reactor: Reactor) -> None:
        stopped: list[None] = []
        service({"handler": echo}, reactor).stopService().addCallback(stopped.append)
        assert stopped == [None]

    def test_a_stopped_server_can_be_started_again(self, reactor: Reactor) -> None:
        server = started({"handler": echo}, reactor)
        server.stopService()
        del reactor.tcpServers[:]
        server.startService()
        assert hello(reactor) == HELLO_BACK


def test_a_server_can_be_made_of_settings(reactor: Reactor) -> None:
    server = Server(Settings(handler=echo, port=0), reactor)
    server.startService()
    assert hello(reactor) == HELLO_BACK


class TestAdmin:
    def admin(self, reactor: Reactor, path: str = "/readyz") -> str:
        """The answer of the admin endpoint, which is the second port."""
        transport = StringTransport()
        protocol: Any = reactor.tcpServers[1][1].buildProtocol(IPv4Address("TCP", "127.0.0.1", 50_000))
        protocol.makeConnection(transport)
        protocol.dataReceived(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        reactor.advance(0)
        answer: str = transport.value().decode().partition("\r\n\r\n")[2]
        protocol.connectionLost(Failure(ConnectionDone()))
        return answer

    def test_without_the_option_nothing_is_listened_on_imported_or_counted(self, reactor: Reactor) -> None:
        server = started({"handler": echo}, reactor)
        assert len(reactor.tcpServers) == 1
        assert server._hub is not None
        assert not server._hub.shared.account.takes_notes
        assert server._chain[-1].options.handler.terms.handler is echo

    def test_operators_see_a_server_from_its_start_to_the_very_end(self, reactor: Reactor) -> None:
        backplane = TestTheBackplane.Slow()
        server = Server(Settings(handler=echo, port=80, admin="9090"), reactor, backplane)
        child = Service()
        child.setServiceParent(server)
        server.startService()
        assert (server.ready, self.admin(reactor)) == (False, "starting\n")
        backplane.connecting.callback(None)
        assert (server.ready, self.admin(reactor)) == (True, "ready\n")
        protocol, _ = connect(reactor)
        server.stopService()
        assert (server.ready, self.admin(reactor)) == (False, "draining\n")
        public, operators = reactor.ports
        assert public.closed is not None
        public.closed.callback(None)
        protocol.connectionLost(Failure(ConnectionDone()))
        reactor.advance(0)
        assert operators.closed is None
        backplane.closing.callback(None)
        assert not child.running
        assert operators.closed is not None

    def test_a_stop_waits_until_the_admin_endpoint_is_closed(self, reactor: Reactor) -> None:
        server = started({"handler": echo, "admin": "9090"}, reactor)
        stopped: list[None] = []
        server.stopService().addCallback(stopped.append)
        for port in reactor.ports:
            assert stopped == []
            assert port.closed is not None
            port.closed.callback(None)
        assert stopped == [None]

    def test_handlers_are_timed_and_ends_are_counted(self, reactor: Reactor) -> None:
        started({"handler": "wshost.handlers.echo", "admin": "9090"}, reactor)
        assert hello(reactor) == HELLO_BACK
        text = self.admin(reactor, "/metrics")
        assert '\nwshost_handler_seconds_count{handler="wshost.handlers.echo"} 1.0\n' in text
        assert '\nwshost_messages_total{direction="in"} 1.0\n' in text
        assert f'wshost_build_info{{form="{form().partition(",")[0]}",' in text

    def test_a_server_that_is_started_while_it_stops_keeps_its_endpoint(self, reactor: Reactor) -> None:
        server = started({"handler": echo, "admin": "9090"}, reactor)
        server.stopService()
        server.startService()
        closed = reactor.ports[0].closed
        assert closed is not None
        closed.callback(None)
        assert reactor.ports[1].closed is None
        assert self.admin(reactor) == "ready\n"

    def test_it_is_announced_after_the_others(self, reactor: Reactor) -> None:
        assert listening(service({"handler": echo, "admin": "9090"}, reactor))[1:] == [
            "admin listening on http://127.0.0.1:9090 (/healthz, /readyz, /metrics, /connections)"
        ]

    @pytest.mark.parametrize("public", [{"port": 9090}, {"listen": ["tcp:1", "tcp:9090:interface=10.0.0.1"]}])
    def test_it_is_never_where_clients_connect(self, reactor: Reactor, public: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match=r"^admin: '9090' is where clients connect"):
            service({"handler": echo, "admin": "9090", **public}, reactor)

    def test_when_it_can_not_listen_neither_does_the_server(self, reactor: Reactor) -> None:
        server = service({"handler": echo, "admin": "nothing:"}, reactor)
        with pytest.raises(ConfigurationError, match=r"^admin: 'nothing:': "):
            server.startService()
        assert reactor.ports[0].closed is not None

    def test_a_start_that_fails_stops_it(self, reactor: Reactor) -> None:
        class Failing(Exchange):
            def connect(self, reactor: Any, cluster: Any = None) -> Any:
                return fail(OSError("nobody there"))

        server = Server(Settings(handler=echo, port=80, admin="9090"), reactor, Failing())
        with pytest.raises(ConfigurationError):
            server.startService()
        assert reactor.ports[0].closed is not None
        reactor.ports[0].closed.callback(None)
        assert reactor.ports[1].closed is not None

    def test_without_its_library_the_start_says_what_to_install(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("endpoint", "pages", "here", "metrics"):
            monkeypatch.delitem(sys.modules, f"wshost.admin.{name}", raising=False)
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        with pytest.raises(ConfigurationError) as caught:
            service({"handler": echo, "admin": "9090"}, reactor)
        assert str(caught.value) == "admin: prometheus_client is missing: pip install 'wshost[admin]'"


class Port:
    """A port that can go over to another process."""

    def __init__(self, accepted: int) -> None:
        self.socket: Any = SimpleNamespace(family=socket.AF_INET)
        self.accepted = accepted
        self.released = False
        self.adopted: list[Any] = []

    def release(self) -> None:
        self.released = True

    def adopt(self, *args: Any) -> None:
        self.adopted.append(args)


class TestAnotherProcess:
    @pytest.fixture
    def port(self, monkeypatch: pytest.MonkeyPatch) -> Port:
        port = Port(accepted=2)
        monkeypatch.setattr(Listener, "port", port)
        return port

    def test_endpoints_are_those_for_clients(self, reactor: Reactor) -> None:
        assert service({"handler": echo, "listen": ["tcp:1", "tcp:2"]}, reactor).endpoints == ["tcp:1", "tcp:2"]
        (one,) = service({"handler": echo, "port": 80}, reactor).endpoints
        assert one.startswith("tcp:80:")

    def test_sockets_are_shared_that_are_asked_for(self, reactor: Reactor, port: Port) -> None:
        server = started({"handler": echo, "listen": ["tcp:1", "tcp:2"]}, reactor)
        assert server.share(["tcp:2", "tcp:3"]) == {"tcp:2": port.socket}

    def test_sockets_of_other_kinds_of_ports_are_not_shared(self, reactor: Reactor) -> None:
        server = started({"handler": echo, "listen": ["tcp:1"]}, reactor)
        assert server.share(["tcp:1"]) == {}

    def test_the_admin_endpoint_goes_over_too(self, reactor: Reactor, port: Port) -> None:
        server = started({"handler": echo, "port": 80, "admin": "9090"}, reactor)
        operators = "tcp:9090:interface=127.0.0.1"
        assert server.endpoints[1:] == [operators]
        assert server.share([operators]) == {operators: port.socket}

    def test_the_admin_endpoint_gets_the_socket_that_it_had_before(self, reactor: Reactor) -> None:
        server = service({"handler": echo, "port": 80, "admin": "9090"}, reactor)
        inherited: Any = object()
        server.inherit({"tcp:9090:interface=127.0.0.1": inherited})
        with pytest.raises(ConfigurationError, match=r"^admin: .* on asyncio's reactor can be taken over$"):
            server.bind()

    def test_inherited_sockets_are_for_their_endpoints(self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
        given: dict[str, Any] = {}

        class Noting(Listener):
            def __init__(self, reactor: Any, description: str, *args: Any, inherited: Any, **kwargs: Any) -> None:
                super().__init__(reactor, description, *args, **kwargs)
                given[description] = inherited

        monkeypatch.setattr("wshost.server.Listener", Noting)
        server = service({"handler": echo, "listen": ["tcp:1", "tcp:2"]}, reactor)
        inherited: Any = object()
        server.inherit({"tcp:2": inherited})
        server.bind()
        assert given == {"tcp:1": None, "tcp:2": inherited}

    def test_a_server_that_gives_up_accepts_no_more_and_gives_its_connections_away(
        self, reactor: Reactor, port: Port
    ) -> None:
        server = started({"handler": echo}, reactor)
        connect(reactor)
        told: list[Any] = []
        moved: list[int] = []
        server.give_up(lambda *said: told.append(said), lambda *args: None).addCallback(moved.append)
        registry = server._hub.shared.registry  # type: ignore[union-attr]
        assert told == [(3, registry.home)]
        assert registry.shares_home
        assert port.released
        assert not server.ready
        reactor.advance(10)
        assert moved == [0]

    def test_a_server_whose_successor_takes_no_connections_keeps_them(self, reactor: Reactor, port: Port) -> None:
        server = started({"handler": echo}, reactor)
        connect(reactor)
        moved: list[int] = []
        server.give_up(lambda *_: None, None).addCallback(moved.append)
        assert moved == [0]
        assert not server._hub.shared.registry.shares_home  # type: ignore[union-attr]
        assert port.released

    def test_ports_that_can_not_go_over_are_only_paused(self, reactor: Reactor) -> None:
        server = started({"handler": echo}, reactor)
        told: list[int] = []
        server.give_up(lambda opened, _: told.append(opened), lambda *args: None)
        assert told == [0]
        assert not server.ready

    def test_a_server_whose_successor_has_gone_goes_on(self, reactor: Reactor, port: Port) -> None:
        server = started({"handler": echo}, reactor)

        def tell(opened: int, home: Home) -> None:
            raise BrokenPipeError

        with pytest.raises(BrokenPipeError):
            server.give_up(tell, lambda *args: None)
        assert server.ready
        assert not port.released
        assert hello(reactor) == HELLO_BACK

    def test_a_server_goes_on_as_the_home_of_another_process(self, reactor: Reactor) -> None:
        """Until that one has drained, a connection that is not here may be there."""
        server = started({"handler": echo}, reactor)
        registry = server._hub.shared.registry  # type: ignore[union-attr]
        home = Home("web-1", "hD3kP0aQ9zE")
        server.take_home(home)
        ref = Ref.parse("web-1.hD3kP0aQ9zE.c1")
        assert (registry.home, registry.missing) == (home, Outcome.UNREACHABLE)
        reactor.advance(Settings.drain_timeout.default + HOME_SHARED)
        assert registry.missing is Outcome.GONE
        assert ref == Ref(registry, "c1")

    def test_a_connection_of_another_process_goes_to_a_port(self, reactor: Reactor, port: Port) -> None:
        server = started({"handler": echo}, reactor)
        frozen = Frozen({"id": "c7"}, b"")
        with socket.socket() as connected:
            assert server.adopt(frozen, connected, "name")
            ((ours, connection, name),) = port.adopted
            assert (ours, connection.id, name) == (connected, "c7", "name")

    def test_a_connection_of_another_process_goes_to_a_port_of_its_kind_if_there_is_one(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = started({"handler": echo, "listen": ["tcp:1", "tcp:2"]}, reactor)
        tcp, unix = ports = Port(0), Port(0)
        unix.socket.family = socket.AF_UNIX
        monkeypatch.setattr(Listener, "port", property(lambda listener: ports[listener.description == "tcp:2"]))
        ends = socket.socketpair()
        with ends[0], ends[1], socket.socket(socket.AF_INET6) as other:
            server.adopt(Frozen({"id": "c7"}, b""), ends[0], "")
            server.adopt(Frozen({"id": "c8"}, b""), other, ("::1", 5))
            assert [one[0] for one in unix.adopted] == [ends[0]]
            assert [one[0] for one in tcp.adopted] == [other]

    def test_connections_that_have_come_settle_when_no_more_come(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settled: list[bool] = []
        monkeypatch.setattr("wshost.cluster.moving.Moving.settle", lambda _: settled.append(True))
        server = service({"handler": echo}, reactor)
        server.settle()
        server.bind()
        server.settle()
        assert settled == []
        server.startService()
        server.settle()
        assert settled == [True]

    def test_a_connection_whose_id_is_taken_is_closed(self, reactor: Reactor, port: Port) -> None:
        server = started({"handler": echo}, reactor)
        connect(reactor)
        ours, theirs = socket.socketpair()
        assert not server.adopt(Frozen({"id": "c1"}, b""), ours, "")
        assert theirs.recv(1) == b""
        theirs.close()

    def test_references_to_connections_with_another_home_are_valid_while_one_is_here(self, reactor: Reactor) -> None:
        server = started({"handler": echo}, reactor)
        registry: Any = server._hub.shared.registry  # type: ignore[union-attr]
        home = Home("web-1", "hD3kP0aQ9zF")
        found: Any = SimpleNamespace(id="w1c1")
        Ref(registry.lodge("w1c1", home), "w1c1")
        registry.add(found)
        assert Ref.parse("web-1.hD3kP0aQ9zF.w1c1")._registry.find("w1c1") is found
        assert home.boot in server._exchange._open  # type: ignore[attr-defined]
        registry.remove(found)
        assert home.boot not in server._exchange._open  # type: ignore[attr-defined]

    @pytest.mark.parametrize("stopped", [False, True])
    def test_a_connection_that_no_port_can_take_is_closed(self, reactor: Reactor, stopped: bool) -> None:
        server = started({"handler": echo}, reactor)
        if stopped:
            server.stopService()
        ours, theirs = socket.socketpair()
        assert not server.adopt(Frozen({"id": "c7"}, b""), ours, "")
        assert theirs.recv(1) == b""
        theirs.close()
