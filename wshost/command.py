"""The command `twistd wshost`: reads its options and prints its help. If it can't start, it says why in one line."""

from __future__ import annotations

import errno
import logging
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from twisted.logger import Logger, LogPublisher, globalLogBeginner
from twisted.python import usage

from wshost import __version__, compiled
from wshost.connections.admission import MAX_REFUSED
from wshost.listening.listener import Listener
from wshost.process import allocator, collector, ending, open_files, reactors
from wshost.process.log_limit import LogLimit, by_library
from wshost.results import ConfigurationError
from wshost.server import Server
from wshost.settings.options import GROUPS, OPTIONS, Option, Settings, settle

_EXAMPLES = """\
Sizes are in bytes: 65536, 64KiB, 1MiB, 1GiB.

Examples:
  twistd -n wshost --port 8080 --handler chat
      serves chat.py of the current directory on ws://localhost:8080
  twistd wshost --listen tcp:443 --tls-cert chat.pem --origin https://example.com \\
                --route /chat=chat --route '/feed/*=feeds:live' --config limits.toml
      serves two handlers over TLS, in the background
"""

#: The help of `--config`.
CONFIG = "TOML file with more options, by the same names; options on the command line win."

_log = Logger("wshost")


class Exit(SystemExit, Exception):
    """Ends the process with status 1, and without a traceback.

    It is also an `Exception`: only for an `Exception` twistd removes its pid file, and reports a daemon's error on the
    terminal.
    """

    def __init__(self, line: str) -> None:
        super().__init__(1)
        self.line = line

    def __str__(self) -> str:
        return self.line


@contextmanager
def one_line() -> Iterator[None]:
    """Catch a `ConfigurationError`: print it as one line on stderr, and raise an `Exit` instead."""
    try:
        yield
    except ConfigurationError as error:
        line = " ".join(str(error).splitlines())
        # While twistd runs, sys.stderr is its log. If a handler failed to import, its traceback comes before the line.
        print(getattr(error, "traceback_text", ""), end="", file=sys.__stderr__)
        print(f"wshost: {line}", file=sys.__stderr__, flush=True)
        raise Exit(line) from error


class Options(usage.Options):
    """The checked options of the command line, by their names in `wshost.settings.options.Settings`."""

    longdesc = "\nA WebSocket server that runs your handler."

    def __init__(self) -> None:
        usage.Options.__init__(self)
        #: The path that `--config` names.
        self.file: str | None = None

    def opt_config(self, path: str) -> None:
        """Read options from a TOML file."""
        self.file = path

    def opt_version(self) -> None:
        """Print the version, and exit."""
        print(f"wshost {__version__} ({compiled.form()})")
        sys.exit(0)

    def parseOptions(self, options: list[str] | None = None) -> None:
        with one_line():
            try:
                usage.Options.parseOptions(self, options)
            except usage.UsageError as error:
                raise ConfigurationError(f"{error}; see --help") from None

    def parseArgs(self, *args: str) -> None:
        if args:
            raise usage.UsageError(f"unexpected argument {args[0]!r}")

    def postOptions(self) -> None:
        # twistd forks unless its own options say otherwise; twist never forks.
        parent: Mapping[str, Any] = self.parent or {}
        daemon = not parent.get("nodaemon", True) and not parent.get("debug")
        _check_files(parent, daemon)
        reactors.choose(daemon=daemon)

    def settings(self) -> Settings:
        """Return the settings of the command line and the file together.

        :raises ConfigurationError: when the file is wrong, or some options contradict each other.
        """
        if self.file is None:
            return settle({}, self)
        from wshost.settings import file  # noqa: PLC0415 - few commands need it

        return settle(file.read(self.file), self)

    def getUsage(self, width: int | None = None) -> str:
        width = width or int(os.environ.get("COLUMNS", "80"))
        lines = []
        for option in OPTIONS.values():
            if option.name in GROUPS:
                lines.append(f"\n{GROUPS[option.name]}:\n")
            text = f"{option.help} [{option.shown}]" if option.shown and option.kind.metavar else option.help
            lines.append(_entry(option.dashed, option.kind.metavar, text, width))
        lines += [
            "\nOther:\n",
            _entry("config", "FILE", CONFIG, width),
            _entry("version", "", "Print the version, and exit.", width),
            _entry("help", "", "Print this, and exit.", width),
        ]
        return f"{self.longdesc}\n{''.join(lines)}\n{_EXAMPLES}"


