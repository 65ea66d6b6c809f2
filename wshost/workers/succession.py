"""Hands a server's listening sockets to the process that takes over, and gets those of the process before.

Connections stay where they are, and drain there. Knows no worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from socket import socket
from typing import Any

from twisted.logger import Logger

from wshost.process import takeover
from wshost.results import ConfigurationError

_log = Logger("wshost")


class Succession:
    """The processes before and after this one (`--takeover`).

    :param path: where the next one finds this one; None: there is none before, and none after.
    :param names: the descriptions of the endpoints.
    :raises ConfigurationError: when the running process can't be taken over.
    """

    def __init__(self, reactor: Any, path: Path | None, names: Sequence[str]) -> None:
        self._reactor = reactor
        self._path = path
        self._names = list(names)
        self._predecessor: takeover.Predecessor | None = None
        self._offer: takeover.Offer | None = None
        #: The listening sockets of the process before, by the descriptions of their endpoints.
        self.inherited: dict[str, socket] = {}
        if path is not None:
            try:
                self._predecessor = takeover.find(path)
                if self._predecessor is not None:
                    self.inherited = self._predecessor.ask(names)
            except takeover.TakeoverError as error:
                raise ConfigurationError(f"takeover: {path}: {error}") from error

    def go(self, serve: Callable[[], None]) -> None:
        """Call `serve` when the process before this one accepts no more; at once if there is none."""
        if self._predecessor is None:
            serve()
        else:
            self._predecessor.succeed(self._reactor, lambda said: self._go_on(said, serve), None)

    def _go_on(self, said: Mapping[str, Any], serve: Callable[[], None]) -> None:
        _log.info("taking over from the process before this one")
        serve()

    def offer(self, sockets: Callable[[], Sequence[socket]], give_up: Callable[[takeover.Channel], None]) -> None:
        """Wait for the next process, once the one before this one does not any more.

        :param sockets: returns the listening sockets, in the order of the names.
        :param give_up: see `takeover.Offer`.
        :raises ConfigurationError: when that can't be.
        """
        if self._path is None:
            return

        def share(names: Sequence[str]) -> dict[str, socket]:
            known = dict(zip(self._names, sockets(), strict=True))
            return {name: known[name] for name in names if name in known}

        self._offer = takeover.Offer(self._reactor, self._path, share, give_up)
        try:
            self._offer.listen()
        except OSError as error:
            raise ConfigurationError(f"takeover: {self._path}: {error.strerror or error}") from error

    @property
    def waits(self) -> bool:
        """Whether there is a process before this one, which may accept still."""
        return self._predecessor is not None

    def stop(self) -> None:
        """Take over from nobody, and let nobody take over."""
        if self._predecessor is not None:
            self._predecessor.close()
            self._predecessor = None
        if self._offer is not None:
            self._offer.stop()
            self._offer = None
