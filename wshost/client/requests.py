"""Checks what users ask of a cluster, and makes messages of it. Knows no broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from wshost.connections import home
from wshost.messages import check_close, check_key, check_message, check_payload
from wshost.topics.patterns import check_published

if TYPE_CHECKING:
    from wshost.connections.ref import Ref


class Request(NamedTuple):
    """A message, and to whom it goes."""

    #: A topic, or else the boot of a home.
    topic: str | None
    boot: str
    message: Any


def publish(topic: str, data: str | bytes) -> Request:
    """Publish a message. :raises TypeError, ValueError: as `wshost.publish`."""
    return Request(check_published(topic), "", check_message(data)[0])


def send(ref: Ref | str, data: str | bytes, key: str | None) -> Request:
    """Send a connection a message. :raises TypeError, ValueError: as `wshost.Ref.send`."""
    return _action(ref, "send", check_message(data)[0], None if key is None else check_key(key))


def info(ref: Ref | str, message: Any) -> Request:
    """Give a connection's handler an info."""
    return _action(ref, "info", message)


def close(ref: Ref | str, code: int | None, reason: str) -> Request:
    """Close a connection. :raises ValueError: as `wshost.Ref.close`."""
    return _action(ref, "close", *check_close(code, reason))


def ping(ref: Ref | str, data: str | bytes) -> Request:
    """Send a connection a ping. :raises TypeError, ValueError: as `wshost.Ref.ping`."""
    return _action(ref, "ping", check_payload(data))


def _action(ref: Ref | str, action: str, *arguments: Any) -> Request:
    where, id = home.read(str(ref))
    return Request(None, where.boot, (action, id, *arguments))