def _entry(name: str, metavar: str, text: str, width: int) -> str:
    """Return an option's help: its name, and its text on the same line, or on the next when the name is long."""
    column = 28
    head = f"  --{name}{'=' * bool(metavar)}{metavar}"
    lines = textwrap.wrap(text, max(width - column, 20), break_on_hyphens=False)
    if len(head) < column:
        head = f"{head:<{column}}{lines.pop(0)}"
    return "".join(f"{line}\n" for line in [head, *(f"{'':<{column}}{line}" for line in lines)])


def _check_files(twistd: Mapping[str, Any], daemon: bool) -> None:
    """Check that twistd can write its files. If it can't, it would fail with a traceback later.

    :param twistd: twistd's own options.
    :raises ConfigurationError: for a file that can't be written.
    """
    # With --chroot, the path means another file.
    files = {} if twistd.get("chroot") else {"pidfile": twistd.get("pidfile")}
    if not twistd.get("syslog") and not twistd.get("logger") and twistd.get("logfile") != "-":
        files["logfile"] = twistd.get("logfile") or (daemon and "twistd.log")
    for option, name in files.items():
        if not name:
            continue
        path = Path(name)
        if path.is_dir():
            error = errno.EISDIR
        elif not path.absolute().parent.is_dir():
            error = errno.ENOENT
        elif not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
            error = errno.EACCES
        else:
            continue
        raise ConfigurationError(f"--{option}: {name}: {os.strerror(error)}")


def _method(option: Option[Any]) -> Callable[..., None]:
    def take(self: Options, text: str) -> None:
        try:
            self[option.name] = option.kind.add(self.get(option.name), text)
        except ValueError as error:
            raise ConfigurationError(f"--{option.dashed}: {error}") from None

    def take_flag(self: Options) -> None:
        take(self, "")

    return take if option.kind.metavar else take_flag


for _option in OPTIONS.values():
    # usage.Options finds options as methods of these names, and checks whether the methods take a value.
    setattr(Options, f"opt_{_option.name}", _method(_option))


class _CommandServer(Server):
    """A server that ends the process with one line when it can't start."""

    def privilegedStartService(self) -> None:
        with one_line():
            super().privilegedStartService()

    def startService(self) -> None:
        with one_line():
            super().startService()

    def _announce(self, listeners: list[Listener]) -> None:
        super()._announce(listeners)
        # Pings, fragments and our own Closes need it. It takes long: in this thread, all clients would have to wait.
        Thread(target=self.load, name="wshost-load").start()

    def _give_up(self, error: ConfigurationError) -> None:
        try:
            with one_line():
                raise error
        except Exit as leaving:
            ending.leave(reactors.installed(), leaving)


def makeService(options: Options) -> Server:
    """Return a server that listens already, so that errors are reported before twistd becomes a daemon."""
    allocator.keep_memory()
    ending.interrupt_quietly(reactors.installed())
    limit_logs(globalLogBeginner)
    with one_line():
        settings = options.settings()
        server = _CommandServer(settings)
        server.bind(unix=False)
    limit = open_files.raise_limit()
    short = open_files.shortage(limit, settings.max_connections)
    if short is not None:
        _log.warn("{line}", line=short)
    if _loads_at_once(options.parent or {}, limit, settings):
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


def limit_logs(beginner: Any) -> None:
    """Limit what Twisted and asyncio log, as soon as logging begins: a peer may cause any number of lines.

    twistd calls ``beginLoggingTo`` once, with its log observers. This wraps that call.
    """
    if "beginLoggingTo" in vars(beginner):
        return
    begin = beginner.beginLoggingTo

    def begin_limited(observers: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        del beginner.beginLoggingTo
        limit = LogLimit(LogPublisher(*observers), by_library, _call_later)
        # asyncio's messages get into Twisted's log by stderr.
        logging.getLogger("asyncio").addFilter(limit)
        begin([limit], *args, **kwargs)

    beginner.beginLoggingTo = begin_limited


def _call_later(seconds: float, call: Callable[[], None]) -> None:
    reactor = reactors.installed()
    reactor.callFromThread(reactor.callLater, seconds, call)
