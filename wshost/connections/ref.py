"""References to connections: small, usable from any thread and process, harmless when the connection is gone.

A ref knows an id, and where connections of its home are found by id. It holds no connection.
"""

from __future__ import annotations

from typing import Any, Literal, NoReturn, overload

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from wshost.connections import home
from wshost.connections.confirmation import SECONDS
from wshost.connections.homes import HOMES, Lookup
from wshost.exact import octets
from wshost.exact import seconds as exact_seconds
from wshost.exact import text as exact_text
from wshost.interfaces import IRef
from wshost.messages import CALL, NORMAL_CLOSE, check_close, check_key, check_message, check_payload, check_topic
from wshost.results import Outcome, Sent
from wshost.topics.patterns import check_published

#: An info counts for this many bytes while it waits, as its size is not known.
INFO = 1_024

# A global is found faster than an enumeration's member.
_DROPPED = Sent.DROPPED


@implementer(IRef)
class Ref:
    """Names one connection, without a reference to the object. See `wshost.interfaces.IRef`.

    It never changes, may be a key of a dict, and may be pickled: it means the same connection in every process.

    :param registry: where the connection is found.
    :param id: the connection's id.
    """

    __slots__ = ("_registry", "id")

    #: Where the connection is found.
    _registry: Lookup
    #: Names the connection in its process, and in that one's log.
    id: str

    def __init__(self, registry: Lookup, id: str) -> None:
        set_once = object.__setattr__
        set_once(self, "_registry", registry)
        set_once(self, "id", id)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a reference never changes: {name} can't be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a reference never changes: {name} can't be deleted")

    def __repr__(self) -> str:
        return f"<Ref {self}>"

    def __str__(self) -> str:
        return home.write(self._registry.home, self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and other.id == self.id and other._registry.home == self._registry.home

    def __hash__(self) -> int:
        return hash((self._registry.home.boot, self.id))

    def __reduce__(self) -> tuple[Any, ...]:
        return _parsed, (str(self),)

    @classmethod
    def parse(cls, text: str, key: bytes | None = None) -> Ref:
        """Return the reference that `str`, or `signed`, has made a text of, maybe in another process, long ago.

        A text that comes from a client must be one that was signed: others would let it act on any connection.

        :param key: the key with which it was signed; None: it was not.
        :raises TypeError: when it is no str, or the key no bytes.
        :raises ValueError: when it is no such text, or was not signed with this key.
        """
        given = exact_text(text)
        where, id = home.read(given if key is None else home.check_signature(given, octets(key)))
        return cls(HOMES.find(where), id)

    def signed(self, key: bytes) -> str:
        """Return the reference as text with a signature, such as a client may have: it can't make another of it.

        :param key: at least 16 bytes, which nobody else knows (HMAC-SHA256, RFC 2104).
        :raises TypeError: when the key is no bytes.
        :raises ValueError: when it is too short.
        """
        return home.sign(str(self), octets(key))

    @overload
    def send(
        self, data: str | bytes, key: str | None = None, *, confirm: Literal[False] = False, timeout: float = SECONDS
    ) -> Sent: ...
    @overload
    def send(
        self, data: str | bytes, key: str | None = None, *, confirm: Literal[True], timeout: float = SECONDS
    ) -> Deferred[Outcome]: ...
    @overload
    def send(
        self, data: str | bytes, key: str | None = None, *, confirm: bool = False, timeout: float = SECONDS
    ) -> Sent | Deferred[Outcome]: ...
    def send(
        self, data: str | bytes, key: str | None = None, *, confirm: bool = False, timeout: float = SECONDS
    ) -> Sent | Deferred[Outcome]:
        """Send one message: a str as text, bytes as binary.

        :param key: if the handler's `when_slow` is "conflate", the message takes the place of a waiting one with the
            same key. Otherwise it means nothing.
        :param confirm: wait until it is known what became of the message. Only in the reactor's thread.
        :param timeout: seconds that this may take, at most 300.
        :returns: what became of it; false if it is dropped. With `confirm`, a Deferred with the `Outcome`, which
            coroutines may await, asyncio's tasks, too.
        :raises TypeError: for data that is anything else, or a key that is not a str.
        :raises ValueError: for a key that is empty, or longer than 255 bytes of UTF-8; for a timeout that is not
            positive.
        :raises UnicodeEncodeError: for a str with lone surrogates.
        :raises RuntimeError: with `confirm`, in another thread.
        """
        data, size = check_message(data)
        if key is not None:
            key = check_key(key)
        if confirm:
            return self._send_confirmed(CALL + size, data, key, timeout)
        connection = self._registry.find(self.id)
        if connection is None:
            return _DROPPED
        if self._registry.thread.is_current():
            return connection.send(CALL + size, data, key)
        return connection.send_later(CALL + size, data, key)

    def _send_confirmed(self, size: int, data: str | bytes, key: str | None, timeout: float) -> Deferred[Outcome]:
        seconds = exact_seconds(timeout)
        if seconds <= 0:
            raise ValueError(f"{timeout!r} is no time to wait")
        if not self._registry.thread.may_wait():
            raise RuntimeError("confirm works in the reactor's thread only")
        connection = self._registry.find(self.id)
        if connection is None:
            return succeed(self._registry.missing)
        return connection.send_confirmed(size, data, key, seconds)

    @property
    def waiting(self) -> int:
        """How many bytes wait for the peer now, in wshost and its transport; 0 when the connection is gone."""
        connection = self._registry.find(self.id)
        return 0 if connection is None else connection.waiting

    def drained(self) -> Deferred[bool]:
        """Wait until no output waits for the peer. Only in the reactor's thread.

        :returns: fires with True then, at once if nothing waits; with False when the connection has gone.
        :raises RuntimeError: in another thread, or when too many wait for this connection already.
        """
        if not self._registry.thread.is_current():
            raise RuntimeError("drained() works in the reactor's thread only; in other threads, look at waiting")
        connection = self._registry.find(self.id)
        return succeed(False) if connection is None else connection.drained()

    def ping(self, data: str | bytes = b"") -> bool:
        """Send a ping of at most 125 bytes.

        :raises TypeError: when it is neither str nor bytes.
        :raises ValueError: when it is longer (RFC 6455 §5.5), or a str with lone surrogates.
        """
        return self._ask(CALL, "ping", check_payload(data))

    def close(self, code: int | None = NORMAL_CLOSE[0], reason: str = NORMAL_CLOSE[1]) -> bool:
        """Close the connection properly.

        :param code: None for a Close without a code and a reason (RFC 6455 §5.5.1).
        :param reason: cut to 123 bytes.
        :raises ValueError: for a code that may not be sent (RFC 6455 §7.4), or a reason without a code.
        """
        if code is None and reason == NORMAL_CLOSE[1]:
            reason = ""
        return self._ask(CALL, "close", *check_close(code, reason))

    def info(self, message: Any) -> bool:
        """Give the connection's handler ``("info", message)``."""
        return self._ask(INFO, "info", message)

    def subscribe(self, topic: str, tell_lost: bool = False) -> bool:
        """Send the connection messages that are published to a topic from now on.

        :param topic: it may be a pattern: ``rooms.*`` for one token of any text, ``rooms.>`` for one or more.
        :param tell_lost: give the handler ``("info", ("lost", topic, messages))`` when so many messages of other
            processes are known to be lost on their way here; once a turn.
        :raises TypeError: when the topic is no str, or `tell_lost` no bool.
        :raises ValueError: when it is empty, longer than 255 bytes of UTF-8, or has a token ``>`` that is not the last.
        """
        if type(tell_lost) is not bool:
            raise TypeError(f"tell_lost is True or False, not {type(tell_lost).__name__}")
        topic = check_topic(topic)
        return self._ask(CALL, "subscribe", topic, True) if tell_lost else self._ask(CALL, "subscribe", topic)

    def unsubscribe(self, topic: str) -> bool:
        """Undo a `subscribe`. :raises TypeError, ValueError: as `subscribe`."""
        return self._ask(CALL, "unsubscribe", check_topic(topic))

    @property
    def boot(self) -> str:
        """Names the run of the server in which the connection lives."""
        return self._registry.home.boot

    def monitor(self, other: IRef) -> bool:
        """Give the connection's handler ``("info", ("down", other, reason))``, once, when another connection has ended.

        It comes at once if the other is gone already. The reason is a str: why its transport has ended, or why
        wshost has ended it; "gone" when that is not known; "unreachable" when its process was silent for 3 seconds.

        :returns: False also when the connection monitors 1,000 others already.
        :raises TypeError: when the other is no `Ref`.
        """
        return self._ask(CALL, "monitor", _checked(other))

    def demonitor(self, other: IRef) -> bool:
        """Undo a `monitor`, if there was one. :raises TypeError: when the other is no `Ref`."""
        return self._ask(CALL, "demonitor", _checked(other))

    def watch(self, topic: str) -> bool:
        """Give the connection's handler ``("info", ("presence", topic, joined, left))`` when presences change.

        The first one says who is present now. More come at most once in 0.2 seconds.
        `joined` is a dict of what is said of each `Ref`, new or anew; `left` is a tuple of `Ref`.

        :returns: False also when the connection watches 1,000 topics already.
        :raises TypeError, ValueError: for a topic to which nothing can be published.
        """
        return self._ask(CALL, "watch", check_published(topic))

    def unwatch(self, topic: str) -> bool:
        """Undo a `watch`, if there was one. :raises TypeError, ValueError: as `watch`."""
        return self._ask(CALL, "unwatch", check_published(topic))

    def _ask(self, size: int, action: str, *args: Any) -> bool:
        connection = self._registry.find(self.id)
        if connection is None:
            return False
        if self._registry.thread.is_current():
            return connection.ask(size, action, *args)
        return connection.ask_later(size, action, *args)


def _parsed(text: str) -> Ref:
    # Not a method: pickle's older protocols can't name these.
    return Ref.parse(text)


def _checked(other: IRef) -> Ref:
    if not isinstance(other, Ref):
        raise TypeError(f"a reference is wanted, not {type(other).__name__}")
    return other
