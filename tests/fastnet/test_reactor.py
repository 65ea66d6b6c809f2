from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, UNIXServerEndpoint
from twisted.internet.interfaces import IReactorTCP, IReactorTime, IReactorUNIX
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from zope.interface.verify import verifyObject

from tests.certificates import pem, self_signed
from wshost.fastnet import reactor as listening
from wshost.fastnet.negotiation import server_context
from wshost.fastnet.reactor import FastReactor, parse


class Recording:
    """A port that notes what it was made of, and whether it listens."""

    def __init__(self, *args: Any, context: ssl.SSLContext | None = None) -> None:
        self.args = args
        self.context = context
        self.listening = False
        self._preexistingSocket: Any = None

    def startListening(self) -> None:
        self.listening = True


@pytest.fixture(autouse=True)
def _recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "Port", Recording)
    monkeypatch.setattr(listening, "UNIXPort", Recording)


@pytest.fixture
def reactor() -> Iterator[AsyncioSelectorReactor]:
    loop = asyncio.new_event_loop()
    reactor = AsyncioSelectorReactor(loop)
    yield reactor
    for reader in reactor.removeAll():
        reader.connectionLost(None)
    loop.close()


@pytest.fixture
def factory() -> Factory:
    return Factory()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with a certificate and its key."""
    path = tmp_path / "both.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    return path


def listen(endpoint: Any, factory: Factory) -> Recording:
    ports: list[Any] = []
    endpoint.listen(factory).addCallback(ports.append)
    (port,) = ports
    assert isinstance(port, Recording)
    assert port.listening
    return port


class TestFastReactor:
    @pytest.mark.parametrize("interface", [IReactorTCP, IReactorUNIX, IReactorTime])
    def test_a_fast_reactor_provides_twisteds_interfaces(self, reactor: AsyncioSelectorReactor, interface: Any) -> None:
        assert verifyObject(interface, FastReactor(reactor))

    def test_a_socket_that_listens_already_is_for_the_first_port_only(
        self, reactor: AsyncioSelectorReactor, factory: Factory
    ) -> None:
        inherited: Any = object()
        fast = FastReactor(reactor, inherited=inherited)
        ports: list[Any] = [fast.listenTCP(0, factory), fast.listenUNIX("x", factory)]
        assert [port._preexistingSocket for port in ports] == [inherited, None]

    def test_all_else_is_done_by_the_wrapped_reactor(self, reactor: AsyncioSelectorReactor) -> None:
        assert FastReactor(reactor).callLater == reactor.callLater

    @pytest.mark.parametrize("context", [None, server_context()])
    def test_twisteds_endpoints_listen_with_our_ports(
        self, reactor: AsyncioSelectorReactor, factory: Factory, context: ssl.SSLContext | None
    ) -> None:
        fast = FastReactor(reactor, context)
        tcp = listen(TCP4ServerEndpoint(fast, 80, 7, "127.0.0.1"), factory)
        assert tcp.args == (80, factory, 7, "127.0.0.1", reactor)
        unix = listen(UNIXServerEndpoint(fast, "/run/x", 7, 0o600, True), factory)
        assert unix.args == ("/run/x", factory, 7, 0o600, reactor, True)
        assert tcp.context is unix.context is context


class TestParse:
    @pytest.mark.parametrize(
        ("given", "kind", "args"),
        [
            ({"port": "80"}, TCP4ServerEndpoint, (80, 50, "")),
            ({"port": "80", "interface": "127.0.0.1", "backlog": "7"}, TCP4ServerEndpoint, (80, 7, "127.0.0.1")),
            ({"port": "80", "interface": "::1"}, TCP6ServerEndpoint, (80, 50, "::1")),
        ],
    )
    def test_a_port_and_an_interface_make_a_tcp_endpoint(
        self, reactor: AsyncioSelectorReactor, factory: Factory, given: dict[str, str], kind: type, args: Any
    ) -> None:
        endpoint = parse(reactor, **given)
        assert type(endpoint) is kind
        port = listen(endpoint, factory)
        number, backlog, interface = args
        assert port.args == (number, factory, backlog, interface, reactor)
        assert port.context is None

    def test_unix_makes_a_unix_endpoint(self, reactor: AsyncioSelectorReactor, factory: Factory) -> None:
        port = listen(parse(reactor, unix="/run/x"), factory)
        assert port.args == ("/run/x", factory, 50, 0o660, reactor, True)
        port = listen(parse(reactor, unix="/run/x", backlog="7", mode="600", lockfile="0"), factory)
        assert port.args == ("/run/x", factory, 7, 0o600, reactor, False)

    def test_cert_makes_tls_1_2_or_later(
        self, reactor: AsyncioSelectorReactor, factory: Factory, certificate: Path
    ) -> None:
        for key in (None, str(certificate)):
            context = listen(parse(reactor, "443", cert=str(certificate), key=key), factory).context
            assert context is not None
            assert context.minimum_version == ssl.TLSVersion.TLSv1_2
            assert context.options & ssl.OP_NO_RENEGOTIATION

    def test_a_certificate_without_a_common_cipher_is_refused(
        self, reactor: AsyncioSelectorReactor, tmp_path: Path
    ) -> None:
        key = ec.generate_private_key(ec.SECP224R1())
        (tmp_path / "odd.pem").write_bytes(pem(key) + self_signed(key))
        with pytest.raises(ValueError, match=r"odd\.pem: clients can't agree on a cipher for it: no shared cipher$"):
            parse(reactor, "443", cert=str(tmp_path / "odd.pem"))

    def test_a_reactor_that_is_not_asyncios_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"^fast: needs asyncio's reactor$"):
            parse(MemoryReactorClock(), "80")

    @pytest.mark.parametrize(
        ("given", "complaint"),
        [
            ({}, "takes either a port or unix="),
            ({"port": "80", "unix": "/run/x"}, "takes either a port or unix="),
            ({"port": "80", "key": "x"}, "key= needs cert="),
            ({"port": "eighty"}, "eighty"),
        ],
    )
    def test_arguments_that_do_not_fit_are_refused(
        self, reactor: AsyncioSelectorReactor, given: dict[str, str], complaint: str
    ) -> None:
        with pytest.raises(ValueError, match=complaint):
            parse(reactor, **given)
