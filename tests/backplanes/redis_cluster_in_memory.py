"""A Redis Cluster in memory: a test answers as its servers. Knows no backplane."""

from __future__ import annotations

from typing import Any

from tests.backplanes.brokers_in_memory import Brokers, Transport
from wshost.backplanes.resp import Parser, command
from wshost.backplanes.shards import LOAD, SLOT_OF_PART
from wshost.backplanes.topology import QUESTION

#: The first slot that the second of two masters has.
HALF = SLOT_OF_PART[32]
#: The answer to `LOAD`.
LOADED = b"$3\r\nsha\r\n"


def hello(role: str = "master", mode: str = "cluster", version: str = "7.0.15") -> bytes:
    """A server's answer to HELLO."""
    facts = {"server": "redis", "version": version, "proto": "3", "mode": mode, "role": role}
    words = [word for pair in facts.items() for word in pair]
    return b"%%%d" % len(facts) + command(*words).removeprefix(b"*%d" % len(words))


def slots(*ranges: tuple[int, int, int]) -> bytes:
    """An answer to CLUSTER SLOTS: first slot, last slot, port of the master at the host ``m``."""
    parts = [b"*%d\r\n" % len(ranges)]
    for first, last, port in ranges:
        parts.append(b"*3\r\n:%d\r\n:%d\r\n*3\r\n$1\r\nm\r\n:%d\r\n$2\r\nid\r\n" % (first, last, port))
    return b"".join(parts)


#: Two masters, at the ports 1 and 2.
TWO = slots((0, HALF - 1, 1), (HALF, 16_383, 2))


def said(connection: Transport) -> list[Any]:
    """What was written since this was asked last: what is the same on all connections by a word."""
    names = {_words(LOAD): "LOAD", _words(QUESTION): "QUESTION", ("HELLO", "3"): "HELLO"}
    return [names.get(tuple(words), words) for words in connection.commands()]


def _words(data: bytes) -> tuple[str, ...]:
    found: list[Any] = []
    Parser({}, lambda _: None, lambda *_: None, found.append, 1 << 20).feed(data)
    return tuple(word.decode() for word in found[0])


def let_in(connection: Transport, *answers: bytes) -> None:
    """Answer a greeting, then what comes after it, and the HELLO behind that."""
    connection.answer(hello())
    connection.answer(*answers, hello())


def sunsubscribe(channel: str) -> bytes:
    """What says that nothing comes on a channel any more."""
    return b">3\r\n" + command("sunsubscribe", channel).split(b"\r\n", 1)[1] + b":0\r\n"


def smessage(channel: str, payload: bytes) -> bytes:
    """A message on a shard channel."""
    return b">" + command("smessage", channel, payload)[1:]


def connection_to(brokers: Brokers, port: int) -> Transport:
    """The newest connection to a port."""
    return next(one for one in reversed(brokers.connections) if one.broker.port == port)
