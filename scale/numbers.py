"""Numbered messages from one server to subscribers at others: which come, and which do not. Knows no fault."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from threading import Event, Thread

from scale.crowd import until
from torture.peers import TEXT, ask, read_frame


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


class Numbers:
    """What one client lets its server publish, a thousand messages a second, and what comes to others.

    :param topic: of its own.
    :param stack: ends it.
    """

    def __init__(
        self, topic: str, publisher: socket.socket, subscribers: Sequence[socket.socket], stack: ExitStack
    ) -> None:
        self._topic = topic
        self._publisher = publisher
        for subscriber in subscribers:
            ask(subscriber, f"!subscribe {topic}")
        ask(publisher, f"!stream {topic}")
        self.listeners = [Listener(subscriber) for subscriber in subscribers]
        for listener in self.listeners:
            listener.start()
            stack.callback(listener.stop)
        until(lambda: all(listener.received for listener in self.listeners), "messages come")
        # Those that were published before the subscription was in place are nobody's loss.
        self._before = [listener.last - listener.received for listener in self.listeners]

    @property
    def published(self) -> int:
        """How many were published so far."""
        return int(ask(self._publisher, "!published"))

    def wait(self) -> float:
        """Wait until all subscribers get what is published from now on; return how many seconds that took."""
        # What has waited until now may come, too. One that is younger shows that all is well.
        now = self.published
        return until(lambda: all(listener.last > now for listener in self.listeners), "messages come again")

    def stop(self) -> tuple[int, list[int]]:
        """Stop publishing; return how many there were, and how many did not come to each subscriber."""
        published = int(ask(self._publisher, "!still"))
        # One more number shows at the other nodes whether the last ones were lost.
        ask(self._publisher, f"!number {self._topic} {published + 1}")
        until(lambda: all(listener.last > published for listener in self.listeners), "the last message comes")
        return published, [
            published + 1 - before - listener.received
            for before, listener in zip(self._before, self.listeners, strict=True)
        ]

    @property
    def disordered(self) -> int:
        """How many came out of order or twice."""
        return sum(listener.disordered for listener in self.listeners)
