from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.memory import MemoryHost, link
from wshost.interfaces import IChannel, ILinkedModule, IPreparedModule, IProtocolDriver, ISession, ISessionFactory
from wshost.protocols.http import module as http
from wshost.protocols.websocket import module as websocket
from wshost.request import ConnectionInfo
from wshost.results import Accept, ConfigurationError


@implementer(ISession)
class Greeter:
    """Says hello."""

    busy = has_infos = False

    def __init__(self, channel: IChannel) -> None:
        self.channel = channel

    def open(self, ref: Any) -> None:
        self.channel.accept(Accept(None))
        self.channel.send("hello")

    def handle_message(self, message: Any) -> None:
        raise NotImplementedError

    def handle_info(self, message: Any) -> bool:
        raise NotImplementedError

    def after_infos(self, call: Callable[[], None]) -> None:
        raise NotImplementedError

    def connection_lost(self) -> None:
        """Nothing."""


@implementer(ISessionFactory)
class Greeters:
    def session(self, channel: IChannel, connection: ConnectionInfo) -> Greeter:
        return Greeter(channel)


HANDLER = Greeters()


def test_the_module_provides_its_interfaces() -> None:
    verifyObject(IPreparedModule, websocket)
    verifyObject(ILinkedModule, websocket)


def test_a_client_speaks_with_the_handlers_session() -> None:
    made: list[IProtocolDriver] = []

    def init(options: Any, context: Any) -> IProtocolDriver:
        made.append(websocket.init(options, context))
        return made[-1]

    watched: Any = SimpleNamespace(init=init, prepare=websocket.prepare)
    peer = MemoryHost(chain=[link("http", http), link("websocket", watched, {"handler": HANDLER})]).open()
    assert peer.messages() == ["hello"]
    (driver,) = made
    verifyObject(IProtocolDriver, driver)


class TestTheRequest:
    @pytest.mark.parametrize("chain", [["websocket"], ["websocket", "http"]])
    def test_a_chain_without_a_module_that_hands_over_a_request_is_refused(self, chain: list[str]) -> None:
        options = websocket.prepare({"handler": HANDLER})
        websocket.check(options, ["knock", *chain], 1)
        with pytest.raises(ConfigurationError, match=r"^websocket: needs a module before it that hands over a request"):
            websocket.check(options, chain, 0)

    def test_a_connection_without_a_request_fails(self) -> None:
        context: Any = SimpleNamespace(request=None)
        with pytest.raises(LookupError, match=r"^the module before websocket has handed over no request$"):
            websocket.init(websocket.prepare({"handler": HANDLER}), context)
