"""Every public argument with every kind of value that people give: one table of expected answers.

What is compiled takes exact types and counts in C; what is not takes what Python takes. `make test` runs this on the
one, `make test-compiled` on the other, and what is expected is written once.
"""

from __future__ import annotations

import array
import asyncio
import socket
from collections import OrderedDict, UserDict, UserList, UserString
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from http import HTTPStatus
from math import inf, nan
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from twisted.internet.defer import succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from zope.interface import implementer

from tests.fastnet.surroundings import Port, Recorder, everything, turn
from tests.memory import MemoryHost, Peer
from wshost import Accept, Reject, publish, service
from wshost.cluster.exchange import SHARED
from wshost.connections.shared import Link
from wshost.fastnet.transport import Transport
from wshost.interfaces import IEncoding, IProtocolDriver, IProtocolModule, ISession, ISessionFactory
from wshost.protocols.http import module as http
from wshost.protocols.websocket import module as websocket
from wshost.results import REFUSED, Close, ConfigurationError, Stop, Switch
from wshost.settings.options import check

# The kinds


class Word(StrEnum):
    A = "a"
    REPLY = "reply"
    NOREPLY = "noreply"
    CLOSE = "close"
    PING = "ping"


class OldWord(str, Enum):  # noqa: UP042 - what is formatted otherwise
    """As before there was `StrEnum`. Formatted, it is `OldWord.A`."""

    A = "a"
    REPLY = "reply"
    PORT = "port"


class LyingStr(str):
    """Says nothing true of itself."""

    def __str__(self) -> str:
        return "lie\r\nlie: lie"

    def __repr__(self) -> str:
        return "lie"

    def __format__(self, spec: str) -> str:
        return "lie\r\nlie: lie"

    def __len__(self) -> int:
        return 1_000

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 1

    def isascii(self) -> bool:
        return True

    def encode(self, *args: Any) -> bytes:
        return b"lie"


class LyingBytes(bytes):
    def __bytes__(self) -> bytes:
        return b"lie"

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = bytes.__hash__


class LyingArray(bytearray):
    def __bytes__(self) -> bytes:
        return b"lie"

    def __len__(self) -> int:
        return 0


class LyingInt(int):
    def __int__(self) -> int:
        return 7

    __index__ = __int__

    def __str__(self) -> str:
        return "lie"

    __repr__ = __str__

    def __ge__(self, other: Any) -> bool:
        return True

    __le__ = __gt__ = __lt__ = __ge__


class LyingFloat(float):
    def __repr__(self) -> str:
        return "lie"


class Code(IntEnum):
    GOING_AWAY = 1001
    NO_STATUS = 1005
    PORT = 8080


class Triple(NamedTuple):
    form: Any
    data: Any
    state: Any


class LyingTuple(tuple[Any, ...]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: Any) -> Any:
        return "lie"

    def __iter__(self) -> Iterator[Any]:
        return iter(("lie",))


class List(list[Any]):
    """One of one's own."""


class Dict(dict[str, Any]):
    """One of one's own."""


class Closing(Close):
    """One of one's own."""


class Buffer:
    """As numpy's arrays are: of no class that is known here, and it has the method of that name."""

    def __bytes__(self) -> bytes:
        return b"lie"

    def __len__(self) -> int:
        return 1

    def tobytes(self) -> bytes:
        return b"lie"


def released() -> memoryview:
    view = memoryview(b"data")
    view.release()
    return view


#: What is the text "a".
TEXTS: dict[str, Any] = {"str": "a", "StrEnum": Word.A, "str, Enum": OldWord.A, "lying": LyingStr("a")}
#: What is the bytes b"data".
BYTES: dict[str, Any] = {
    "bytes": b"data",
    "lying bytes": LyingBytes(b"data"),
    "bytearray": bytearray(b"data"),
    "lying bytearray": LyingArray(b"data"),
    "memoryview": memoryview(b"data"),
    "read-write": memoryview(bytearray(b"data")),
    "not contiguous": memoryview(b"d-a-t-a-")[::2],
    "backwards": memoryview(b"atad")[::-1],
    "of integers": memoryview(b"data").cast("I"),
    "of two dimensions": memoryview(b"data").cast("B", (2, 2)),
    "of an array": memoryview(array.array("B", b"data")),
}
#: What is neither.
NEITHER: dict[str, Any] = {
    "None": None,
    "bool": True,
    "int": 7,
    "float": 1.5,
    "list": [1],
    "dict": {},
    "array": array.array("B", b"data"),
    "buffer": Buffer(),
    "UserString": UserString("a"),
    "class": str,
}

