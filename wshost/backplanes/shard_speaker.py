"""Speaks with one server of a Redis Cluster after the other. Knows neither which parts it has, nor another server.

One of them is the guide: any server, which is asked who has which slots. All others are masters.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol as Shape

from wshost.backplanes.connection import BrokerError
from wshost.backplanes.redis_speaker import HELLO, Owner, RedisSpeaker, Subscribed, Taker
from wshost.backplanes.resp import ErrorReply, Push, Value, command
from wshost.backplanes.topology import QUESTION, is_topology

#: The oldest version that has sharded publish and subscribe.
OLDEST = 7

# Errors that say that the server has no such slot now, by their codes; and such an error of the script that publishes.
_ELSEWHERE = frozenset({"MOVED", "ASK", "TRYAGAIN"})
_UNSENT = "a non local key"
# Errors of a server that does nothing now, as it does not know the whole cluster, or masters are missing.
_DOWN = ("CLUSTERDOWN", "the cluster is down")


class Place(Owner, Shape):
    """Whom a `ShardSpeaker` tells what its server says."""

    def learn(self, answer: Value) -> None:
        """The server has answered `QUESTION`. :raises BrokerError: when it must not be asked again."""

    def left(self, channel: bytes) -> None:
        """The server brings nothing of a channel any more, unasked: it has lost the channel's slot."""

    def moved(self, slot: int | None) -> None:
        """The server has refused to do something, as it has not got the slot; None: it does not say which."""

    def settled(self) -> None:
        """What was subscribed to by `ShardSpeaker.take_over` is in place."""

    def wonders(self) -> bool:
        """Whether a guide is to be asked with each ping."""


class ShardSpeaker(RedisSpeaker):
    """A `Speaker` for one server; see there.

    :param place: is told what the server says.
    :param guide: any server will do; else only a master.
    :param known: one has let us in before, so no refusal is final.
    """

    def __init__(
        self,
        name: str,
        subscriptions: Subscribed,
        receiver: Taker,
        place: Place,
        *,
        guide: bool = False,
        known: bool = False,
    ) -> None:
        super().__init__(name, subscriptions, receiver, place, sentinels=False)
        self._place = place
        self._guide = guide
        self._known = known
        # What to do with the answer to each HELLO that was sent since the server has let us in.
        self._awaited: deque[Callable[[], None]] = deque()
        # How often each channel was unsubscribed from on this connection, and that is not confirmed yet.
        self._leaving: Counter[bytes] = Counter()
        #: How many of `take_over` are not in place yet.
        self.unsettled = 0

    def ask(self) -> None:
        """Ask who has which slots, if the server listens."""
        self.subscribe(QUESTION)

    def leave(self, channels: Sequence[str]) -> None:
        """Unsubscribe from channels of one part."""
        if self._subscribing:
            self._leaving.update(channel.encode() for channel in channels)
            self.link.command(command("SUNSUBSCRIBE", *channels))

    def take_over(self, commands: Iterable[bytes]) -> None:
        """Subscribe to what this server has from now on; it tells when that is in place."""
        if self._subscribing:
            for one in commands:
                self.link.command(one)
            self.unsettled += 1
            self._say_hello(self._settle)

    # For the link

    def begin(self) -> None:
        self._awaited.clear()
        self._leaving.clear()
        self.unsettled = 0
        super().begin()

    def ping(self) -> None:
        if self._guide and self._place.wonders():
            self.ask()
        self._say_hello(self.link.answered)

    # Replies

    def _say_hello(self, then: Callable[[], None]) -> None:
        self._awaited.append(then)
        self.link.command(HELLO)

    def _settle(self) -> None:
        self.unsettled -= 1
        self._place.settled()

    def _reply(self, value: Value) -> None:
        if not isinstance(value, Push):
            super()._reply(value)
        elif value[:1] == [b"sunsubscribe"] and len(value) > 1 and isinstance(value[1], bytes):
            channel = value[1]
            if self._leaving[channel] > 1:
                self._leaving[channel] -= 1
            elif not self._leaving.pop(channel, 0):
                self._place.left(channel)

    def _confirmed(self, value: Value) -> None:
        # The script's name, and what is said of slots, come before the answer to HELLO.
        if not isinstance(value, bytes) and not self._has_moved(value):
            super()._confirmed(value)

    def _running(self, value: Value) -> None:
        if isinstance(value, ErrorReply) and value.code == "NOSCRIPT":
            # It has forgotten all scripts: a new connection makes it know ours.
            raise BrokerError("it has forgotten the script that publishes")
        if not self._has_moved(value):
            super()._running(value)

    def _has_moved(self, value: Value) -> bool:
        """Handle what is said of slots; return False for all else."""
        if isinstance(value, ErrorReply):
            if any(text in value for text in _DOWN):
                raise BrokerError("it says that the cluster is down")
            if _UNSENT in value:
                self._receiver.dropped(1)
                self._place.moved(None)
            elif value.code in _ELSEWHERE:
                word = value.split(" ")[1] if value.code == "MOVED" and " " in value else ""
                self._place.moved(int(word) if word.isascii() and word.isdigit() else None)
            else:
                return False
            return True
        if not is_topology(value):
            return False
        self._place.learn(value)
        return True

    def _answered(self) -> None:
        if self._awaited:
            self._awaited.popleft()()

    def _judge(self, facts: Mapping[str, Value]) -> bool:
        version = facts.get("version")
        major = version.partition(b".")[0] if isinstance(version, bytes) else b""
        if facts.get("mode") != b"cluster":
            return self._final("it is no server of a cluster, and its URL begins with redis+cluster")
        if major.isdigit() and int(major) < OLDEST:
            return self._final(f"it is older than Redis {OLDEST}: it has no sharded publish and subscribe")
        if not self._guide and facts.get("role") != b"master":
            raise BrokerError("it is a replica, and not the master")
        return True
