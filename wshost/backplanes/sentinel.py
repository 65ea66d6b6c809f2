"""Asks Redis Sentinel for the address of the master. Knows no connection.

A Sentinel may name a master that is one no more: who connects to it must ask it for its role.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from wshost.backplanes.connection import BrokerError
from wshost.backplanes.resp import ErrorReply, Value, command

if TYPE_CHECKING:
    from wshost.backplanes.settings import Broker


class Inquiry:
    """Asks one Sentinel once.

    :param sentinel: its path is the master's name. Its credentials are those of the master; a Sentinel gets them, too,
        if it demands some.
    """

    def __init__(self, sentinel: Broker) -> None:
        self._sentinel = sentinel
        self._authenticating = False

    def begin(self) -> bytes:
        """Return what the Sentinel is to be sent first."""
        return command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._sentinel.path)

    def answer(self, value: Value) -> Broker | ErrorReply | bytes | None:
        """Return the master; or an error of the Sentinel, or what it is to be sent next; None: nothing.

        :raises BrokerError: when it knows no master.
        """
        sentinel = self._sentinel
        match value:
            case ErrorReply():
                if value.code != "NOAUTH" or self._authenticating or sentinel.password is None:
                    return value
                self._authenticating = True
                return command("AUTH", *filter(None, [sentinel.username]), sentinel.password) + self.begin()
            case [bytes(host), bytes(port)] if port.isdigit() and len(port) <= 5 and 0 < int(port) < 1 << 16:
                return replace(sentinel, host=host.decode(errors="replace"), port=int(port))
            case None:
                raise BrokerError(f"this Sentinel knows no master {sentinel.path}")
        return None