# The doors: each takes one value, and returns what became of it


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or what it raises, as text."""
    try:
        return call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@contextmanager
def logged() -> Iterator[list[str]]:
    """What exceptions were logged meanwhile."""
    texts: list[str] = []
    with capturedLogs() as events:
        yield texts
    for event in events:
        if "traceback" in event:
            # The last line of a traceback, without the exception's module.
            kind, _, message = event["traceback"].splitlines()[-1].partition(": ")
            texts.append(f"{kind.rpartition('.')[2]}: {message}")


class Handler:
    """Says what it is told to say."""

    def __init__(self, accept: Any = None, answer: Any = ("noreply", None)) -> None:
        self.accept = accept
        self.answer = answer
        self.told: list[Any] = []
        self.ref: Any = None

    def init(self, options: Any) -> Any:
        self.ref = options["worker"]
        if callable(self.accept):
            return self.accept()
        return self.accept

    def handle(self, message: Any, state: Any) -> Any:
        self.told.append(message)
        return self.answer if message == ("text", "go") else ("noreply", state)


def opened(**options: Any) -> tuple[Any, Peer]:
    """A handler's ref, and its client."""
    handler = Handler()
    peer = MemoryHost(handler, websocket_options={"ping_interval": 0, **options}, exchange=SHARED).open()
    return handler.ref, peer


DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate; client_no_context_takeover"}


class Asked:
    """A method of a Ref, in the reactor's thread and in another: whether it is accepted, and what the peer is sent."""

    def __init__(self, method: str) -> None:
        self.method = method

    def __call__(self, *args: Any) -> Any:
        ref, peer = opened()
        here = outcome(lambda: getattr(ref, self.method)(*args)), peer.messages()
        ref, peer = opened()
        with ThreadPoolExecutor(1) as pool:
            there = outcome(lambda: pool.submit(getattr(ref, self.method), *args).result()), peer.messages()
        assert there == here
        return here if here[1] else here[0]


def subscribed(topic: Any) -> Any:
    """Subscribe to what may be "a", publish to "a", unsubscribe, and publish again."""
    ref, peer = opened()
    accepted = outcome(lambda: ref.subscribe(topic))
    publish("a", "first")
    outcome(lambda: ref.unsubscribe(topic))
    peer.turn()
    publish("a", "second")
    heard = peer.messages()
    peer.leave()
    return heard if accepted is True else accepted


def published_to(topic: Any) -> Any:
    """Publish to what may be the topic "a"."""
    ref, peer = opened()
    ref.subscribe("a")
    accepted = outcome(lambda: publish(topic, "text"))
    heard = peer.messages()
    peer.leave()
    return heard if accepted is True else accepted


def published(data: Any) -> Any:
    """Publish to those who are sent frames as they are, deflated ones in common, and those of their own."""
    heard = []
    for options, headers in (
        ({}, {}),
        ({"compress": True, "server_no_context_takeover": True}, DEFLATE),
        ({"compress": True}, DEFLATE),
    ):
        handler = Handler()
        server = MemoryHost(handler, websocket_options={"ping_interval": 0, **options}, exchange=SHARED)
        peer = server.connect()
        head = peer.upgrade(headers=headers)
        peer.take()
        handler.ref.subscribe("a")
        accepted = outcome(lambda: publish("a", data))
        frame = peer.take()
        peer.leave()
        if accepted is not True:
            return accepted
        heard.append((b"permessage-deflate" in head, frame[0] & 0x4F, len(frame) > 2))
    assert [one[0] for one in heard] == [False, True, True]
    opcodes = {one[1] & 0x0F for one in heard}
    assert len(opcodes) == 1
    assert all(one[2] for one in heard)
    return "text" if opcodes == {1} else "binary"


def delivered(data: Any) -> Any:
    """A backplane brings it, from wherever it has it."""
    ref, peer = opened()
    ref.subscribe("a")
    accepted = outcome(lambda: peer.hub.topics.publish_locally(OldWord.A, data))
    heard = peer.messages()
    peer.leave()
    return heard if accepted is True else accepted


