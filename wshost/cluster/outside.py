"""All that goes to other processes and comes from them. Knows no broker, and no connection.

What is published on one subject in one turn leaves as one payload. Everything is done in the reactor's thread; calls
from other threads are posted to it, a limited number of bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger, globalLogPublisher
from zope.interface import classImplements

from wshost.cluster.envelope import ENTRIES, HEAD, TEXT_HEAD, Codec, MalformedError
from wshost.cluster.reach import publish_or_tell
from wshost.cluster.sequence import Incoming, Outgoing
from wshost.cluster.subjects import Subjects
from wshost.connections.home import Home
from wshost.connections.thread import ReactorThread
from wshost.interfaces import IBackplane, IBackplaneReceiver
from wshost.logs.limit import LogLimit
from wshost.messages import CALL

#: After a connection was made again, receivers are told the numbers of so many subjects: what was lost last is counted.
MARKED = 1_000


class Hubs(Protocol):
    """What brings messages to the hubs of this process."""

    def publish_all(self, topic: str, messages: Sequence[str | bytes]) -> None:
        """Bring them messages, the first one first."""

    def lose(self, topic: str, messages: int) -> None:
        """Tell them that messages to a topic were lost. Called in any thread."""


class Counts:
    """What went to other processes and came from them. No number ever becomes smaller."""

    def __init__(self) -> None:
        #: Messages that were published, and that have come.
        self.published = 0
        self.received = 0
        #: Messages that were not sent, for want of room; and that did not come.
        self.dropped = 0
        self.lost = 0
        #: Payloads that backplanes have taken and not sent. What they hold is not known any more: a message, or many.
        self.payloads_dropped = 0
        #: Payloads and messages that were not understood.
        self.malformed = 0


class Line:
    """One backplane of a process.

    :param local: it carries only between the processes of this machine.
    """

    def __init__(self, outside: Outside, backplane: IBackplane, local: bool) -> None:
        self._outside = outside
        self.backplane: Any = backplane
        self.local = local
        #: Sends what was published in this turn, if the backplane can be told.
        self.flush: Callable[[], object] = getattr(backplane, "flush", _ignore)
        #: Payloads go both ways now.
        self.is_connected = False
        #: Why they don't.
        self.reason = "it has not connected yet"
        self._was_connected = False

    def received(self, subject: str, payload: bytes) -> None:
        self._outside.receive(self, subject, payload)

    def connected(self) -> None:
        self.is_connected = True
        self._outside.measure()
        if self._was_connected:
            self._outside.log.info("the backplane is connected again")
            self._outside.mark()
        self._was_connected = True

    def disconnected(self, reason: str) -> None:
        self.is_connected = False
        self.reason = reason
        self._outside.log.warn("the backplane is not connected: {reason}", reason=reason)

    def dropped(self, payloads: int) -> None:
        self._outside.counts.payloads_dropped += payloads
        self._outside.log.warn(
            "the backplane has dropped {payloads} payloads, which waited too long, or for want of room",
            payloads=payloads,
        )


classImplements(Line, IBackplaneReceiver)


class _Batch:
    """What is published on one subject in this turn."""

    __slots__ = ("messages", "nobody", "packed", "size")

    def __init__(self, packed: bool) -> None:
        self.messages: list[Any] = []
        #: The messages are packed: each by itself, before its caller goes on. Else all are, at once.
        self.packed = packed
        self.size = HEAD
        # The calls to be made if nobody gets it; None: there are none.
        self.nobody: list[Callable[[], object]] | None = None


class Outside:
    """The other processes.

    :param reactor: provides `IReactorTime` and `IReactorFromThreads`; backplanes need more.
    :param soon: makes a call in the reactor's next turn.
    :param hubs: get what other processes have published.
    :param subjects: those of the cluster.
    :param machine: names the machine among all of the cluster.
    :param buffer: so many bytes may wait, here and in each backplane.
    """

    def __init__(
        self,
        reactor: Any,
        soon: Callable[..., object],
        hubs: Hubs,
        subjects: Subjects,
        *,
        machine: str,
        buffer: int,
    ) -> None:
        self.reactor = reactor
        #: This process, as those on the other side know it.
        self.own = Home.new()
        #: Its thread.
        self.thread = ReactorThread(reactor)
        self.counts = Counts()
        self.log = Logger("wshost", observer=LogLimit(globalLogPublisher))
        self.lines: list[Line] = []
        #: Makes a call in the reactor's next turn, when no users' code is running.
        self.soon = soon
        #: Gets the boot of a home, and what was sent there. Raises TypeError, ValueError or LookupError if that means
        #: nothing. Called in the reactor's thread.
        self.act: Callable[[str, Any], object] = _ignore
        #: Called when nothing comes any more.
        self.ended: Callable[[], object] = _ignore
        #: Gets the process that has told something to all, and what. Raises as `act`.
        self.tells_all: Callable[[str, Any], object] = _ignore
        #: Gets what `act` would; returns whether it has done it. Raises as `act`.
        self.asks: Callable[[str, Any], object] = _ignore
        self._hubs = hubs
        self._subjects = subjects
        self._machine = machine
        self._buffer = buffer
        self._codec = Codec()
        self._outgoing = Outgoing()
        self._incoming = Incoming()
        # What was published in this turn, by subject, and its size in bytes.
        self._batches: dict[str, _Batch] = {}
        self._size = 0
        # How many bytes may be published in one turn, and on one subject.
        self._room = self._largest = 0
        # The subjects on which something is to be received, in order.
        self._subscribed: dict[str, None] = {}

    # Start and end

    def add(self, backplane: IBackplane, local: bool = False) -> Deferred[Any]:
        """Use a backplane. Called in the reactor's thread.

        :param local: it carries only between the processes of this machine.
        :returns: fires when it has connected; fails if it can't.
        """
        self.thread.enter()
        line = Line(self, backplane, local)
        self.lines.append(line)
        connecting: Deferred[Any] = line.backplane.connect(self.reactor, line)
        for subject in [self._subjects.of_home(self.own.boot), *self._subscribed]:
            line.backplane.subscribe(subject)
        self.measure()
        return connecting

    def close(self) -> Deferred[Any]:
        """Send what waits, and close all backplanes. Fires when that is done."""
        self._flush()
        self.ended()
        lines, self.lines = self.lines, []
        self.measure()
        return DeferredList([line.backplane.close() for line in lines], consumeErrors=True)

    @property
    def is_connected(self) -> bool:
        """Whether all backplanes are connected."""
        return all(line.is_connected for line in self.lines)

    @property
    def reason(self) -> str:
        """Why one of them is not."""
        return next((line.reason for line in self.lines if not line.is_connected), "")

    @property
    def waiting(self) -> int:
        """How many bytes wait to be sent."""
        waiting: int = sum(line.backplane.waiting for line in self.lines)
        return self._size + waiting

    # Out

    def publish(self, topic: str, data: str | bytes) -> bool:
        """Send a message to the subscribers of a topic in other processes. Called in any thread.

        :returns: False if it is dropped: too much waits.
        """
        subject = self._subjects.of_topic(topic)
        size = TEXT_HEAD + len(data if isinstance(data, bytes) or data.isascii() else data.encode())
        if self.thread.is_current():
            return self._add(subject, data, size, False)
        return self.thread.post(self, CALL + size, self._buffer, self._add, subject, data, size, False)

    def tell(self, boot: str, message: Any, size: int, nobody: Callable[[], object] | None = None) -> bool:
        """Send a message to a home. Called in any thread.

        :param message: what msgpack has a form for, in which nothing will change.
        :param size: how many bytes it counts for.
        :param nobody: called once, maybe from within users' code, if it is known that no process gets the message. With
            it, this is called in the reactor's thread.
        :returns: False if it is dropped: too much waits.
        """
        subject = self._subjects.of_home(boot)
        if nobody is not None or self.thread.is_current():
            return self._put(subject, message, nobody)
        return self.thread.post(self, CALL + size, self._buffer, self._put, subject, message)

    def spread(self, message: Any) -> bool:
        """Send a message to all other processes. Called in the reactor's thread. See `tell`."""
        return self._put(self._subjects.all, message)

    def take_part(self, tells_all: Callable[[str, Any], object], asks: Callable[[str, Any], object]) -> None:
        """Receive what others `spread`, and ask for. Called in the reactor's thread."""
        self.tells_all, self.asks = tells_all, asks
        self._subscribe(self._subjects.all)

    def reaches(self, boot: str) -> bool:
        """Return whether a home may be reached now. Called in the reactor's thread."""
        subject = self._subjects.of_home(boot)
        return any(_reaches(line, subject) for line in self.lines)

    def copy(self, message: Any) -> Any:
        """Return a message as it arrives elsewhere; nobody else will change it. Called in any thread.

        :raises TypeError, ValueError: when it can't be sent.
        """
        # A codec works in one thread.
        codec = self._codec if self.thread.is_current() else Codec()
        return codec.copy(message)

    def _put(self, subject: str, message: Any, nobody: Callable[[], object] | None = None) -> bool:
        packed = self._codec.pack(message)
        taken = self._add(subject, packed, len(packed), True)
        if taken and nobody is not None:
            batch = self._batches[subject]
            if batch.nobody is None:
                batch.nobody = []
            batch.nobody.append(nobody)
        return taken

    def _add(self, subject: str, message: Any, size: int, packed: bool) -> bool:
        if size > self._room - self._size:
            # What waited may have left since the last payload, and without one nobody looks.
            self.measure()
        if size > self._room - self._size or size > self._largest - HEAD:
            self.counts.dropped += 1
            return False
        batch = self._batches.get(subject)
        if batch is not None and (len(batch.messages) >= ENTRIES or batch.size + size > self._largest):
            self._send(subject, self._batches.pop(subject))
            batch = None
        if batch is None:
            if not self._batches:
                self.soon(self._flush)
            batch = self._batches[subject] = _Batch(packed)
        batch.messages.append(message)
        batch.size += size
        self._size += size
        return True

    def _flush(self) -> None:
        """Send what was published in this turn."""
        batches, self._batches = self._batches, {}
        for subject, batch in batches.items():
            self._send(subject, batch)
        for line in self.lines:
            line.flush()
        self.measure()

    def measure(self) -> None:
        """See how much the backplanes take. What one alone has no room for is dropped there."""
        if len(self.lines) == 1:
            # Nearly always.
            backplane = self.lines[0].backplane
            self._room, self._largest = self._buffer - backplane.waiting, backplane.largest
        else:
            self._room = self._buffer - min([line.backplane.waiting for line in self.lines], default=self._buffer)
            self._largest = min([line.backplane.largest for line in self.lines], default=0)

    def _send(self, subject: str, batch: _Batch) -> None:
        messages = batch.messages
        self._size -= batch.size - HEAD
        self.counts.published += len(messages)
        payload = self._envelope(subject, messages, batch.packed)
        lines, taken = self._lines_to(subject), False
        if batch.nobody is not None:
            taken = publish_or_tell([line.backplane for line in lines], subject, payload, batch.nobody)
        else:
            for line in lines:
                if len(payload) <= line.backplane.largest:
                    taken |= bool(line.backplane.publish(subject, payload))
        if not taken:
            self.counts.dropped += len(messages)

    def _envelope(self, subject: str, messages: list[Any], packed: bool) -> bytes:
        epoch, before = self._outgoing.count(subject, len(messages))
        if packed:
            return self._codec.enclose(self._machine, self.own.boot, epoch, before, messages)
        return self._codec.pack_all(self._machine, self.own.boot, epoch, before, messages)

    def _lines_to(self, subject: str) -> Sequence[Line]:
        """Return the lines on which to publish: one is enough for a home, if it is known to lead there."""
        if len(self.lines) > 1 and self._subjects.boot(subject) is not None:
            for line in self.lines:
                if line.local and _reaches(line, subject):
                    return [line]
        return self.lines

    def mark(self) -> None:
        """Tell receivers how much was published, so that they count what they have lost."""
        for subject in self._outgoing.recent(MARKED):
            payload = self._envelope(subject, [], False)
            for line in self._lines_to(subject):
                line.backplane.publish(subject, payload)

    # In

    def subscribe(self, topic: str) -> None:
        """Receive what is published to a topic, or to all that match a pattern. Called in any thread, once for each."""
        self._call(self._subscribe, self._subjects.of_subscription(topic))

    def unsubscribe(self, topic: str) -> None:
        """Undo `subscribe`."""
        self._call(self._unsubscribe, self._subjects.of_subscription(topic))

    def open(self, boot: str) -> None:
        """Receive what is sent to a home of this process. Called in any thread."""
        self._call(self._subscribe, self._subjects.of_home(boot))

    def shut(self, boot: str) -> None:
        """Undo `open`."""
        self._call(self._unsubscribe, self._subjects.of_home(boot))

    def _call(self, call: Callable[[str], None], subject: str) -> None:
        if self.thread.is_current():
            call(subject)
        else:
            self.reactor.callFromThread(call, subject)

    def _subscribe(self, subject: str) -> None:
        self._subscribed[subject] = None
        for line in self.lines:
            line.backplane.subscribe(subject)

    def _unsubscribe(self, subject: str) -> None:
        del self._subscribed[subject]
        for line in self.lines:
            line.backplane.unsubscribe(subject)
        self._incoming.forget(None if subject.endswith(">") or "*" in subject else subject)

    def receive(self, line: Line, subject: str, payload: bytes) -> None:
        """A payload has come on a line."""
        try:
            machine, sender, epoch, before, messages = self._codec.read(payload)
        except MalformedError as error:
            self._note_malformed(subject, str(error))
            return
        if sender == self.own.boot or (not line.local and machine == self._machine and self._has_local):
            # Our own has come back; or that of a neighbour, which comes on another line.
            return
        known, lost = self._incoming.count(sender, subject, epoch, before, len(messages))
        self.counts.lost += lost
        new = messages[known:] if known else messages
        self.counts.received += len(new)
        topic = self._subjects.topic(subject)
        if topic is not None:
            if lost:
                self._hubs.lose(topic, lost)
            self._bring_published(subject, topic, new)
        else:
            self._bring_home(subject, sender, new)

    @property
    def _has_local(self) -> bool:
        return any(line.local for line in self.lines)

    def _bring_published(self, subject: str, topic: str, messages: Sequence[Any]) -> None:
        sound = [message for message in messages if type(message) is str or type(message) is bytes]
        if len(sound) < len(messages):
            for _ in range(len(messages) - len(sound)):
                self._note_malformed(subject, "a published message is a str or bytes")
        self._hubs.publish_all(topic, sound)

    def _bring_home(self, subject: str, sender: str, messages: Sequence[Any]) -> None:
        boot = self._subjects.boot(subject) or ""
        to_all = subject == self._subjects.all
        for message in messages:
            try:
                if to_all:
                    self.tells_all(sender, message)
                else:
                    self.act(boot, message)
            except (TypeError, ValueError, LookupError) as error:
                self._note_malformed(subject, str(error))
            except Exception:  # the messages behind it, and the connection to the broker, are not to blame
                self.log.failure("what came on {subject} could not be done", subject=subject)

    def _note_malformed(self, subject: str, why: str) -> None:
        self.counts.malformed += 1
        self.log.warn("what came on {subject} is not understood: {why}", subject=subject, why=why)


def _reaches(line: Line, subject: str) -> bool:
    """Return whether somebody may receive on this line."""
    reaches = getattr(line.backplane, "reaches", None)
    return line.is_connected if reaches is None else bool(reaches(subject))


def _ignore(*what: object) -> None:
    """Do nothing."""
