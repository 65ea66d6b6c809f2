"""Makes a server of the commands' options, which listens already. Knows no way to run it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from socket import socket
from threading import Thread
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

from wshost.commands import log, passed
from wshost.commands.one_line import Exit, one_line
from wshost.commands.options import Options
from wshost.connections.admission import MAX_REFUSED
from wshost.connections.drain import counted
from wshost.connections.handover import Frozen, name_of, packet
from wshost.connections.home import Home
from wshost.listening.listener import Listener
from wshost.loading.importing import make_importable
from wshost.process import (
    allocator,
    collector,
    ending,
    open_files,
    passed_sockets,
    reactors,
    signals,
    takeover,
)
from wshost.process.systemd import Notifier
from wshost.reloading import Reloaded
from wshost.results import ConfigurationError
from wshost.server import Server
from wshost.settings.options import Settings

if TYPE_CHECKING:
    from wshost.workers.supervisor import Supervisor

_log = Logger("wshost")


class CommandServer(Server):
    """A server that ends the process with one line when it can't start, and tells systemd what becomes of it."""

    def __init__(self, settings: Settings) -> None:
        # Before handlers are imported: these may start programs.
        self._systemd = Notifier()
        super().__init__(settings)
        self._path = None if settings.takeover is None else Path(settings.takeover)
        # The process before this one, until it has gone; and the way by which the next one finds this one.
        self._predecessor: takeover.Predecessor | None = None
        self._offer: takeover.Offer | None = None
        # How many workers processes before have started: a later one goes on to count.
        self._workers = 0
        # How many reloads have begun, and have not ended.
        self._reloads = 0

    def find_predecessor(self) -> None:
        """Ask a running process for its listening sockets, if there is one. Called before `bind`.

        :raises ConfigurationError: when it can't be taken over.
        """
        if self._path is None:
            return
        try:
            self._predecessor = takeover.find(self._path)
            if self._predecessor is not None:
                self.inherit(self._predecessor.ask(self.endpoints))
                self._workers = int(self._predecessor.answer.get("workers", 0))
        except takeover.TakeoverError as error:
            raise ConfigurationError(f"takeover: {self._path}: {error}") from error

    def privilegedStartService(self) -> None:
        with one_line():
            super().privilegedStartService()

    def startService(self) -> None:
        with one_line():
            super().startService()
            if self._predecessor is None:
                self._offer_takeover()
        signals.call_after(signals.RELOAD, reactors.installed(), lambda _: self.reload())
        self._systemd.live(reactors.installed())

    def stopService(self) -> Deferred[None]:
        if self._predecessor is not None:
            self._predecessor.close()
            self._predecessor = None
        if self._offer is not None:
            self._offer.stop()
            self._offer = None
        return super().stopService()

    # Takeover

    def _serve(self, result: object) -> None:
        if self._predecessor is None:
            super()._serve(result)
            return
        self._connecting = None
        for listener in self._all_listeners:
            listener.pause()
        # The process before this one serves meanwhile; later, all clients would have to wait.
        self.load()
        reactor = reactors.installed()
        # Of workers that were started since it was asked, it keeps the connections: later ones will have their numbers.
        succeed = partial(self._predecessor.succeed, ended=self.settle, ready={"workers": self._workers})
        reactor.callWhenRunning(succeed, reactor, self._go_on, self._adopt)

    def _go_on(self, said: Mapping[str, Any]) -> None:
        """Serve: the process before this one does not any more."""
        _log.info("taking over from the process before this one")
        if self._hub is not None:
            self._hub.shared.account.opened = int(said.get("opened", 0))
            if "home" in said:
                self.take_home(Home(*said["home"]))
            super()._serve(None)
            try:
                self._offer_takeover()
            except ConfigurationError as error:
                _log.error("{error}", error=error)

    def _adopt(self, head: Mapping[str, Any], data: bytes, connected: socket) -> None:
        self.adopt(Frozen(head, data), connected, name_of(head))

    def _offer_takeover(self) -> None:
        if self._path is not None:
            self._offer = takeover.Offer(
                reactors.installed(), self._path, self.share, self._give_up_to, lambda: {"workers": self._workers}
            )
            try:
                self._offer.listen()
            except OSError as error:
                raise ConfigurationError(f"takeover: {self._path}: {error.strerror or error}") from error

    def _give_up_to(self, channel: takeover.Channel) -> bool:
        """Let a successor go on, then stop as at a signal; return False if it has gone."""

        def give(frozen: Frozen, connected: socket, name: Any) -> None:
            channel.send(packet(frozen, name), frozen.data, [connected.fileno()])

        def end(moved: Any) -> None:
            channel.close()
            _log.info("another process has taken over, with {connections}", connections=counted(moved))
            # A signal may have stopped it meanwhile.
            with suppress(ReactorNotRunning):
                reactors.installed().stop()

        def tell(opened: int, home: Home) -> None:
            # Without its connections, the other process is another home.
            channel.send({"opened": opened, **({"home": home} if channel.takes_connections else {})})

        try:
            done = self.give_up(tell, give if channel.takes_connections else None)
        except OSError as error:
            _log.warn("the process that would take over has gone: {error}", error=error)
            channel.close()
            return False
        done.addCallback(end)
        return True

    def reload(self) -> Deferred[Reloaded]:
        if not self.ready:
            # systemd waits for the start, or the stop.
            return super().reload()
        self._systemd.reloading()
        self._reloads += 1
        return super().reload().addCallback(self._reloaded)

    def _reloaded(self, done: Reloaded) -> Reloaded:
        self._reloads -= 1
        if self.ready and not self._reloads:
            self._systemd.ready("serving")
        return done

    def _announce(self, listeners: list[Listener]) -> None:
        super()._announce(listeners)
        # Pings, fragments and our own Closes need it. It takes long: in this thread, all clients would have to wait.
        Thread(target=self.load, name="wshost-load").start()

    def _let_in(self) -> None:
        self._systemd.ready("serving")

    def _wait_for(self, connections: int) -> bool:
        self._systemd.stopping(f"waiting for {counted(connections)}")
        return False

    def _give_up(self, error: ConfigurationError) -> None:
        try:
            with one_line():
                raise error
        except Exit as leaving:
            ending.leave(reactors.installed(), leaving)