def answered(answer: Any) -> Any:
    """A handler's answer, at once and awaited: what the peer is sent, or what is logged."""
    found: list[Any] = []
    for said in (answer, succeed(answer)):
        with logged() as texts:
            peer = MemoryHost(Handler(answer=said), websocket_options={"ping_interval": 0}).open()
            peer.text("go")
            heard = peer.messages()
        if texts:
            assert [text for text in texts if not text.startswith("WrongAnswer: ")] == []
            assert heard == [("close", 1011, "")]
            found.append(texts[0].partition(": ")[2].rpartition(": ")[2])
        else:
            found.append(heard)
    assert found[0] == found[1]
    return found[0]


def accepted(accept: Any) -> Any:
    """What `init` returns: the lines of the response that say something."""
    with logged() as texts:
        server = MemoryHost(Handler(accept), websocket_options={"subprotocols": (), "ping_interval": 0})
        head = server.connect().upgrade(headers={"Sec-WebSocket-Protocol": "b, a"}).decode()
    lines = head.split("\r\n")
    known = ("Upgrade:", "Connection:", "Sec-WebSocket-Accept:", "Date:", "Content-Length:")
    return texts[0] if texts else [line for line in lines if line and not line.startswith(known)]


def rejected(*args: Any) -> Any:
    """What `init` raises: the response."""

    def reject() -> None:
        raise Reject(*args)

    with logged() as texts:
        peer = MemoryHost(Handler(reject)).connect()
        peer.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        head, _, body = peer.take().partition(b"\r\n\r\n")
    known = ("Connection:", "Date:", "Content-Length:")
    lines = [line for line in head.decode().split("\r\n") if not line.startswith(known)]
    return texts[0] if texts else (lines, body)


@implementer(IProtocolModule, IProtocolDriver)
class Module:
    """A module that returns, and does, what it is told."""

    def __init__(self, result: Any = None, start: Callable[[Any], Any] = lambda context: None) -> None:
        self.result = result
        self.start = start
        self.received: list[bytes] = []

    def init(self, options: Any, context: Any) -> Any:
        self.context = context
        self.start(context)
        return self

    def handle_connection_in(self, data: bytes) -> Any:
        self.received.append(data)
        return self.result() if callable(self.result) else self.result

    def handle_action(self, action: str, *args: Any) -> Any:
        return REFUSED

    def handle_connection_close(self, reason: str) -> None:
        assert type(reason) is str


def returned(result: Any) -> Any:
    """What a module returns, by itself and in a list, and performs: what the peer is sent, or what is logged."""

    def by_itself() -> Any:
        return result() if callable(result) else result

    found = []
    for form in (by_itself, lambda: [by_itself()], lambda: List([b"", by_itself()])):
        with logged() as texts:
            peer = MemoryHost(chain=[Link("module", Module(form), None)]).connect()
            peer.send(b"go")
            heard = peer.take()
            gone = peer.transport.aborted
        found.append(texts[0] if texts else "aborted" if gone else heard)
    assert found[1:] == [found[0]] * 2
    return found[0]


def switched(unread: Any) -> Any:
    """What a module hands on as unread: what the next one is given."""
    second = Module()
    with logged() as texts:
        chain = [Link("first", Module(lambda: Switch(Word.A, unread)), None), Link("a", second, None)]
        MemoryHost(chain=chain).connect().send(b"go")
    assert [*map(type, second.received)] in ([bytes], [])
    return texts[0] if texts else second.received


def encoded(result: Any) -> Any:
    """What an encoding makes of a message: what the peer is sent, or what is logged; another message is sent anyway."""

    @implementer(IEncoding)
    class Encoding:
        def encode(self, data: Any) -> Any:
            return b"next" if data == "next" else result

    encoding = Encoding()
    with logged() as texts:
        server = MemoryHost(
            chain=[Link("m", Module(start=lambda context: context.use_encoding(encoding)), None)], exchange=SHARED
        )
        peer = server.connect()
        peer.connection.ref.subscribe("a")
        publish("a", "text")
        publish("a", "next")
        heard = peer.take()
        peer.leave()
    if texts:
        assert heard == b"next"
        return texts[0]
    assert heard.endswith(b"next")
    return heard.removesuffix(b"next")


