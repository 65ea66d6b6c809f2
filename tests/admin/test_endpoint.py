from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent

from tests.ports import Reactor
from wshost.admin.endpoint import Endpoint, complete, place
from wshost.results import ConfigurationError

PAGES: Any = None


def endpoint(description: str = "9090", *public: str, hosts: tuple[str, ...] = ()) -> Endpoint:
    return Endpoint(description, public, PAGES, hosts)


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


class TestDescriptions:
    @pytest.mark.parametrize(
        ("given", "completed"),
        [
            ("9090", "tcp:9090:interface=127.0.0.1"),
            ("tcp:9090", "tcp:9090:interface=127.0.0.1"),
            ("tcp:port=9090", "tcp:port=9090:interface=127.0.0.1"),
            ("tcp6:9090", r"tcp6:9090:interface=\:\:1"),
            ("tcp6:9090:50", r"tcp6:9090:50:interface=\:\:1"),
            (r"tcp6:9090:50:\:\:", r"tcp6:9090:50:\:\:"),
            ("fast:9090", "fast:9090:interface=127.0.0.1"),
            ("tls:certs:9090", r"tls:certs:9090:interface=\:\:1"),
            ("ssl:9090:a.pem:a.pem:TLSv1_2_METHOD:10.0.0.1", "ssl:9090:a.pem:a.pem:TLSv1_2_METHOD:10.0.0.1"),
            ("ssl:9090:privateKey=a.pem", "ssl:9090:privateKey=a.pem:interface=127.0.0.1"),
            ("tcp:9090:interface=0.0.0.0", "tcp:9090:interface=0.0.0.0"),
            ("tcp:9090:10.0.0.1", "tcp:9090:10.0.0.1"),
            ("fast:unix=/run/a.sock", "fast:unix=/run/a.sock"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("systemd:domain=INET:index=1", "systemd:domain=INET:index=1"),
            ("plugin:9090", "plugin:9090"),
        ],
    )
    def test_without_an_interface_it_listens_on_the_loopback(self, given: str, completed: str) -> None:
        assert complete(given) == completed

    @pytest.mark.parametrize("given", ["tcp:9090:", "tcp:9090:interface=", "tcp6:9090:50:", "fast:9090:interface="])
    def test_an_interface_without_a_name_is_refused(self, given: str) -> None:
        """It stands for all of them."""
        with pytest.raises(ConfigurationError, match=f"^admin: '{given}': the interface has no name; "):
            endpoint(given)

    def test_a_proxys_header_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^admin: 'haproxy:tcp:9090': leave out haproxy:"):
            endpoint("haproxy:tcp:9090")

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("tcp:9090", "tcp:port=9090:interface=10.0.0.1", True),
            ("tcp:9090", "haproxy:tcp:9090", True),
            ("tcp:9090", "tcp:9091", False),
            ("tls:certs:443", "tls:certs:9090", False),
            ("tls:certs:443", "tls:other:443", True),
            ("unix:/a", "unix:address=/a:mode=600", True),
            (r"unix:/a\:b", "unix:/a", False),
            ("systemd:domain=INET:index=0", "systemd:index=0:domain=INET", True),
            ("systemd:domain=INET:index=0", "systemd:domain=INET6:index=0", False),
            ("systemd:domain=INET:name=a", "systemd:domain=INET:name=b", False),
            ("plugin:", "plugin:", True),
            ("plugin", "other", False),
        ],
    )
    def test_two_endpoints_at_the_same_place_are_found(self, one: str, other: str, same: bool) -> None:
        assert (place(one) == place(other)) is same

    @pytest.mark.parametrize(("description", "public"), [("9090", "tcp:9090"), ("unix:/a", "unix:/a:mode=666")])
    def test_it_is_never_where_clients_connect(self, description: str, public: str) -> None:
        with pytest.raises(ConfigurationError, match=r" is where clients connect: operators need an endpoint apart$"):
            endpoint(description, "tcp:1", public)

    def test_two_free_ports_are_not_the_same(self) -> None:
        endpoint("0", "tcp:0")

    def test_a_wrong_description_is_an_error_of_the_option(self, reactor: Reactor) -> None:
        with pytest.raises(ConfigurationError, match=r"^admin: 'nothing:x': Unknown endpoint type"):
            endpoint("nothing:x").listen(reactor)

    def test_an_endpoint_of_another_kind_must_name_its_interface(self, reactor: Reactor) -> None:
        """Of a plugin's, nobody knows where it listens by default."""
        url = r"url=ws\://localhost\:9090"
        with pytest.raises(ConfigurationError, match=r"^admin: 'autobahn:.*': name its interface=, "):
            endpoint(rf"autobahn:tcp\:9090:{url}").listen(reactor)
        assert reactor.tcpServers == []
        endpoint(rf"autobahn:tcp\:9090\:interface\=127.0.0.1:{url}").listen(reactor)
        assert [interface for _, _, _, interface in reactor.tcpServers] == ["127.0.0.1"]


class TestListening:
    def test_it_listens_once_and_says_where(self, reactor: Reactor) -> None:
        admin = endpoint()
        admin.listen(reactor)
        admin.listen(reactor)
        assert [(port, interface) for port, _, _, interface in reactor.tcpServers] == [(9090, "127.0.0.1")]
        with capturedLogs() as events:
            admin.announce()
        assert [formatEvent(event) for event in events] == [
            "admin listening on http://127.0.0.1:9090 (/healthz, /readyz, /metrics, /connections)"
        ]

    def test_its_listener_is_known_while_there_is_one(self, reactor: Reactor) -> None:
        admin = endpoint()
        assert admin.listener is None
        admin.listen(reactor)
        assert admin.listener is not None
        assert admin.listener.description == admin.description == "tcp:9090:interface=127.0.0.1"
        admin.stop()
        assert admin.listener is None

    def test_a_unix_socket_may_have_to_wait(self, reactor: Reactor) -> None:
        admin = endpoint("unix:/run/a.sock")
        admin.listen(reactor, unix=False)
        assert reactor.unixServers == []

    def test_nothing_is_announced_or_stopped_that_does_not_listen(self) -> None:
        admin = endpoint()
        admin.announce()
        assert admin.stop().called

    def test_a_stop_closes_the_port_and_aborts_clients(self, reactor: Reactor) -> None:
        admin = endpoint()
        admin.listen(reactor)
        transport = StringTransport()
        built: Any = reactor.tcpServers[0][1].buildProtocol(IPv4Address("TCP", "127.0.0.1", 5))
        built.makeConnection(transport)
        fired: list[Any] = []
        admin.stop().addCallback(fired.append)
        assert transport.disconnected
        closed = reactor.ports[0].closed
        assert closed is not None
        assert fired == []
        closed.callback(None)
        assert fired == [None]

    def test_it_can_listen_again(self, reactor: Reactor) -> None:
        admin = endpoint()
        for _ in range(2):
            admin.listen(reactor)
            admin.stop()
        assert len(reactor.tcpServers) == 2

    @pytest.mark.parametrize("host", ["*", "ops.example"])
    def test_any_host_is_not_meant_for_operators(self, reactor: Reactor, host: str) -> None:
        """`--host "*"` is for clients: here, it would let every page ask."""
        admin = endpoint(hosts=(host,))
        admin.listen(reactor)
        site: Any = reactor.tcpServers[0][1]
        assert site.hosts.have("ops.example") is (host != "*")
