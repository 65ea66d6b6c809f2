"""One connection: the protocol of its transport, and what its refs ask. It is admitted, lives, and frees its place.

`context.py` runs the modules of the chain, `stream.py` has the output. Nothing here knows what bytes mean.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import classImplements

from wshost.connections.context import BRINGS_OUTPUT, MAX_KEPT, Context
from wshost.connections.ref import Ref
from wshost.connections.shared import Shared
from wshost.connections.stream import Stream
from wshost.messages import CALL
from wshost.results import Close
from wshost.topics.subscriptions import Topics

#: These are the connection's to do, and no module's.
_TOPIC_ACTIONS = frozenset({"subscribe", "unsubscribe"})


class Connection:
    """One connection.

    :param shared: what all connections of the hub share.
    :param topics: those of the hub.
    :param id: names it in refs and in the log.
    :param admitted: False when the server is full.
    """

    def __init__(self, shared: Shared, topics: Topics, id: str, admitted: bool) -> None:
        self.id = id
        #: What its modules see, and what runs them.
        self.context = Context(shared, id, admitted)
        #: Its output and its end.
        self.stream: Stream = self.context.stream
        self._shared = shared
        self._topics = topics
        # The IP address under which it is counted.
        self._counted_address: str | None = None

    @property
    def ref(self) -> Ref:
        """What names it elsewhere."""
        return self.context.ref

    # What refs ask for

    def ask(self, size: int, action: str, *args: Any) -> bool:
        """Ask for something in the reactor's thread, maybe from within users' code.

        A module whose driver may call users' code for it is asked in a later turn.

        :param size: what it weighs while it waits, in bytes.
        :returns: whether it was accepted.
        """
        if action in _TOPIC_ACTIONS or self.context.is_prompt:
            return self._ask_now(action, args)
        return self.ask_later(size, action, *args)

    def ask_later(self, size: int, action: str, *args: Any) -> bool:
        """Ask for something in a later turn, from any thread. What waits until then is bounded as output is.

        :param size: what it weighs while it waits, in bytes.
        :returns: whether it was accepted.
        """
        stream, most = self.stream, self._shared.limits.max_output
        if stream.closing or (stream.output_full and action in BRINGS_OUTPUT):
            return False
        if action not in BRINGS_OUTPUT:
            # To close, or to take something back, has room of its own.
            most = 2 * most + MAX_KEPT * CALL
        return self._shared.registry.thread.post(self.id, size, most, self._ask_now, action, args)

    def _ask_now(self, action: str, args: tuple[Any, ...]) -> bool:
        return self._ask_topics(action, *args) if action in _TOPIC_ACTIONS else self.context.ask(action, *args)

    def _ask_topics(self, action: str, name: str) -> bool:
        subscriber = self.context.subscriber
        if action == "unsubscribe":
            if subscriber is not None:
                self._topics.unsubscribe(subscriber, name)
            return True
        if not self.stream.takes_output:
            return False
        if subscriber is None:
            subscriber = self.context.subscriber = self._topics.subscriber(self.id, self.stream, self.ask)
            subscriber.use_encoding(self.context.encoding)
        return self._topics.subscribe(subscriber, name)

    def shut_down(self) -> None:
        """Say good-bye to the peer: the server stops."""
        if self.context.is_prompt:
            self._say_good_bye()
        else:
            # Users' code may be what stops the server.
            self.context.call_soon(self._say_good_bye)

    def _say_good_bye(self) -> None:
        if not self.context.ask("shutdown"):
            self.context.perform(Close())

    def abort(self, reason: str) -> None:
        """End at once; output that waits is lost."""
        self.stream.abort(reason)

    # From the transport

    def makeConnection(self, transport: Any) -> None:
        self.stream.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        self._shared.registry.add(self)
        self.stream.connect(self.stream.transport)
        self._count_address()
        self.context.run(self._start, "failed to start")

    def dataReceived(self, data: bytes) -> None:
        if not self.stream.closing:
            self.context.receive(data)
            self.stream.flush()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes were read into the buffer of `receive_into`; the name is that of asyncio's protocols."""
        if not self.stream.closing:
            self.context.receive(b"", nbytes)
            self.stream.flush()

    def readConnectionLost(self) -> None:
        self.stream.peer_ended()

    def writeConnectionLost(self) -> None:
        """Do nothing: we have closed our half."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.stream.lost()
        shared = self._shared
        # Whatever the modules raise, the connection must not go on holding its place.
        try:
            self.context.leave(self.stream.reason or reason.getErrorMessage())
        finally:
            if self._counted_address is not None:
                shared.admission.discount_address(self._counted_address)
            shared.admission.forget(self.id)
            subscriber, self.context.subscriber = self.context.subscriber, None
            try:
                if subscriber is not None:
                    self._topics.forget(subscriber)
            finally:
                shared.registry.remove(self)

    # Admission

    def _count_address(self) -> None:
        host = getattr(self.stream.transport.getPeer(), "host", None)
        if self.context.admitted and host is not None:
            self.context.admitted = self._shared.admission.count_address(host)
            if self.context.admitted:
                self._counted_address = host

    def _start(self) -> None:
        if self.context.admitted or self._shared.admission.refuse(self.id):
            self.context.start()
        if not self.context.admitted and not self.stream.closing:
            self.abort("it was not admitted")


# Not by a decorator: Cython's classes take none.
classImplements(Connection, IProtocol, IHalfCloseableProtocol)


class ProxiedConnection(Connection):
    """A connection through a proxy, which says the peer's address in a header before the peer's first bytes.

    The transport's `call_when_known` tells when the header has come. The address of a connection counts from then on.
    """

    def _count_address(self) -> None:
        self.stream.transport.call_when_known(self._count_known_address)

    def _count_known_address(self) -> None:
        super()._count_address()
        if not self.context.admitted and not self.stream.closing:
            self.context.leave("too many from one address")
            if not self.stream.closing:
                self.context.run(self._start, "failed to start")