def timed(seconds: Any) -> Any:
    """A module's timer: whether it fires within two seconds; another one always does."""
    fired = []
    module = Module()
    server = MemoryHost(chain=[Link("module", module, None)])
    peer = server.connect()
    asked = outcome(lambda: module.context.call_later(seconds, lambda: fired.append("fired")))
    module.context.call_later(1.5, lambda: fired.append("other"))
    peer.turn(2)
    assert "other" in fired
    return asked if isinstance(asked, str) else "fired" in fired


def spoken(method: str) -> Callable[..., Any]:
    """A session of one's own asks its channel: what the peer is sent, or what is raised; with and without deflate."""

    def door(*args: Any) -> Any:
        found: list[Any] = []
        options: dict[str, Any]
        for options in ({}, {"compress": True}):

            @implementer(ISessionFactory, ISession)
            class Session:
                busy = has_infos = False

                def session(self, channel: Any, connection: Any) -> Any:
                    self.channel = channel
                    return self

                def open(self, ref: Any) -> None:
                    self.channel.accept(Accept(None))

                def handle_message(self, message: Any) -> None:
                    if message == ("text", "go"):
                        found.append(outcome(lambda: getattr(self.channel, method)(*args)))

                def handle_info(self, message: Any) -> bool:
                    return False

                def after_infos(self, call: Callable[[], None]) -> None:
                    """Nothing waits."""

                def connection_lost(self) -> None:
                    """Nothing."""

            session = Session()
            checked = websocket.prepare({"handler": session, "ping_interval": 0, **options})
            modules: Any = http, websocket
            chain = [Link("http", modules[0], http.prepare({})), Link("websocket", modules[1], checked)]
            peer = MemoryHost(chain=chain).open()
            peer.text("go")
            if found[-1] is None:
                found[-1] = peer.messages()
        assert found[0] == found[1]
        return found[0]

    return door


def set_to(name: str) -> Callable[[Any], Any]:
    """An option of a service: what it is then, or what is wrong."""

    def door(value: Any) -> Any:
        try:
            service({"handler": Handler(), name: value})
            found = check({name: value})[name]
        except ConfigurationError as error:
            return f"ConfigurationError: {error}"
        return type(found), found

    return door


def configured(options: Any) -> Any:
    """All options of a service: the port that comes of them, or what is wrong."""
    reactor = MemoryReactorClock()
    try:
        service(options, reactor).bind()
    except ConfigurationError as error:
        return f"ConfigurationError: {error}"
    [(port, *_)] = reactor.tcpServers
    return port


def module_option(name: str) -> Callable[[Any], Any]:
    """An option of the module websocket."""

    def door(value: Any) -> Any:
        try:
            checked = websocket.prepare({"handler": ANYTHING, name: value})
        except ConfigurationError as error:
            return f"ConfigurationError: {error}"
        return [*map(type, checked.subprotocols)] if name == "subprotocols" else checked.ping_interval

    return door


@implementer(ISessionFactory)
class _Anything:
    def session(self, channel: Any, connection: Any) -> Any:
        raise AssertionError


ANYTHING: Any = _Anything()


@contextmanager
def transport() -> Iterator[tuple[Transport, socket.socket, asyncio.AbstractEventLoop]]:
    """A transport of ours on a real socket, its peer, and their loop."""
    loop = asyncio.new_event_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    protocol = Recorder()
    made = Transport(ours, protocol, "", Port(loop), 1, SimpleNamespace())
    protocol.transport = made
    turn(loop)
    try:
        yield made, theirs, loop
    finally:
        made.abortConnection()
        turn(loop)
        theirs.close()
        loop.close()


def written(data: Any) -> Any:
    """Bytes to a transport of ours, at once and before it is ready."""
    with transport() as (made, theirs, loop):
        said = outcome(lambda: made.write(data))
        turn(loop)
        heard = everything(theirs)
    return heard if said is None else said


def written_in_sequence(data: Any) -> Any:
    with transport() as (made, theirs, loop):
        said = outcome(lambda: made.writeSequence(data))
        turn(loop)
        heard = everything(theirs)
    return heard if said is None else said


def read_into(buffer: Any) -> Any:
    """A buffer to a transport of ours: what is raised; whether it can is another matter, and depends on the form."""
    with transport() as (made, _, _):
        said = outcome(lambda: made.receive_into(buffer))
    return "taken" if isinstance(said, bool) else said


# The table

