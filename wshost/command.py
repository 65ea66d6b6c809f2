"""`twistd wshost`: its command line and its help, and that whatever prevents a start is said in one line."""

from __future__ import annotations

import errno
import inspect
import logging
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.logger import Logger, LogPublisher, globalLogBeginner
from twisted.python import usage

from wshost import __version__, compiled
from wshost.connections.hub import Host
from wshost.process import allocator, ending, open_files, reactors
from wshost.process.log_limit import LogLimit, by_others
from wshost.results import ConfigurationError
from wshost.server import Server
from wshost.settings import file, options

_EXAMPLES = """\
Sizes are in bytes: 65536, 64KiB, 1MiB, 1GiB.

Examples:
  twistd -n wshost --port 8080 --handler chat
      serves chat.py of the current directory on ws://localhost:8080
  twistd wshost --listen tcp:443 --tls-cert chat.pem --origin https://example.com \\
                --route /chat=chat --route '/feed/*=feeds:live' --config limits.toml
      serves two handlers over TLS, in the background
"""

#: What holds when none is given.
_MAX_CONNECTIONS: int = inspect.signature(Host).parameters["max_connections"].default

_log = Logger("wshost")


class Exit(SystemExit, Exception):
    """Ends the process with status 1, and without a traceback.

    It is an `Exception`, too: for those only, twistd removes its pid file, and a daemon tells the terminal.
    """

    def __init__(self, line: str) -> None:
        super().__init__(1)
        self.line = line

    def __str__(self) -> str:
        return self.line


@contextmanager
def one_line() -> Iterator[None]:
    """Turn a `ConfigurationError` into one line on stderr, and an `Exit`."""
    try:
        yield
    except ConfigurationError as error:
        line = " ".join(str(error).splitlines())
        # While twistd runs, sys.stderr is its log. What a handler raised when it was imported goes above the line.
        print(getattr(error, "traceback_text", ""), end="", file=sys.__stderr__)
        print(f"wshost: {line}", file=sys.__stderr__, flush=True)
        raise Exit(line) from error


class Options(usage.Options):
    """The command line: the options that were given, checked, by the names of `wshost.settings.options.Settings`."""

    longdesc = "\nA WebSocket server that runs your handler."

    def __init__(self) -> None:
        usage.Options.__init__(self)
        #: Of `--config`.
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
        # Only twistd's own options know; twist does not fork.
        parent: Mapping[str, Any] = self.parent or {}
        daemon = not parent.get("nodaemon", True) and not parent.get("debug")
        _check_files(parent, daemon)
        reactors.choose(daemon=daemon)

    def settings(self) -> options.Settings:
        """Return what was asked for, here and in the file. :raises ConfigurationError: when something is wrong."""
        return options.settle(file.read(self.file) if self.file is not None else {}, self)

    def getUsage(self, width: int | None = None) -> str:
        width = width or int(os.environ.get("COLUMNS", "80"))
        groups: dict[str, list[str]] = {}
        for name, option in options.OPTIONS.items():
            text = f"{option.help} [{option.default}]" if option.default else option.help
            groups.setdefault(option.group, []).append(_entry(name, option.kind.metavar, text, width))
        groups["Other"] = [
            _entry("config", "FILE", "More options by these names, in TOML; those of the command line win.", width),
            _entry("version", "", "Print the version, and exit.", width),
            _entry("help", "", "Print this, and exit.", width),
        ]
        parts = [f"{title}:\n{''.join(entries)}" for title, entries in groups.items()]
        return "\n".join([self.longdesc + "\n", *parts, _EXAMPLES])


def _entry(name: str, metavar: str, text: str, width: int) -> str:
    """Return an option for the help: its name, then its text on the same line or, when the name is long, the next."""
    column = 28
    head = f"  --{name.replace('_', '-')}{'=' * bool(metavar)}{metavar}"
    lines = textwrap.wrap(text, max(width - column, 20), break_on_hyphens=False)
    if len(head) < column:
        head = f"{head:<{column}}{lines.pop(0)}"
    return "".join(f"{line}\n" for line in [head, *(f"{'':<{column}}{line}" for line in lines)])


def _check_files(twistd: Mapping[str, Any], daemon: bool) -> None:
    """Check the files that twistd is going to write: it would show a traceback.

    :param twistd: its own options.
    :raises ConfigurationError: for one that can't be.
    """
    # Below another root, the name means another file.
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


def _taking(name: str, kind: Any) -> Callable[..., None]:
    def take(self: Options, text: str) -> None:
        try:
            self[name] = kind.add(self.get(name), text)
        except ValueError as error:
            raise ConfigurationError(f"--{name.replace('_', '-')}: {error}") from None

    def take_flag(self: Options) -> None:
        take(self, "")

    return take if kind.metavar else take_flag


for _name, _option in options.OPTIONS.items():
    # By these methods, usage.Options knows the options.
    setattr(Options, f"opt_{_name}", _taking(_name, _option.kind))


class _CommandServer(Server):
    """A server for which nobody is there to catch an exception."""

    def privilegedStartService(self) -> None:
        with one_line():
            super().privilegedStartService()

    def startService(self) -> None:
        with one_line():
            super().startService()

    def _give_up(self, error: ConfigurationError) -> None:
        try:
            with one_line():
                raise error
        except Exit as leaving:
            ending.leave(reactors.installed(), leaving)


def makeService(options: Options) -> Server:
    """Return the server, listening already: so that what prevents it is seen before twistd becomes a daemon."""
    allocator.keep_memory()
    ending.interrupt_quietly(reactors.installed())
    limit_logs(globalLogBeginner)
    with one_line():
        settings = options.settings()
        server = _CommandServer(settings)
        server.bind(unix=False)
    short = open_files.shortage(open_files.raise_limit(), settings.max_connections or _MAX_CONNECTIONS)
    if short is not None:
        _log.warn("{line}", line=short)
    return server


def limit_logs(beginner: Any) -> None:
    """Let what Twisted and asyncio log be limited, once logging begins: a peer may be the reason for each line.

    Only twistd knows what it will log to, and only there it says so.
    """
    if "beginLoggingTo" in vars(beginner):
        return
    begin = beginner.beginLoggingTo

    def begin_limited(observers: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        del beginner.beginLoggingTo
        limit = LogLimit(LogPublisher(*observers), by_others, _call_later)
        # It has a log of its own, which ends in Twisted's by stderr.
        logging.getLogger("asyncio").addFilter(limit)
        begin([limit], *args, **kwargs)

    beginner.beginLoggingTo = begin_limited


def _call_later(seconds: float, call: Callable[[], None]) -> None:
    reactor = reactors.installed()
    reactor.callFromThread(reactor.callLater, seconds, call)
