from typing import Any

import pytest
from zope.interface import implementer

from wshost.interfaces import IChannel, ISession, ISessionFactory
from wshost.protocols.websocket.options import prepare
from wshost.request import ConnectionInfo
from wshost.results import ConfigurationError
from wshost.settings.options import MODULES


@implementer(ISessionFactory)
class Sessions:
    """Stands for a handler."""

    def session(self, channel: IChannel, connection: ConnectionInfo) -> ISession:
        raise NotImplementedError


HANDLER = Sessions()
DEFAULTS = {name: option.default for name, option in MODULES["websocket"].items()}


def test_without_options_the_defaults_of_the_table_hold() -> None:
    options = prepare({"handler": HANDLER})
    assert options.handler is HANDLER
    assert not options.origins.allows("https://elsewhere.example", "example.com")
    assert options.subprotocols == ()
    engine = options.engine
    assert engine.max_message_size == engine.max_frame_size == DEFAULTS["max_message_size"]
    assert engine.max_fragments == DEFAULTS["max_fragments"]
    assert (options.compress, options.takeover) == (DEFAULTS["compress"], not DEFAULTS["server_no_context_takeover"])
    assert options.plain_limit == (DEFAULTS["max_message_size"] if DEFAULTS["fast_lane"] else -1)
    times = ("ping_interval", "ping_timeout", "close_timeout", "message_timeout")
    assert options.message_rate == options.byte_rate == 0
    assert {name: getattr(options, name) for name in times} == {name: DEFAULTS[name] for name in times}
    assert options.good_bye == (1001, "going away")


def test_each_option_can_be_given() -> None:
    options = prepare(
        {
            "handler": HANDLER,
            "origins": ["https://elsewhere.example"],
            "hosts": ["*.example.com"],
            "subprotocols": ["chat", "soap"],
            "max_message_size": 3,
            "max_frame_size": 2,
            "max_fragments": 1,
            "compress": True,
            "server_no_context_takeover": True,
            "fast_lane": True,
            "ping_interval": 0,
            "ping_timeout": 4,
            "close_timeout": 5.5,
            "message_timeout": 6,
            "drain_code": 1012,
            "message_rate": 7,
            "byte_rate": "8KiB",
        }
    )
    assert options.origins.allows("https://elsewhere.example", "example.com")
    assert options.hosts.have("chat.example.com")
    assert options.subprotocols == ("chat", "soap")
    engine = options.engine
    assert (engine.max_message_size, engine.max_frame_size, engine.max_fragments) == (3, 2, 1)
    assert options.compress is True
    assert options.takeover is False
    assert options.plain_limit == 2
    assert (options.ping_interval, options.ping_timeout) == (0.0, 4.0)
    assert (options.close_timeout, options.message_timeout) == (5.5, 6.0)
    assert options.good_bye == (1012, "service restart")
    assert (options.message_rate, options.byte_rate) == (7, 8_192)


def test_sizes_may_have_a_unit() -> None:
    assert prepare({"handler": HANDLER, "max_message_size": "64KiB"}).engine.max_message_size == 65_536


def test_without_the_fast_lane_the_engine_reads_all() -> None:
    assert prepare({"handler": HANDLER, "fast_lane": False}).plain_limit == -1


def test_frames_are_limited_as_messages_are() -> None:
    assert prepare({"handler": HANDLER, "max_message_size": 7}).engine.max_frame_size == 7


def test_a_deflated_frame_may_be_longer_than_the_message_unless_frames_have_a_limit() -> None:
    given = {"handler": HANDLER, "max_message_size": 70_000}
    assert prepare(given).engine.max_deflated_size > 70_000 * 9 // 8 + 1_000
    assert prepare({**given, "max_frame_size": 50_000}).engine.max_deflated_size == 50_000


def test_each_module_has_limits_of_its_own() -> None:
    one, other = (prepare({"handler": HANDLER, "max_message_size": size}).engine for size in (1, 2))
    assert (one.max_message_size, other.max_message_size) == (1, 2)


def test_the_mapping_is_left_as_it_was() -> None:
    options = {"handler": HANDLER, "compress": True}
    prepare(options)
    assert options == {"handler": HANDLER, "compress": True}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"handler": None}, "handler: None is not an ISessionFactory"),
        ({"handler": "chat"}, "handler: 'chat' is not an ISessionFactory"),
        ({"origins": "*"}, "origins: '*' is not a list"),
        ({"subprotocols": ["chat", "a b"]}, "'a b' can't be a subprotocol: no client could offer it"),
        ({"max_message_size": 0}, "max_message_size: 0 is not a size from 1 to 2147483648, such as 65536 or 64KiB"),
        ({"compress": 1}, "compress: 1 is not true or false"),
        ({"ping_interval": -1}, "ping_interval: -1 is not a number of seconds from 0 to 86400"),
        ({"max_size": 1}, "unknown option 'max_size'; did you mean max_frame_size?"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        prepare({"handler": HANDLER, **options})
    assert str(caught.value) == f"websocket: {complaint}"


@pytest.mark.parametrize("name", ["max_message_size", "max_frame_size", "max_fragments", "ping_timeout"])
@pytest.mark.parametrize("value", [0, -1, True, "many", None])
def test_limits_are_above_zero(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^websocket: {name}: {value!r} is not a "):
        prepare({"handler": HANDLER, name: value})


def test_a_wrong_origin_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"^'example\.com' is not an origin: "):
        prepare({"handler": HANDLER, "origins": ["example.com"]})