NO_VIEW = "ValueError: operation forbidden on released memoryview object"
LONG = "x" * 70_000


def name(value: Any) -> str:
    return type(value).__name__


def rows() -> Iterator[tuple[str, Callable[..., Any], tuple[Any, ...], Any]]:
    """A name, the door, what it is given, and what comes of it."""
    send, ping, close = Asked("send"), Asked("ping"), Asked("close")
    value: Any
    for kind, value in TEXTS.items():
        yield f"send {kind}", send, (value,), (True, ["a"])
        yield f"ping {kind}", ping, (value,), (True, [("ping", b"a")])
        yield f"close reason {kind}", close, (1000, value), (True, [("close", 1000, "a")])
        yield f"subscribe {kind}", subscribed, (value,), ["first"]
        yield f"publish to {kind}", published_to, (value,), ["text"]
        yield f"publish {kind}", published, (value,), "text"
        yield f"deliver {kind}", delivered, (value,), ["a"]
        yield f"reply {kind}", answered, (("reply", value, None),), ["a"]
        yield f"reply list {kind}", answered, (("reply", List([value, "b"]), None),), ["a", "b"]
        yield f"answer ping {kind}", answered, (("ping", value, None),), [("ping", b"a")]
        yield f"answer close {kind}", answered, (("close", 4000, value, None),), [("close", 4000, "a")]
        yield (
            f"subprotocol {kind}",
            accepted,
            (lambda v=value: Accept(None, v),),
            [SWITCHING, "Sec-WebSocket-Protocol: a"],
        )
        yield f"header {kind}", accepted, (lambda v=value: Accept(None, headers={"X": v}),), [SWITCHING, "X: a"]
        yield f"header name {kind}", accepted, (lambda v=value: Accept(None, headers={v: "1"}),), [SWITCHING, "a: 1"]
        yield f"reject body {kind}", rejected, (401, value), ([UNAUTHORIZED, PLAIN], b"a")
        yield f"reject header {kind}", rejected, (401, b"", {value: value}), ([UNAUTHORIZED, "a: a"], b"")
        yield f"channel send {kind}", spoken("send"), (value,), ["a"]
        yield f"option {kind}", set_to("subprotocol"), ([value],), (list, ["a"])
        yield f"interface {kind}", set_to("interface"), (value,), (str, "a")
        yield f"module's option {kind}", module_option("subprotocols"), ([value],), [str]
        yield f"stop {kind}", returned, (lambda v=value: Stop(v),), "aborted"
    for kind, value in BYTES.items():
        yield f"send {kind}", send, (value,), (True, [b"data"])
        yield f"ping {kind}", ping, (value,), (True, [("ping", b"data")])
        yield f"publish {kind}", published, (value,), "binary"
        yield f"deliver {kind}", delivered, (value,), [b"data"]
        yield f"reply {kind}", answered, (("reply", value, None),), [b"data"]
        yield f"reply list {kind}", answered, (("reply", [value], None),), [b"data"]
        yield f"answer pong {kind}", answered, (("pong", value, None),), [("pong", b"data")]
        yield f"reject body {kind}", rejected, (401, value), ([UNAUTHORIZED], b"data")
        yield f"channel send {kind}", spoken("send"), (value,), [b"data"]
        yield f"channel ping {kind}", spoken("ping"), (value,), [("ping", b"data")]
        yield f"channel pong {kind}", spoken("pong"), (value,), [("pong", b"data")]
        yield f"close with {kind}", returned, (lambda v=value: Close(v),), b"data"
        yield f"switch with {kind}", switched, (value,), [b"data"]
        yield f"encoded as {kind}", encoded, (value,), b"data"
        # These are as with Twisted's own: bytes, also of a subclass, and nothing else.
        whole = isinstance(value, bytes)
        yield f"write {kind}", written, (value,), b"data" if whole else "TypeError: Data must be bytes"
        yield f"returned {kind}", returned, (value,), b"data" if whole else f"TypeError: {wrong_result(value)}"
        yield f"topic {kind}", subscribed, (value,), f"TypeError: a topic is a str, not {name(value)}"
        yield f"close reason {kind}", close, (1000, value), f"ValueError: {value!r} is not a close reason: a str"
    for kind, value in NEITHER.items():
        no_message = f"TypeError: a message is a str or bytes, not {name(value)}"
        no_payload = f"TypeError: the payload of a ping or pong is a str or bytes, not {name(value)}"
        no_bytes = f"TypeError: bytes are wanted, not {name(value)}"
        yield f"send {kind}", send, (value,), no_message
        yield f"ping {kind}", ping, (value,), no_payload
        yield f"publish {kind}", published, (value,), no_message
        yield f"deliver {kind}", delivered, (value,), no_message
        yield f"subscribe {kind}", subscribed, (value,), f"TypeError: a topic is a str, not {name(value)}"
        yield f"publish to {kind}", published_to, (value,), f"TypeError: a topic is a str, not {name(value)}"
        yield f"answer ping {kind}", answered, (("ping", value, None),), no_payload.removeprefix("TypeError: ")
        yield f"channel send {kind}", spoken("send"), (value,), no_message
        yield f"channel ping {kind}", spoken("ping"), (value,), no_payload
        yield f"close with {kind}", returned, (lambda v=value: Close(v),), no_bytes
        yield f"switch with {kind}", switched, (value,), no_bytes
        yield f"encoded as {kind}", encoded, (value,), no_bytes
        yield f"write {kind}", written, (value,), "TypeError: Data must be bytes"
        if not isinstance(value, type(None) | dict):
            yield (
                f"headers {kind}",
                rejected,
                (401, b"", value),
                (f"TypeError: headers are a mapping of names to values, not {name(value)}"),
            )
    yield from answers()
    yield from numbers(close)
    yield from others(send, ping)


