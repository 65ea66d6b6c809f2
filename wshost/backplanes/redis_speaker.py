"""Speaks with one server of Redis or Valkey after the other: greets it, subscribes, reads. Knows no publication.

HELLO is also our ping: its answer says whether the server is the master still. A server answers in order. So an answer
to HELLO also says that all subscriptions before it are in place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING
from typing import Protocol as Shape

from twisted.logger import Logger

from wshost.backplanes.asked import Asked
from wshost.backplanes.connection import BrokerError
from wshost.backplanes.resp import BadReply, ErrorReply, Parser, Push, Value, command
from wshost.backplanes.sentinel import Inquiry
from wshost.backplanes.settings import Broker
from wshost.logs.text import escaped
from wshost.results import ConfigurationError

if TYPE_CHECKING:
    from wshost.backplanes.link import Link

#: The largest payload, in bytes. A server disconnects a subscriber for whom 32 MiB wait.
LARGEST = 8 << 20
#: So many different errors of one connection are logged.
ERRORS = 20

#: The greeting without credentials; and our ping.
HELLO = command("HELLO", "3")
#: Asks for the number of replicas, and what says that there are none.
REPLICATION = command("INFO", "replication")
_NO_REPLICAS = b"connected_slaves:0\r\n"
# Errors that do not go away by themselves, by their codes.
_FINAL = frozenset({"WRONGPASS", "NOAUTH", "NOPERM", "NOPROTO"})
# Errors after which another server, or the same one later, may do what this one does not.
_PASSING = frozenset({"LOADING", "MASTERDOWN", "READONLY", "NOAUTH"})

_log = Logger("wshost")


class Subscribed(Shape):
    """What a `RedisSpeaker` knows of subscriptions."""

    @property
    def subjects(self) -> Mapping[bytes, str]:
        """The subject of each message that is wanted, by its head."""

    def resolve(self, head: bytes) -> str | None:
        """Return the subject of another head: see `wshost.backplanes.resp.Parser`."""

    def commands(self) -> Iterable[bytes]:
        """Return what makes all subscriptions on a new connection."""


class Taker(Shape):
    """What a `RedisSpeaker` does with what comes; see `wshost.interfaces.IBackplaneReceiver`."""

    def received(self, subject: str, payload: bytes) -> None:
        """A payload has come."""

    def dropped(self, payloads: int) -> None:
        """So many payloads were not sent."""


class Owner(Shape):
    """Whom a `RedisSpeaker` tells what becomes of its connection."""

    def up(self) -> None:
        """All subscriptions are in place, and payloads are sent."""

    def down(self, reason: str) -> None:
        """Undo `up`. :param reason: one line for the log."""

    def refused(self, error: ConfigurationError) -> None:
        """The first server that has answered has refused us, and always will. The link must be closed."""


class RedisSpeaker:
    """A `Speaker`; see there.

    :param name: how the server's list of clients calls this process.
    :param subscriptions: those to make on each connection.
    :param receiver: gets what comes.
    :param owner: is told what becomes of the connection.
    :param sentinels: whether the link's brokers are Sentinels, which are asked for the master.
    """

    #: The connection; set before it is started.
    link: Link

    def __init__(self, name: str, subscriptions: Subscribed, receiver: Taker, owner: Owner, sentinels: bool) -> None:
        # A name with spaces is refused.
        self._name = re.sub(r"[^!-~]", "-", name) or "wshost"
        self._subscriptions = subscriptions
        self._receiver = receiver
        self._owner = owner
        self._sentinels = sentinels
        # The master that a Sentinel has named last.
        self._master: Broker | None = None
        # Those of this connection.
        self._parser: Parser
        self._inquiry: Inquiry
        # What gets the next reply.
        self._next: Callable[[Value], None] = self._greeted
        # A server has let us in, once; this one has; subscriptions may be sent to it.
        self._known = self._up = self._subscribing = False
        self._told: set[str] = set()
        #: The calls for publications that nobody gets, by the number that the server repeats right behind each.
        self.asked = Asked()
        #: The server knows all subscribers. Those of a Redis Cluster know only their own.
        self.knows_all = False
        # Nobody can be at a replica: the server has said so since the last answer to such a number.
        self._is_alone = False

    def subscribe(self, data: bytes | None) -> None:
        """Send a command that changes the subscriptions, unless all will be made later."""
        if data is not None and self._subscribing:
            self.link.command(data)

    # For the link

    def begin(self) -> None:
        """Greet the server, or ask the Sentinel."""
        subjects, resolve = self._subscriptions.subjects, self._subscriptions.resolve
        self._parser = Parser(subjects, resolve, self._receiver.received, self._reply, LARGEST)
        self._told.clear()
        self._is_alone = False
        broker = self.link.broker
        if self._sentinels and broker is not self._master:
            self._inquiry = Inquiry(broker)
            self._next = self._named
            self.link.command(self._inquiry.begin())
            return
        words = ["HELLO", "3"]
        if broker.username is not None or broker.password is not None:
            words += ["AUTH", broker.username or "default", broker.password or ""]
        self._next = self._greeted
        self.link.command(command(*words, "SETNAME", self._name))

    def read(self, data: bytes) -> None:
        """Read what the server sends."""
        try:
            self._parser.feed(data)
        except BadReply as error:
            raise BrokerError(str(error)) from error

    def ping(self) -> None:
        """Ask for the server's role once more."""
        self.link.command(HELLO)

    def lost(self, reason: str) -> None:
        """Forget the connection."""
        self._subscribing = False
        if self._up:
            self._up = False
            if reason.startswith("Connection was closed cleanly"):
                # It does not say why.
                reason = "the server has closed the connection: it stops, or we read too slowly for it"
            self._owner.down(reason)

    def dropped(self, payloads: int) -> None:
        """Pass it on."""
        self._receiver.dropped(payloads)

    # Replies

    def _reply(self, value: Value) -> None:
        if not isinstance(value, Push):
            self._next(value)

    def _named(self, value: Value) -> None:
        """Handle an answer of a Sentinel."""
        answer = self._inquiry.answer(value)
        if isinstance(answer, ErrorReply):
            if "unknown command" in answer.lower():
                self._final("it is no Sentinel, and its URL begins with redis")
            else:
                self._refused(answer)
        elif isinstance(answer, Broker):
            self._master = answer
            self._parser.stop()
            self.link.go_to(answer)
        elif answer is not None:
            self.link.command(answer)

    def _greeted(self, value: Value) -> None:
        """Handle the answer to the greeting: subscribe."""
        if self._check(value):
            self._subscribing = True
            for one in self._subscriptions.commands():
                self.link.command(one)
            self.link.command(HELLO)
            self._next = self._confirmed

    def _confirmed(self, value: Value) -> None:
        """Handle what follows the confirmations of subscriptions."""
        if self._check(value):
            self._next = self._running
            self._known = self._up = True
            self.link.ready()
            self._owner.up()

    def _running(self, value: Value) -> None:
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], bytes):
            self._counted(value[0].decode(errors="replace"))
        elif isinstance(value, bytes):
            self._is_alone = _NO_REPLICAS in value
        elif not isinstance(value, ErrorReply):
            self._check(value)
            self._answered()
        elif value.code in _PASSING:
            raise BrokerError(_one_line(value))
        else:
            self._note(value)

    def _counted(self, number: str) -> None:
        """Handle what follows the answer to a publication: that says how many have got it."""
        nobody = self.asked.take(number)
        is_alone, self._is_alone = self._is_alone or self._sentinels, False
        if nobody is not None and self._parser.number == 0 and self.knows_all and is_alone:
            nobody()

    def _answered(self) -> None:
        """Handle an answer to HELLO: each was a ping."""
        self.link.answered()

    def _note(self, value: ErrorReply) -> None:
        """Note that the server has refused to do something."""
        self.link.refuse(_one_line(value))
        if value not in self._told and len(self._told) < ERRORS:
            self._told.add(value)
            broker = self.link.broker
            about = f"{broker.host}:{broker.port}: {_one_line(value)}"
            _log.warn("the backplane was refused something by the broker {about}", about=about)

    def _check(self, value: Value) -> bool:
        """Check an answer to HELLO.

        :returns: False when the server has refused us for good.
        :raises BrokerError: when another server may be the right one, or the same one later.
        """
        if isinstance(value, ErrorReply):
            return self._refused(value)
        if not isinstance(value, list):
            raise BrokerError("it does not answer HELLO as Redis does")
        return self._judge(dict(zip(map(_text, value[::2]), value[1::2], strict=False)))

    def _judge(self, facts: Mapping[str, Value]) -> bool:
        """Check what a server says of itself; see `_check`."""
        if facts.get("mode") == b"sentinel":
            return self._final("it is a Sentinel, and its URL begins with redis+sentinel")
        self.knows_all = facts.get("mode") == b"standalone"
        # In a cluster, publications reach all servers; otherwise a master gets nothing from its replicas.
        if facts.get("mode") != b"cluster" and facts.get("role") != b"master":
            raise BrokerError("it is a replica, and not the master")
        return True

    def _refused(self, error: ErrorReply) -> bool:
        if error.code == "NOPROTO" or "unknown command" in error.lower():
            return self._final("it is older than Redis 6, or no Redis: it does not know HELLO 3")
        if error.code in _FINAL or "AUTH" in error:
            return self._final(_one_line(error))
        raise BrokerError(_one_line(error))

    def _final(self, reason: str) -> bool:
        if self._known:
            # It was right once, so it may be again.
            raise BrokerError(reason)
        self._parser.stop()
        broker = self.link.broker
        self._owner.refused(ConfigurationError(f"the broker {broker.host}:{broker.port} refuses us: {reason}"))
        return False


def _text(value: Value) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _one_line(error: str) -> str:
    # Some errors repeat the beginning of the command, which may have a password, or a payload.
    shown = error.partition(", with args beginning with")[0]
    return escaped(" ".join(shown.split()))[:200]
