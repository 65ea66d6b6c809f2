"""The way to the process that takes over, and that to the process before: listening sockets go by it, and connections.

Knows no worker.
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
        self._predecessor: takeover.Predecessor | None = None
        self._offer: takeover.Offer | None = None
        #: The listening sockets of the process before, by the descriptions of their endpoints.
        self.inherited: dict[str, socket] = {}
        #: How many workers all processes before have started: the ids of their connections name them.
        self.workers = 0
        #: How many connections processes without workers have made before.
        self.opened = 0
        if path is not None:
            try:
                self._predecessor = takeover.find(path)
                if self._predecessor is not None:
                    self.inherited = self._predecessor.ask(names)
                    self.workers = int(self._predecessor.answer.get("workers", 0))
            except takeover.TakeoverError as error:
                raise ConfigurationError(f"takeover: {path}: {error}") from error

    def go(
        self,
        serve: Callable[[], None],
        adopt: Callable[[Mapping[str, Any], bytes, socket], None],
        ended: Callable[[], None],
    ) -> None:
        """Call `serve` when the process before this one accepts no more; at once if there is none.

        :param adopt: gets each connection that it gives away: what is to be known of it, as JSON knows it and as bytes,
            and its socket.
        :param ended: called when no more connections come.
        """
        predecessor = self._predecessor
        if predecessor is None:
            serve()
            return
        home: Any = None

        def go_on(said: Mapping[str, Any]) -> None:
            nonlocal home
            _log.info("taking over from the process before this one")
            self.opened, home = int(said.get("opened", 0)), said.get("home")
            serve()

        def adopt_one(head: Mapping[str, Any], data: bytes, connected: socket) -> None:
            # An older process has one home, and says so once.
            adopt({"home": home, **head}, data, connected)

        predecessor.succeed(self._reactor, go_on, adopt_one, ended=ended, ready={"workers": self.workers})

    def pause(self) -> None:
        """Take no more connections from the process before this one until `resume`. There must be one."""
        predecessor: Any = self._predecessor
        predecessor.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        predecessor: Any = self._predecessor
        predecessor.resume()

    def offer(
        self,
        sockets: Callable[[], Mapping[str, socket]],
        give_up: Callable[[takeover.Channel], bool],
        workers: Callable[[], int],
    ) -> None:
        """Wait for the next process, once the one before this one does not any more.

        :param sockets: returns the listening sockets by the descriptions of their endpoints.
        :param give_up: see `takeover.Offer`.
        :param workers: returns how many workers were ever started.
        :raises ConfigurationError: when that can't be.
        """
        if self._path is None:
            return

        def share(names: Sequence[str]) -> dict[str, socket]:
            known = sockets()
            return {name: known[name] for name in names if name in known}

        def answer() -> dict[str, int]:
            return {"workers": workers()}

        self._offer = takeover.Offer(self._reactor, self._path, share, give_up, answer)
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
