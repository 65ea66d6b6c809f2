"""Names and presences of connections, as your program asks for them. Knows none of them: the directory does."""

from __future__ import annotations

from typing import Any

from wshost.cluster.exchange import SHARED
from wshost.cluster.facts import packed
from wshost.connections.ref import Ref
from wshost.messages import check_name
from wshost.topics.patterns import check_published


def register(name: str, ref: Ref) -> bool:
    """Give a name to a connection of this process, until it has gone or `unregister` is called. In any thread.

    All processes of the cluster know the name, a moment later. If two register it before they know of each other, the
    earlier one keeps it; the handler of the other connection gets ``("info", ("unregistered", name))``.

    :param name: a str of 1 to 255 bytes in UTF-8.
    :returns: True if the connection has the name now, or had it before. False when another has it, as far as is known;
        when this connection has gone, or is one of another process; when it has 1,000 names, or those of the process
        have 100,000 names and presences.
    :raises TypeError: when the name is no str, or the reference no `Ref`.
    :raises ValueError: when the name has another length, or can't be encoded as UTF-8.
    """
    return SHARED.directory.register(check_name(name), _checked(ref))


def unregister(name: str) -> bool:
    """Take a name from a connection of this process. In any thread.

    :returns: False if no connection of this process has it.
    :raises TypeError, ValueError: as `register`.
    """
    return SHARED.directory.unregister(check_name(name))


def whereis(name: str) -> Ref | None:
    """Return the connection of any process that has a name, as far as is known here. At once, in any thread.

    :raises TypeError, ValueError: as `register`.
    """
    return SHARED.directory.whereis(check_name(name))


def track(topic: str, ref: Ref, data: Any = None) -> bool:
    """Say that a connection of this process is present at a topic, until it has gone or `untrack` is called.

    All processes of the cluster know it, a moment later. A second call says something else of the connection. May be
    called in any thread.

    :param topic: as for `wshost.publish`; nobody needs to subscribe to it.
    :param data: what is to be known of the connection: what msgpack has a form for, of at most 4 KiB. It is copied.
    :returns: False when the connection has gone, or is one of another process; when it is present at 1,000 topics, or
        those of the process have 100,000 names and presences.
    :raises TypeError, ValueError: for another topic, reference or data.
    """
    return SHARED.directory.track(check_published(topic), _checked(ref), packed(data))


def untrack(topic: str, ref: Ref) -> bool:
    """Undo `track`. In any thread.

    :returns: False if there is nothing to undo in this process.
    :raises TypeError, ValueError: as `track`.
    """
    return SHARED.directory.untrack(check_published(topic), _checked(ref))


def present(topic: str) -> dict[Ref, Any]:
    """Return the connections of all processes that are present at a topic, and what is said of each. In any thread.

    It is known here, and may be some moments old. What was a tuple is a list.

    :raises TypeError, ValueError: as `track`.
    """
    return SHARED.directory.present(check_published(topic))


def _checked(ref: Ref) -> Ref:
    if not isinstance(ref, Ref):
        raise TypeError(f"a connection is named by its Ref, not by {type(ref).__name__}")
    return ref