SWITCHING = "HTTP/1.1 101 Switching Protocols"
UNAUTHORIZED = "HTTP/1.1 401 Unauthorized"
PLAIN = "Content-Type: text/plain; charset=utf-8"


def wrong_result(value: Any) -> str:
    return f"a module returned {value!r}, not bytes, Switch, Close, Stop or a list of them"


def answers() -> Iterator[tuple[str, Callable[..., Any], tuple[Any, ...], Any]]:
    forms = '("noreply", state), ("reply", data, state)'
    for kind, form in {"StrEnum": Word.REPLY, "str, Enum": OldWord.REPLY, "lying": LyingStr("reply")}.items():
        yield f"form {kind}", answered, ((form, "data", None),), ["data"]
    yield "named tuple", answered, (Triple("reply", "data", None),), ["data"]
    yield "named tuple of an enumeration", answered, (Triple(Word.REPLY, Word.A, None),), ["a"]
    yield "lying tuple", answered, (LyingTuple(("reply", "data", None)),), ["data"]
    yield "noreply of an enumeration", answered, ((Word.NOREPLY, None),), []
    yield "ping of an enumeration", answered, ((Word.PING, None),), [("ping", b"")]
    yield "close of an enumeration", answered, ((Word.CLOSE, Code.GOING_AWAY, Word.A, None),), [("close", 1001, "a")]
    yield "tuple of messages", answered, (("reply", LyingTuple.__new__(tuple, ("a", b"b")), None),), ["a", b"b"]
    yield "empty messages", answered, (("reply", ["", b"", bytearray()], None),), ["", b"", b""]
    yield "no messages", answered, (("reply", [], None),), []
    yield "a large message", answered, (("reply", bytearray(LONG.encode()), None),), [LONG.encode()]
    for kind, wrong in {
        "list": ["reply", "data", None],
        "UserList": UserList(["reply", "data", None]),
        "str": "reply",
        "None": None,
        "empty": (),
        "dict": {"reply": "data"},
        "bytes for a form": (b"reply", "data", None),
        "UserString for a form": (UserString("ping"), "data", None),
    }.items():
        yield f"answer {kind}", answered_wrongly, (wrong,), f"that is none of {forms}"
    # Where a message is in a list, nothing of the list is sent.
    yield "half a list", answered, (("reply", ["a", "\ud800"], None),), "surrogates not allowed"


def answered_wrongly(answer: Any) -> str:
    """The beginning of what is said of an answer that is none."""
    with logged() as texts:
        peer = MemoryHost(Handler(answer=answer), websocket_options={"ping_interval": 0}).open()
        peer.text("go")
    assert peer.messages() == [("close", 1011, "")]
    return texts[0][texts[0].index("that is") :][: len('that is none of ("noreply", state), ("reply", data, state)')]


