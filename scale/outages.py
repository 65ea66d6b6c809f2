"""Brokers fail under load, again and again. Yields how long messages stay away, and whether each loss is counted."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from threading import Event, Thread

from scale.brokers import Broker, nats_cluster
from scale.crowd import until
from scale.nodes import metric, node, operators
from torture.figures import Figure
from torture.peers import TEXT, ask, connected, read_frame
from torture.server import Server, Target

#: Seconds for which a broker is away, and for which all is well in between.
AWAY, WELL = 0.3, 0.3


class Listener:
    """A subscriber that takes numbered messages, in a thread of its own.

    :param client: its connection, which has subscribed.
    """

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._stop = Event()
        self._thread = Thread(target=self._run)
        #: How many messages have come, how many of them too late or twice, and the last one's number.
        self.received = self.disordered = self.last = 0
        self.failure = ""

    def _run(self) -> None:
        self._client.settimeout(0.1)
        while not self._stop.is_set():
            try:
                opcode, payload = read_frame(self._client)
            except TimeoutError:
                continue
            except OSError as error:
                self.failure = str(error)
                return
            if opcode == TEXT:
                number = int(payload)
                self.disordered += number <= self.last
                self.last = number
                self.received += 1

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()


class _Load:
    """Two nodes: what is published at one comes to a subscriber at the other.

    :param brokers: by which they meet.
    """

    def __init__(self, target: Target, brokers: Sequence[Broker], stack: ExitStack) -> None:
        directory = stack.enter_context(operators())
        self._admins = [f"{directory}/{name}" for name in "ab"]
        self.servers: list[Server] = [
            stack.enter_context(node(target, *brokers, admin=admin)) for admin in self._admins
        ]
        self._publisher, subscriber = (stack.enter_context(connected(server.port)) for server in self.servers)
        ask(subscriber, "!subscribe numbers")
        ask(self._publisher, "!stream numbers")
        self.listener = Listener(subscriber)
        self.listener.start()
        stack.callback(self.listener.stop)
        until(lambda: self.listener.received > 0, "messages come")
        # Those that were published before the subscription was in place are nobody's loss.
        self._before = self.listener.last - self.listener.received
        self._waits: list[float] = []

    def recover(self, fails: Callable[[], object], returns: Callable[[], object], others: bool = False) -> None:
        """Let a broker fail and come back, and note how long no new message came: after its return, or its failure.

        :param others: there are others, which are to do its work.
        """
        fails()
        if others:
            self._wait()
        time.sleep(AWAY)
        returns()
        if not others:
            self._wait()
        time.sleep(WELL)

    def _wait(self) -> None:
        # What has waited until now may come, too. One that is younger shows that all is well.
        now = int(ask(self._publisher, "!published"))
        self._waits.append(until(lambda: self.listener.last > now, "messages come again"))

    def figures(self) -> Iterator[Figure]:
        """Stop publishing, and yield what became of the messages."""
        published = int(ask(self._publisher, "!still"))
        # One more number shows at the other node whether the last ones were lost.
        ask(self._publisher, f"!number numbers {published + 1}")
        until(lambda: self.listener.last > published, "the last message comes")
        missing = published + 1 - self._before - self.listener.received
        lost, dropped = (
            metric(admin, f"wshost_backplane_messages_{what}_total")
            for admin, what in zip(reversed(self._admins), ("lost", "dropped"), strict=True)
        )
        yield Figure("faults", len(self._waits))
        yield Figure("servers that have ended", sum(not server.alive for server in self.servers), "", 0)
        yield Figure("until messages came again: longest", max(self._waits), "s", 2)
        yield Figure("messages", published)
        yield Figure("messages that did not come", missing)
        yield Figure("of these not counted as lost", abs(missing - lost), "", 0)
        yield Figure("counted as dropped by the publisher", dropped)
        yield Figure("out of order or twice", self.listener.disordered, "", 0)


def one_broker(times: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: a NATS server is killed, stopped, and ended in good order; each so many times."""

    def row(target: Target) -> Iterator[Figure]:
        with ExitStack() as stack:
            (broker,) = stack.enter_context(nats_cluster(1))
            load = _Load(target, [broker], stack)
            for _ in range(times):
                load.recover(broker.kill, broker.start)
                load.recover(lambda: broker.signal(signal.SIGSTOP), lambda: broker.signal(signal.SIGCONT))
                load.recover(broker.end, broker.start)
            yield from load.figures()

    return row


def cluster(times: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: each of three NATS servers is killed in turn, so many times."""

    def row(target: Target) -> Iterator[Figure]:
        with ExitStack() as stack:
            brokers = stack.enter_context(nats_cluster(3))
            load = _Load(target, brokers, stack)
            for _ in range(times):
                for broker in brokers:
                    load.recover(broker.kill, broker.start, others=True)
            yield from load.figures()

    return row
