"""Carries payloads over Redis or Valkey, by its publish and subscribe. Knows no topic.

One connection carries both directions, by RESP3, so Redis 6 is the oldest. With Sentinel, each connection begins with
the question for the master. The number of a database in a URL means nothing: all databases share the channels. Any node
of a Redis Cluster will do, as each passes on to all; so a cluster carries no more publications than one server does:
see `redis_cluster`.

With TLS, Sentinels must name the master as its certificate does: ``sentinel announce-hostnames yes``.

The server sends what a process publishes also back to it, if it has subscribed to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from wshost.backplanes.link import Link
from wshost.backplanes.redis_speaker import LARGEST, REPLICATION, RedisSpeaker
from wshost.backplanes.redis_subscriptions import Subscriptions
from wshost.backplanes.resp import command
from wshost.backplanes.settings import BackplaneSettings
from wshost.interfaces import IBackplaneReceiver, ITellingBackplane
from wshost.results import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

#: The schemes of URLs. A doubled s stands for TLS.
SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")
#: The longest commands around a payload, in bytes.
AROUND = 1_300
#: The beginnings of the commands for so many subjects are kept.
KNOWN = 10_000


@implementer(ITellingBackplane)
class RedisBackplane:
    """See `wshost.interfaces.IBackplane`.

    :param settings: those of the scheme ``redis+sentinel`` name Sentinels, and in the path the master.
    :param link: makes the connection.
    :raises ConfigurationError: when these settings can't be meant.
    """

    def __init__(self, settings: BackplaneSettings, link: Callable[..., Link] = Link) -> None:
        if settings.scheme not in SCHEMES:
            raise ConfigurationError(f"{settings.scheme} is no scheme for Redis: {', '.join(SCHEMES)}")
        self._settings = settings
        self._sentinels = settings.scheme.endswith("+sentinel")
        if self._sentinels and not all(broker.path for broker in settings.brokers):
            raise ConfigurationError(f"{settings.scheme}: the path must name the master, as in host:26379/mymaster")
        # Nobody is at another server than the others.
        self._stays = self._sentinels or len(settings.brokers) == 1
        # The whole command counts as what waits.
        self.largest = min(LARGEST, settings.buffer - AROUND)
        self._make_link = link
        self._subscriptions = Subscriptions()
        # The beginning of the command that publishes, by subject.
        self._beginnings: dict[str, bytes] = {}
        self._receiver: IBackplaneReceiver
        self._speaker: RedisSpeaker
        self._link: Link | None = None
        # The results of `connect` and `close`.
        self._connecting: Deferred[None]
        self._closed: Deferred[None] | None = None

    @property
    def waiting(self) -> int:
        return 0 if self._link is None else self._link.output.waiting

    def connect(self, reactor: Any, receiver: IBackplaneReceiver) -> Deferred[None]:
        self._receiver = receiver
        self._speaker = RedisSpeaker(self._settings.name, self._subscriptions, receiver, self, self._sentinels)
        try:
            self._link = link = self._speaker.link = self._make_link(reactor, self._settings, self._speaker)
        except ConfigurationError:
            self._connecting = fail()
        else:
            self._send = link.send
            self._connecting = Deferred(self._cancel)
            link.start()
        return self._connecting

    def close(self) -> Deferred[None]:
        # It does nothing to a result that is there.
        self._connecting.cancel()
        return self._close()

    def publish(self, subject: str, payload: bytes) -> bool:
        size = len(payload)
        if size > self.largest:
            return False
        beginning = self._beginnings.get(subject)
        if beginning is None:
            beginning = self._begin(subject)
        return self._send(b"%b%d\r\n%b\r\n" % (beginning, size, payload))

    def flush(self) -> None:
        """Send what was published in this turn: nothing more comes in it."""
        if self._link is not None:
            self._link.output.flush()

    def publish_or_tell(self, subject: str, payload: bytes, nobody: Callable[[], object]) -> bool:
        """See `ITellingBackplane`. A server of a Redis Cluster knows only its own subscribers, and is not asked.

        A master does not count those at its replicas, where some may still be who take one for the master of before.
        Sentinels disconnect all clients of that one. Elsewhere, only a master without replicas is believed. It is not
        asked where another of several servers may take its place.
        """
        if not (self._stays and self._speaker.knows_all) or len(payload) > self.largest:
            return self.publish(subject, payload)
        asked = self._speaker.asked
        number = asked.number()
        # The answer to the last command repeats the number, behind that to the first, which has none. Who may use
        # @pubsub alone may use it, too.
        replicas = b"" if self._sentinels else REPLICATION
        taken = self._send(command("PUBLISH", subject, payload) + replicas + command("PUBSUB", "NUMSUB", number))
        if taken:
            asked.keep(number, nobody)
        return taken

    def subscribe(self, subject: str) -> None:
        self._speaker.subscribe(self._subscriptions.add(subject))

    def unsubscribe(self, subject: str) -> None:
        self._speaker.subscribe(self._subscriptions.remove(subject))

    # For the speaker

    def up(self) -> None:
        """Tell that all is in place."""
        self._receiver.connected()
        if not self._connecting.called:
            self._connecting.callback(None)

    def down(self, reason: str) -> None:
        """Tell that payloads wait."""
        if self._closed is None:
            self._receiver.disconnected(reason)

    def refused(self, error: ConfigurationError) -> None:
        """Give up."""
        self._close().addCallback(self._fail, error)

    def _fail(self, _: None, error: ConfigurationError) -> None:
        if not self._connecting.called:
            self._connecting.errback(error)

    def _cancel(self, _: object) -> None:
        self._close()

    def _close(self) -> Deferred[None]:
        if self._closed is None:
            self._closed = succeed(None) if self._link is None else self._link.close()
        return self._closed

    def _begin(self, subject: str) -> bytes:
        """Return the beginning of the command that publishes to a subject, up to the payload's length."""
        if len(self._beginnings) >= KNOWN:
            self._beginnings.clear()
        self._beginnings[subject] = beginning = command("PUBLISH", subject, "").removesuffix(b"0\r\n\r\n")
        return beginning
