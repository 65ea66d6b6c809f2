"""The handler of the servers that are measured: at a client's word it publishes, sends, and asks other processes."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import wshost
from wshost import Ref

#: So many messages are sent in one turn, where many are sent.
AT_ONCE = 50
#: Seconds between two messages of a stream that goes on until it is stopped.
INTERVAL = 0.001


class Asking:
    """Asks another connection again and again, each time when the last answer has come.

    :param own: this connection, which is told in the end how long the answers took.
    :param other: the connection that is asked.
    """

    def __init__(self, own: Ref, other: str, rounds: int) -> None:
        self._own = own
        self._other = Ref.parse(other)
        self._question = ["question", str(own)]
        self._left = rounds
        self._asked = 0.0
        self._times: list[float] = []

    def ask(self) -> None:
        self._asked = time.perf_counter()
        self._other.info(self._question)

    def answered(self) -> None:
        self._times.append(time.perf_counter() - self._asked)
        self._left -= 1
        if self._left:
            self.ask()
        else:
            self._own.send(json.dumps(self._times))


class Stream:
    """Publishes numbers, until it is stopped."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        #: How many it has published.
        self.published = 0
        self._timer = _later(0, self._publish)

    def _publish(self) -> None:
        self.published += 1
        wshost.publish(self._topic, str(self.published))
        self._timer = _later(INTERVAL, self._publish)

    def stop(self) -> None:
        self._timer.cancel()


class Watch:
    """What a connection is told of a topic that it watches."""

    def __init__(self) -> None:
        self.present: set[str] = set()
        #: How many have come or gone, as it was told; and how many of these were there already, or were not there.
        self.told = self.twice = 0

    def take(self, joined: dict[Ref, Any], left: Sequence[Ref]) -> None:
        """Note an info."""
        here, away = set(map(str, joined)), set(map(str, left))
        self.told += len(here) + len(away)
        self.twice += len(here & self.present) + len(away - self.present)
        self.present = (self.present | here) - away


#: How many connections this process has made.
_made = 0
#: What goes on for a connection.
_asking: dict[Ref, Asking] = {}
_streams: dict[Ref, Stream] = {}
_watches: dict[Ref, Watch] = {}
#: The ends that a connection was told of connections that it monitors; and of its names.
_downs: Counter[Ref] = Counter()
_unregistered: Counter[Ref] = Counter()


def _later(seconds: float, call: Callable[..., object], *args: Any) -> Any:
    from twisted.internet import reactor  # noqa: PLC0415 - it is chosen when the server starts

    return reactor.callLater(seconds, call, *args)


def pid(_ref: Ref) -> str:
    return str(os.getpid())


def made(_ref: Ref) -> str:
    return str(_made)


def name(ref: Ref) -> str:
    return str(ref)


def subscribe(ref: Ref, topic: str) -> str:
    ref.subscribe(topic)
    return "subscribed"


def publish(_ref: Ref, topic: str, count: str, size: str) -> str:
    """Publish so many messages in this turn."""
    for _ in range(int(count)):
        wshost.publish(topic, "x" * int(size))
    return "published"


def turns(ref: Ref, topic: str, left: str, count: str, size: str) -> None:
    """Publish so many messages in each of so many turns."""
    each, message = int(count), "x" * int(size)

    def turn(left: int) -> None:
        for _ in range(each):
            wshost.publish(topic, message)
        if left > 1:
            _later(0, turn, left - 1)
        else:
            ref.send("published")

    turn(int(left))


def stream(ref: Ref, topic: str) -> str:
    _streams[ref] = Stream(topic)
    return "streaming"


def published(ref: Ref) -> str:
    """Return how many messages the connection's stream has published."""
    return str(_streams[ref].published)


def still(ref: Ref) -> str:
    """Stop the stream."""
    _streams[ref].stop()
    return published(ref)


def number(_ref: Ref, topic: str, number: str) -> str:
    """Publish one more number."""
    wshost.publish(topic, number)
    return number


def ask(ref: Ref, other: str, rounds: str) -> None:
    asking = _asking[ref] = Asking(ref, other, int(rounds))
    asking.ask()


def send(ref: Ref, other: str, count: str, who: str) -> None:
    """Send numbered messages to a connection that is known by its text."""
    last = int(count)

    def some(first: int) -> None:
        for due in range(first, min(first + AT_ONCE, last)):
            Ref.parse(other).send(f"{who} {due}")
        if first + AT_ONCE < last:
            _later(0, some, first + AT_ONCE)
        else:
            ref.send("sent")

    some(0)


def join(ref: Ref, topic: str, name: str) -> str:
    """Be present at a topic, and have a name."""
    wshost.track(topic, ref)
    return str(wshost.register(name, ref))


def register(ref: Ref, name: str) -> str:
    return str(wshost.register(name, ref))


def unregister(_ref: Ref, name: str) -> str:
    return str(wshost.unregister(name))


def watch(ref: Ref, topic: str) -> str:
    _watches[ref] = Watch()
    ref.watch(topic)
    return "watching"


def monitor(ref: Ref, other: str) -> str:
    ref.monitor(Ref.parse(other))
    return "monitoring"


def known(ref: Ref, topic: str, *names: str) -> str:
    """Return what is known here: of names, of a topic, and what this connection was told of it."""
    seen = _watches[ref]
    return json.dumps(
        {
            "names": [str(wshost.whereis(name) or "") for name in names],
            "present": sorted(map(str, wshost.present(topic))),
            "watched": sorted(seen.present),
            "told": seen.told,
            "twice": seen.twice,
        }
    )


def ends(ref: Ref) -> str:
    """Return of how many ends it was told: of connections that it monitors, and of its own names."""
    return json.dumps([_downs[ref], _unregistered[ref]])


WORDS: dict[str, Callable[..., str | None]] = {
    word.__name__: word
    for word in (
        *(pid, made, name, subscribe, publish, turns, stream, published, still, number, ask, send),
        *(join, register, unregister, watch, monitor, known, ends),
    )
}


def init(options: Any) -> Ref:
    """Return the connection's ref as the state."""
    global _made  # noqa: PLW0603 - a count of this process
    _made += 1
    ref: Ref = options["worker"]
    return ref


def handle(message: Any, ref: Ref) -> Any:
    """Answer a text by itself, or do what it says."""
    match message:
        case ("text", text) if text.startswith("!"):
            word, *args = text[1:].split(" ")
            answer = WORDS[word](ref, *args)
            return ("noreply", ref) if answer is None else ("reply", answer, ref)
        case ("text" | "binary", data):
            return ("reply", data, ref)
        case ("info", ["question", asker]):
            Ref.parse(asker).info(["answer"])
        case ("info", ["answer"]):
            _asking[ref].answered()
        case ("info", ("presence", _, joined, left)):
            _watches[ref].take(joined, left)
        case ("info", ("down", _, _)):
            _downs[ref] += 1
        case ("info", ("unregistered", _)):
            _unregistered[ref] += 1
    return ("noreply", ref)