def numbers(close: Asked) -> Iterator[tuple[str, Callable[..., Any], tuple[Any, ...], Any]]:
    status: Any
    yield "close code of an enumeration", close, (Code.GOING_AWAY, ""), (True, [("close", 1001, "")])
    yield "lying close code", close, (LyingInt(4000), ""), (True, [("close", 4000, "")])
    for code in (True, False, 0, -1, 1005, 1015, 5000, 1000.0, "1000", Decimal(1000)):
        yield (
            f"close code {code!r}",
            close,
            (code, ""),
            (f"ValueError: {code!r} is not a close code to send: 1000-1003, 1007-1014, 3000-4999"),
        )
    yield (
        "lying code that may not be sent",
        close,
        (LyingInt(5), ""),
        ("ValueError: lie is not a close code to send: 1000-1003, 1007-1014, 3000-4999"),
    )
    for kind, status in {"HTTPStatus": HTTPStatus.UNAUTHORIZED, "lying": LyingInt(401)}.items():
        yield f"status {kind}", rejected, (status,), ([UNAUTHORIZED], b"")
    for status in (True, 200, 401.0, "401"):
        yield (
            f"status {status!r}",
            rejected,
            (status,),
            (f"ValueError: {status!r} is not a status to reject with: 300 to 599"),
        )
    port = set_to("port")
    for kind, value in {"int": 8080, "enumeration": Code.PORT, "lying": LyingInt(8080)}.items():
        yield f"port {kind}", port, (value,), (int, 8080)
    for wrong in (True, "8080", 8080.0, None, Decimal(8080), -1, 65_536):
        yield (
            f"port {wrong!r}",
            port,
            (wrong,),
            (f"ConfigurationError: port: {wrong!r} is not a whole number from 0 to 65535"),
        )
    yield "size of an enumeration", set_to("max_output"), (Code.PORT,), (int, 8080)
    yield "size by name", set_to("max_output"), (LyingStr("64KiB"),), (int, 65_536)
    for kind, seconds in {"int": 1, "float": 1.0, "lying": LyingFloat(1.0)}.items():
        yield f"time {kind}", set_to("close_timeout"), (seconds,), (float, 1.0)
        yield f"timer {kind}", timed, (seconds,), True
        yield f"module's time {kind}", module_option("ping_interval"), (seconds,), 1.0
    yield (
        "time nan",
        set_to("close_timeout"),
        (nan,),
        ("ConfigurationError: close_timeout: nan is not a number of seconds from 0.001 to 86400"),
    )
    yield (
        "module's time inf",
        module_option("ping_interval"),
        (inf,),
        ("ConfigurationError: websocket: ping_interval: inf is not a number of seconds from 0 to 86400"),
    )
    for early in (-1, 0, -0.0, Fraction(1, 2), Decimal("0.5"), False):
        yield f"timer {early!r}", timed, (early,), True
    yield "timer late", timed, (1e300,), False
    for never in (nan, inf, -inf):
        yield f"timer {never}", timed, (never,), f"ValueError: {never!r} is no number of seconds"
    yield "timer None", timed, (None,), "TypeError: must be real number, not NoneType"
    yield "timer str", timed, ("1",), "TypeError: must be real number, not str"


