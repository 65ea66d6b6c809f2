"""The facts that processes tell each other of their connections: their kinds, their limits, and their check.

Knows neither whose facts they are, nor how they go to other processes.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, NamedTuple

from wshost.cluster.envelope import Codec
from wshost.connections import home
from wshost.messages import MAX_NAME, MAX_TOPIC

#: That a connection is there, which somebody monitors. The key is the reference's text, the value None.
CONNECTION = "c"
#: That a name belongs to a connection. The key is the name, the value a `Claim`.
NAME = "n"
#: That a connection is present at a topic. The key is that of `presence_key`, the value what is said of it, packed.
PRESENCE = "p"

#: The most that is said of a presence, in bytes of msgpack.
MAX_DATA = 4_096
#: How many names a connection may have; how many topics it may be present at, and watch; how many it may monitor.
MAX_OF_ONE = 1_000
#: How many names and presences a process may have, of all its connections.
MAX_OF_PROCESS = 100_000
#: How many facts are kept of another process. It has one more for each of its connections that is monitored.
MAX_OF_OTHER = 1_000_000

#: What names a fact: its kind, and its key.
Key = tuple[str, str]


class Claim(NamedTuple):
    """Who has a name. Of two claims, the smaller one counts."""

    #: When it was registered, in seconds since 1970, by the clock of the connection's machine.
    since: float
    #: The connection's reference, as text.
    ref: str


class Change(NamedTuple):
    """One fact begins or ends."""

    begins: bool
    key: Key
    #: The fact's value if it begins. Else, for a connection, why it has ended; None if it lives on elsewhere.
    value: Any


def presence_key(topic: str, ref: str) -> str:
    """Return the key of a presence. :param ref: the reference's text, which has no blanks."""
    return f"{ref} {topic}"


def of_presence(key: str) -> tuple[str, str]:
    """Return the topic and the reference's text."""
    ref, _, topic = key.partition(" ")
    return topic, ref


def packed(data: Any) -> bytes:
    """Return what is said of a presence as bytes.

    :raises TypeError, ValueError: when msgpack has no form for it, or a longer one than 4 KiB.
    """
    size = len(made := Codec().pack(data))
    if size > MAX_DATA:
        raise ValueError(f"what is said of a presence has at most {MAX_DATA} bytes, not {size}")
    unpacked(made)
    return made


def unpacked(data: bytes) -> Any:
    """Return what is said of a presence. :raises ValueError: when these bytes say nothing."""
    import msgpack  # noqa: PLC0415 - who uses no presences does not need it

    try:
        return msgpack.unpackb(data, strict_map_key=False)
    except Exception as error:  # msgpack has many
        raise ValueError(f"this can't be said of a presence: {type(error).__name__}") from error


def read(change: Any) -> Change:
    """Return a change of another process.

    :param change: anything that msgpack has a form for.
    :raises TypeError, ValueError: when it means nothing.
    """
    begins, kind, key, value = change
    if type(begins) is not bool or type(key) is not str:
        raise ValueError("it is no change of a fact")
    if kind == NAME:
        _check_size(key, MAX_NAME)
    elif kind == CONNECTION:
        home.read(key)
    elif kind == PRESENCE:
        topic, ref = of_presence(key)
        home.read(ref)
        _check_size(topic, MAX_TOPIC)
    else:
        raise ValueError("it is of no kind of facts")
    if begins:
        return Change(True, (kind, key), _value(kind, value))
    return Change(False, (kind, key), value if kind == CONNECTION and type(value) is str else None)


def _check_size(text: str, most: int) -> None:
    if not 1 <= len(text.encode()) <= most:
        raise ValueError("it has a name of another size")


def _value(kind: str, value: Any) -> Any:
    if kind == NAME:
        since, ref = value
        home.read(ref)
        if type(since) is not float or not isfinite(since):
            raise ValueError("it was registered at no time")
        return Claim(since, ref)
    if kind == PRESENCE:
        if type(value) is not bytes or len(value) > MAX_DATA:
            raise ValueError("it says too much, or nothing, of a presence")
        unpacked(value)
        return value
    return None
