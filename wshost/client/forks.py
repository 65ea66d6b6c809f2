"""Tells clients that their process was forked: two processes must not share a connection. Knows no connection."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """What is told."""

    def begin_anew(self) -> None:
        """Forget the connection, which the parent goes on to use. Called in the child, before its threads begin."""


_clients: WeakSet[Forked] = WeakSet()


def watch(client: Forked) -> None:
    """Tell this client, as long as it lives."""
    _clients.add(client)


def tell() -> None:
    """Tell all: this process is a new one."""
    for client in list(_clients):
        client.begin_anew()


os.register_at_fork(after_in_child=tell)
