"""A host in memory whose connections subscribe to the topics in their path, and modules with encodings."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.extensions import PerMessageDeflate
from zope.interface import implementer

from tests.memory import MemoryHost, Peer
from wshost.cluster.exchange import Exchange
from wshost.connections.shared import Link
from wshost.interfaces import IContext, IEncoding, ILocalTopics, IPromptDriver, IProtocolModule
from wshost.results import REFUSED, Close


class Handler:
    """Subscribes each connection to the topics in its path, `/a/b`. The test's function handles its messages."""

    def __init__(self, handle: Callable[[Any, Any], Any] | None = None) -> None:
        self.refs: list[Any] = []
        self._handle = handle

    def init(self, options: Any) -> Any:
        ref = options["worker"]
        self.refs.append(ref)
        for topic in filter(None, options["connection"].path.split("/")):
            assert ref.subscribe(topic)
        return ref

    def handle(self, message: Any, ref: Any) -> Any:
        if self._handle is not None and message[0] in ("text", "info"):
            return self._handle(message[1], ref)
        return ("noreply", ref)


def matches(pattern: str, topic: str) -> bool:
    """Whether a pattern matches a topic: a model of it, as a regular expression."""
    words = {"*": r"[^.]*", ">": r".*"}
    return (
        re.fullmatch(r"\.".join(words.get(token, re.escape(token)) for token in pattern.split(".")), topic) is not None
    )


#: Offers of permessage-deflate: that it refers back to messages before, or does not (RFC 7692 §7.1.1.1).
CONTEXT = "permessage-deflate"
NO_CONTEXT = "permessage-deflate; server_no_context_takeover"


class Backplane(Exchange):
    """A backplane that shows what is subscribed to it."""

    def __init__(self) -> None:
        super().__init__()
        self.subscribed: list[tuple[str, ILocalTopics]] = []

    def subscribe(self, topic: str, local: ILocalTopics) -> None:
        super().subscribe(topic, local)
        self.subscribed.append((topic, local))

    def unsubscribe(self, topic: str, local: ILocalTopics) -> None:
        super().unsubscribe(topic, local)
        self.subscribed.remove((topic, local))


class Rooms(MemoryHost):
    """A host with a backplane of its own."""

    def __init__(self, handle: Callable[[Any, Any], Any] | None = None, **options: Any) -> None:
        self.backplane = Backplane()
        self.handler = Handler(handle)
        websocket_options = {"ping_interval": 0, **options.pop("websocket_options", {})}
        super().__init__(self.handler, websocket_options=websocket_options, exchange=self.backplane, **options)

    @property
    def topics(self) -> Any:
        return self.hub.topics

    def publish(self, topic: str, *messages: str | bytes) -> list[bool]:
        return [self.backplane.publish(topic, message) for message in messages]

    def open_deflated(self, path: str, offer: str) -> Peer:
        """Return a new client that has done its opening handshake, with an offer of permessage-deflate."""
        peer = self.connect()
        head = peer.upgrade(path, {"Sec-WebSocket-Extensions": offer}).decode()
        _, _, agreed = head.partition("Sec-WebSocket-Extensions: ")
        deflate = PerMessageDeflate()
        deflate.finalize(agreed.partition("\r\n")[0])
        peer.frames = Connection(ConnectionType.CLIENT, [deflate])
        return peer

    def empty(self) -> bool:
        """Whether nothing is left of any topic."""
        return bool(self.topics.empty) and not self.backplane.subscribed


def writes(peer: Peer) -> list[bytes]:
    """The writes since the last time."""
    peer.turn()
    found, peer.transport.writes = peer.transport.writes, []
    return found


@implementer(ILogObserver)
class logged:  # noqa: N801 - as a context it reads like a function
    """The lines that failures leave in the log."""

    def __enter__(self) -> list[str]:
        self.texts: list[str] = []
        globalLogPublisher.addObserver(self)
        return self.texts

    def __call__(self, event: LogEvent) -> None:
        if "what" in event:
            self.texts.append(f"{event['connection']}: {event['what']}")

    def __exit__(self, *exc: object) -> None:
        globalLogPublisher.removeObserver(self)


@implementer(IProtocolModule, IPromptDriver)
class Plain:
    """A module and its driver, with an encoding or none. It sends in lower case what it is asked to send."""

    def __init__(self, encoding: Any = None, context: Any = None) -> None:
        self.encoding = encoding
        self.context = context

    def init(self, options: Any, context: IContext) -> Plain:
        context.use_encoding(self.encoding)
        return Plain(self.encoding, context)

    def handle_connection_in(self, data: bytes) -> Any:
        return Close(data)

    def handle_action(self, action: str, *args: Any) -> Any:
        if action == "send" and args[0] != "no":
            return args[0].lower().encode()
        return REFUSED

    def handle_connection_close(self, reason: str) -> None:
        """Nothing."""


@implementer(IEncoding)
class Loud:
    """An encoding in upper case; fails on "bad"."""

    def encode(self, data: str | bytes) -> bytes:
        assert isinstance(data, str)
        if data == "Bad":
            raise ValueError(data)
        return data.upper().encode()


def serve(encoding: Any) -> tuple[MemoryHost, Peer]:
    """A host with `Plain` and one connection, which has subscribed to "a"."""
    host = MemoryHost(chain=[Link("plain", Plain(encoding), None)])
    peer = host.connect()
    assert peer.connection.ref.subscribe("a")
    return host, peer
