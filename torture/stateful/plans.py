"""What a handler does with one message, and what anybody does with a reference: as data. Does nothing itself."""

from __future__ import annotations

from dataclasses import dataclass

#: Sizes of messages: one that fits anywhere, one that fills a transport's buffer, one that is more than a server keeps.
SMALL, LARGE, HUGE = 0, 70_000, 200_000


@dataclass(frozen=True)
class Act:
    """Something that is done with the reference of a connection, or with a topic.

    :param what: "send", "ping", "close", "info", "drained", "subscribe", "unsubscribe" or "publish".
    :param whom: the number of the connection; a larger one than there are counts from the start again.
    :param plan: what the handler does with the info.
    """

    what: str
    whom: int = 0
    topic: str = "a"
    size: int = SMALL
    key: str | None = None
    plan: Plan | None = None


@dataclass(frozen=True)
class Plan:
    """What the handler does with one message: first these acts, then its answer.

    :param answer: "noreply", "reply", "ping", "pong", "close", "raise" or "wrong"; of `init` also "reject". For `init`
        and `code_change`, all others mean the new state.
    :param count: so many messages are a reply.
    :param later: "" to answer at once; "deferred" or "coroutine" to let it be awaited.
    """

    acts: tuple[Act, ...] = ()
    answer: str = "noreply"
    size: int = SMALL
    count: int = 1
    later: str = ""


@dataclass(frozen=True)
class How:
    """How a peer sends a message.

    :param pieces: in so many fragments.
    :param ping: with a ping between two fragments.
    :param deflate: compressed, if that was agreed.
    """

    binary: bool = False
    size: int = SMALL
    pieces: int = 1
    ping: bool = False
    deflate: bool = False
