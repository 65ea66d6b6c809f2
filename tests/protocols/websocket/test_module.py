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


def test_it_is_a_module() -> None:
    verifyObject(IPreparedModule, websocket)
    verifyObject(ILinkedModule, websocket)
    verifyObject(ILinkedModule, websocket)


def test_the_handler_s_session_is_what_a_client_speaks_with() -> None:
    host = MemoryHost(chain=[link("http", http), link("websocket", websocket, {"handler": HANDLER})])
    peer = host.open()
    verifyObject(IProtocolDriver, peer.connection._driver)
    assert peer.messages() == ["hello"]


class TestRequest:
    """It needs one, and another module to hand it over."""

    @pytest.mark.parametrize("chain", [["websocket"], ["websocket", "http"]])
    def test_first_in_the_chain(self, chain: list[str]) -> None:
        with pytest.raises(ConfigurationError, match=r"^websocket: needs a module before it that hands over a request"):
            websocket.check(websocket.prepare({"handler": HANDLER}), chain, 0)

    def test_behind_another(self) -> None:
        websocket.check(websocket.prepare({"handler": HANDLER}), ["knock", "websocket"], 1)

    def test_behind_one_that_hands_over_none(self) -> None:
        context: Any = SimpleNamespace(request=None)
        with pytest.raises(LookupError, match=r"^the module before websocket has handed over no request$"):
            websocket.init(websocket.prepare({"handler": HANDLER}), context)


class TestOptions:
    def test_defaults(self) -> None:
        options = websocket.prepare({"handler": HANDLER})
        assert options.handler is HANDLER
        assert not options.origins.allows("https://elsewhere.example", "example.com")
        assert options.subprotocols == ()
        engine = options.engine
        assert (engine.max_message_size, engine.max_frame_size, engine.max_fragments) == (1 << 20, 1 << 20, 1_024)
        assert options.compress is False
        assert options.takeover is True
        assert (options.ping_interval, options.ping_timeout) == (20.0, 20.0)
        assert (options.close_timeout, options.message_timeout) == (5.0, 120.0)

    def test_all_of_them(self) -> None:
        options = websocket.prepare(
            {
                "handler": HANDLER,
                "origins": ["https://elsewhere.example"],
                "subprotocols": ["chat", "soap"],
                "max_message_size": 3,
                "max_frame_size": 2,
                "max_fragments": 1,
                "compress": True,
                "server_no_context_takeover": True,
                "ping_interval": 0,
                "ping_timeout": 4,
                "close_timeout": 5.5,
                "message_timeout": 6,
            }
        )
        assert options.origins.allows("https://elsewhere.example", "example.com")
        assert options.subprotocols == ("chat", "soap")
        engine = options.engine
        assert (engine.max_message_size, engine.max_frame_size, engine.max_fragments) == (3, 2, 1)
        assert options.compress is True
        assert options.takeover is False
        assert (options.ping_interval, options.ping_timeout) == (0.0, 4.0)
        assert (options.close_timeout, options.message_timeout) == (5.5, 6.0)

    def test_frames_are_limited_as_messages_are(self) -> None:
        assert websocket.prepare({"handler": HANDLER, "max_message_size": 7}).engine.max_frame_size == 7

    def test_a_deflated_frame_may_be_longer_than_the_message_unless_the_frame_s_size_is_said(self) -> None:
        said = {"handler": HANDLER, "max_message_size": 70_000}
        assert websocket.prepare(said).engine.max_deflated_size > 70_000 * 9 // 8 + 1_000
        assert websocket.prepare({**said, "max_frame_size": 50_000}).engine.max_deflated_size == 50_000

    def test_the_engines_of_two_modules_have_their_own(self) -> None:
        one, other = (websocket.prepare({"handler": HANDLER, "max_message_size": size}).engine for size in (1, 2))
        assert (one.max_message_size, other.max_message_size) == (1, 2)

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ({"handler": None}, "handler is None, not an ISessionFactory"),
            ({"handler": "chat"}, "handler is 'chat', not an ISessionFactory"),
            ({"origins": "*"}, "origins is '*', not a list of strings"),
            ({"subprotocols": "chat"}, "subprotocols is 'chat', not a list of strings"),
            ({"subprotocols": ["chat", "a b"]}, "'a b' can't be a subprotocol: no client could offer it"),
            ({"max_message_size": 0}, "max_message_size is 0, not a whole number, 1 or more"),
            ({"max_frame_size": 0}, "max_frame_size is 0, not a whole number, 1 or more"),
            ({"max_fragments": 0}, "max_fragments is 0, not a whole number, 1 or more"),
            ({"compress": 1}, "compress is 1, not true or false"),
            ({"ping_interval": -1}, "ping_interval is -1, not a number of seconds, 0 to 86400"),
            ({"ping_timeout": 0}, "ping_timeout is 0, not a number of seconds, 0.001 to 86400"),
            ({"close_timeout": 0}, "close_timeout is 0, not a number of seconds, 0.001 to 86400"),
            ({"message_timeout": 0}, "message_timeout is 0, not a number of seconds, 0.001 to 86400"),
            ({"max_size": 1}, "unknown option: max_size"),
        ],
    )
    def test_wrong_ones(self, options: dict[str, Any], complaint: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            websocket.prepare({"handler": HANDLER, **options})
        assert str(caught.value) == f"websocket: {complaint}"

    def test_a_wrong_origin(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^'example\.com' is not an origin: "):
            websocket.prepare({"handler": HANDLER, "origins": ["example.com"]})

    def test_the_mapping_is_left_as_it_was(self) -> None:
        options = {"handler": HANDLER, "compress": True}
        websocket.prepare(options)
        assert options == {"handler": HANDLER, "compress": True}
