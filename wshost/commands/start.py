"""Makes a server of the commands' options, which listens already. Knows no way to run it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from wshost.commands.one_line import Exit, one_line
from wshost.commands.options import Options
from wshost.connections.admission import MAX_REFUSED
from wshost.connections.drain import counted
from wshost.listening.listener import Listener
from wshost.loading.importing import make_importable
from wshost.process import allocator, collector, ending, open_files, reactors, signals
from wshost.process.systemd import Notifier
from wshost.reloading import Reloaded
from wshost.results import ConfigurationError
from wshost.server import Server
from wshost.settings.options import Settings

_log = Logger("wshost")


class CommandServer(Server):
    """A server that ends the process with one line when it can't start, and tells systemd what becomes of it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._systemd = Notifier()

    def privilegedStartService(self) -> None:
        with one_line():
            super().privilegedStartService()

    def startService(self) -> None:
        with one_line():
            super().startService()
        signals.call_after(signals.RELOAD, reactors.installed(), lambda _: self.reload())
        self._systemd.live(reactors.installed())

    def reload(self) -> Deferred[Reloaded]:
        if not self.ready:
            # systemd waits for the start, or the stop.
            return super().reload()
        self._systemd.reloading()
        return super().reload().addCallback(self._reloaded)

    def _reloaded(self, done: Reloaded) -> Reloaded:
        if self.ready:
            self._systemd.ready("serving")
        return done

    def _announce(self, listeners: list[Listener]) -> None:
        super()._announce(listeners)
        # Pings, fragments and our own Closes need it. It takes long: in this thread, all clients would have to wait.
        Thread(target=self.load, name="wshost-load").start()

    def _let_in(self) -> None:
        self._systemd.ready("serving")

    def _wait_for(self, connections: int) -> None:
        self._systemd.stopping(f"waiting for {counted(connections)}")

    def _give_up(self, error: ConfigurationError) -> None:
        try:
            with one_line():
                raise error
        except Exit as leaving:
            ending.leave(reactors.installed(), leaving)


def start(options: Options, settings: Settings, twistd: Mapping[str, Any]) -> Server:
    """Return a server that listens already, so that errors are reported before the process goes on.

    :param twistd: twistd's own options, if it runs the server.
    :raises ConfigurationError: for what prevents the start.
    """
    allocator.keep_memory()
    ending.interrupt_quietly(reactors.installed())
    if options.file is not None:
        make_importable(Path(options.file).absolute().parent)
    server = CommandServer(settings)
    server.bind(unix=False)
    limit = open_files.raise_limit()
    short = open_files.shortage(limit, settings.max_connections)
    if short is not None:
        _log.warn("{line}", line=short)
    if _loads_at_once(twistd, limit, settings):
        server.load()
    # At last, when all is loaded.
    collector.spare_lasting_objects()
    return server


def _loads_at_once(twistd: Mapping[str, Any], limit: int | None, settings: Settings) -> bool:
    """Return whether to call `Server.load` before the server starts, as files might not be readable later.

    :param twistd: twistd's own options. It may change to another root, user or group.
    :param limit: how many files may be open. Connections might use them up.
    """
    moves = any(twistd.get(option) is not None for option in ("chroot", "uid", "gid"))
    return moves or open_files.shortage(limit, settings.max_connections + MAX_REFUSED) is not None