def others(send: Asked, ping: Asked) -> Iterator[tuple[str, Callable[..., Any], tuple[Any, ...], Any]]:
    door: Any
    buffer: Any
    no_text = "UnicodeEncodeError: 'utf-8' codec can't encode character '\\ud800' in position 0: surrogates not allowed"
    for door, what in ((send, "send"), (ping, "ping"), (subscribed, "subscribe"), (published, "publish")):
        yield f"{what} a lone surrogate", door, ("\ud800",), no_text
        yield f"{what} a lying lone surrogate", door, (LyingStr("\ud800"),), no_text
    for door, what in ((send, "send"), (ping, "ping"), (published, "publish"), (switched, "switch with")):
        yield f"{what} what was released", door, (released(),), NO_VIEW
    yield "encoded as what was released", encoded, (released(),), NO_VIEW
    yield "send nothing", send, ("",), (True, [""])
    yield "send no bytes", send, (memoryview(b""),), (True, [b""])
    yield "send much", send, (LyingStr(LONG),), (True, [LONG])
    yield "send much in bytes", send, (LyingBytes(LONG.encode()),), (True, [LONG.encode()])
    # 32 of them are 128 bytes.
    too_long = "ValueError: the payload of a ping or pong has at most 125 bytes, not 128"
    yield "ping of many integers", ping, (memoryview(bytes(128)).cast("I"),), too_long
    yield "channel ping of many integers", spoken("ping"), (memoryview(bytes(128)).cast("I"),), too_long
    yield "channel pong of many bytes", spoken("pong"), (LyingBytes(128),), too_long
    yield "empty topic", subscribed, ("",), "ValueError: a topic has 1 to 255 bytes, not 0"
    yield "long topic", subscribed, (LyingStr("ü" * 128),), "ValueError: a topic has 1 to 255 bytes, not 256"
    yield "no encoding", encoded, (b"",), b""
    yield "encoded as a str", encoded, ("text",), "TypeError: bytes are wanted, not str"
    yield "returned None", returned_none, (None,), b""
    yield "returned a str", returned, ("text",), f"TypeError: {wrong_result('text')}"
    yield "closed by one's own", returned, (lambda: Closing(LyingBytes(b"bye")),), b"bye"
    yield "write nothing", written, (LyingBytes(b""),), b""
    yield "write a sequence", written_in_sequence, ([b"a", LyingBytes(b"b")],), b"ab"
    yield "write a sequence of one", written_in_sequence, ((LyingBytes(b"data"),),), b"data"
    for kind, wrong in {"None": None, "of text": ["a"], "of numbers": [1], "a number": 5}.items():
        yield f"write a sequence {kind}", written_in_sequence, (wrong,), "TypeError: Data must be bytes"
    no_room = "ValueError: that is no buffer to read into: writable, contiguous, and with room in it"
    for kind, buffer in {
        "bytes": b"data",
        "read-only": memoryview(b"data"),
        "not contiguous": memoryview(bytearray(8))[::2],
        "empty": bytearray(),
    }.items():
        yield f"read into {kind}", read_into, (buffer,), no_room
    for kind, buffer in {
        "None": None,
        "bytearray": bytearray(4),
        "memoryview": memoryview(bytearray(4)),
        "array": array.array("I", [1]),
    }.items():
        yield f"read into {kind}", read_into, (buffer,), "taken"
    yield "read into str", read_into, ("data",), "TypeError: memoryview: a bytes-like object is required, not 'str'"
    yield "read into int", read_into, (4,), "TypeError: memoryview: a bytes-like object is required, not 'int'"
    tables: dict[str, Callable[[dict[str, Any]], Any]] = {
        "dict": dict,
        "of one's own": Dict,
        "OrderedDict": OrderedDict,
        "UserDict": UserDict,
        "proxy": MappingProxyType,
    }
    for kind, make in tables.items():
        yield f"options {kind}", configured, (make({OldWord.PORT: 81, "handler": Handler()}),), 81
        headers: Mapping[str, str] = make({"X": "1"})
        yield f"accept headers {kind}", accepted, (lambda h=headers: Accept(None, None, h),), [SWITCHING, "X: 1"]
        yield f"reject headers {kind}", rejected, (401, b"", headers), ([UNAUTHORIZED, "X: 1"], b"")
    yield "options pairs", configured, ([(Word("a"), 1)],), "ConfigurationError: unknown option 'a'"
    yield "options that lie", configured, ({LyingStr("port"): 82, "handler": Handler()},), 82
    yield "options None", configured, (None,), "ConfigurationError: the options: None is not a table"
    yield (
        "option None",
        configured,
        ({None: 1},),
        "ConfigurationError: the options: None is not a name",
    )
    split = LyingStr("a\r\nX: 1")
    yield (
        "a header that splits",
        rejected,
        (401, b"", {"X": split}),
        ("ValueError: lie is not a value for the header X"),
    )


def returned_none(result: Any) -> Any:
    with logged() as texts:
        peer = MemoryHost(chain=[Link("module", Module(result), None)]).connect()
        peer.send(b"go")
        heard = peer.take()
    assert texts == []
    return heard


TABLE = list(rows())


@pytest.mark.parametrize(("door", "given", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_each_argument_gets_the_expected_answer(
    door: Callable[..., Any], given: tuple[Any, ...], expected: Any
) -> None:
    assert door(*given) == expected


def test_each_row_has_a_name_of_its_own() -> None:
    assert len({row[0] for row in TABLE}) == len(TABLE) > 500