def start(
    options: Options, settings: Settings, twistd: Mapping[str, Any], ours: log.Log | None = None
) -> Server | Supervisor:
    """Return a server that listens already, so that errors are reported before the process goes on.

    :param twistd: twistd's own options, if it runs the server.
    :param ours: the log of the process; None if it is another's.
    :raises ConfigurationError: for what prevents the start.
    """
    allocator.keep_memory()
    ending.interrupt_quietly(reactors.installed())
    # Twisted takes the others of systemd's variables, and leaves this one.
    os.environ.pop("LISTEN_FDNAMES", None)
    if options.file is not None:
        make_importable(Path(options.file).absolute().parent)
    if settings.workers > 1:
        return _supervisor(options, settings, twistd, ours)
    server = CommandServer(settings)
    server.find_predecessor()
    server.bind(unix=False)
    _warn_of_shortages(settings)
    if _loads_at_once(twistd, open_files.raise_limit(), settings):
        server.load()
    # At last, when all is loaded.
    collector.spare_lasting_objects()
    return server


def _supervisor(options: Options, settings: Settings, twistd: Mapping[str, Any], ours: log.Log | None) -> Supervisor:
    """Return what has other processes serve. :raises ConfigurationError: as `start`."""
    from wshost.workers.kit import Kit  # noqa: PLC0415 - few servers have workers
    from wshost.workers.supervisor import Supervisor  # noqa: PLC0415

    if ours is None:
        raise ConfigurationError("workers: they write to wshost's own log: leave out twist, --syslog and --logger")
    if twistd.get("chroot") is not None:
        raise ConfigurationError("workers: they can't be started in another root: leave out --chroot")
    folder = None if options.file is None else str(Path(options.file).absolute().parent)
    path = None if ours.path is None else str(Path(ours.path).absolute())
    server = Supervisor(settings, Kit(settings.given, folder, path, ours.stream, reactors.name(reactors.installed())))
    server.bind(unix=False)
    _warn_of_shortages(settings)
    return server


def _warn_of_shortages(settings: Settings) -> None:
    idle = passed.unused(passed_sockets.PASSED)
    if idle is not None:
        _log.warn("{line}", line=idle)
    limit = open_files.raise_limit()
    short = open_files.shortage(limit, settings.max_connections)
    if short is not None:
        _log.warn("{line}", line=short)


def _loads_at_once(twistd: Mapping[str, Any], limit: int | None, settings: Settings) -> bool:
    """Return whether to call `Server.load` before the server starts, as files might not be readable later.

    :param twistd: twistd's own options. It may change to another root, user or group.
    :param limit: how many files may be open. Connections might use them up.
    """
    moves = any(twistd.get(option) is not None for option in ("chroot", "uid", "gid"))
    return moves or open_files.shortage(limit, settings.max_connections + MAX_REFUSED) is not None
