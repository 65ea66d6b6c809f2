"""Begins the log of a command. What Twisted's log, Python's `logging` and warnings have goes there, in one format."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.logger import ILogObserver, Logger, LogPublisher, globalLogPublisher
from zope.interface import implementer

from wshost.logs import standard_logging
from wshost.logs.entry import LEVELS, Entry, entry
from wshost.logs.formats import FORMATS
from wshost.logs.limit import LogLimit, by_library
from wshost.logs.output import Output
from wshost.process import reactors, signals
from wshost.results import ConfigurationError
from wshost.settings.options import Settings

_log = Logger("wshost")


@implementer(ILogObserver)
class Log:
    """The log of the process.

    :param settings: the options of the log.
    :param path: the file, if the options name none; None: the stream.
    :param stream: the descriptor of a stream.
    :param worker: the name of the worker that logs, such as ``w2``; empty in a server without workers.
    :raises ConfigurationError: when the file can't be opened.
    """

    def __init__(self, settings: Settings, path: str | None = None, stream: int = 2, worker: str = "") -> None:
        name = settings.log_file or path
        self._line = FORMATS[settings.log_format]
        self._worker = worker
        #: The file, if the options name none; and the stream.
        self.path, self.stream = path, stream
        try:
            self._output = Output(None if name is None else Path(name), self._lost, stream)
        except OSError as error:
            option = "log-file" if settings.log_file else "--logfile"
            raise ConfigurationError(f"{option}: {name}: {error.strerror}") from error

    def __call__(self, event: dict[str, Any]) -> None:
        try:
            made = entry(event, self._worker)
        except Exception as error:  # users' values may raise anything
            what = f"an event can't be logged: {type(error).__name__}"
            made = Entry(time.time(), "error", "wshost", what, worker=self._worker)
        self._output.write(self._line(made))

    def _lost(self, lines: int, why: str) -> str:
        text = f"{lines} lines could not be written before this one: {why}"
        return self._line(Entry(time.time(), "error", "wshost", text, worker=self._worker))

    def give(self, uid: int | None, gid: int | None) -> None:
        """Give the file to the user and the group as which the process will run.

        :raises ConfigurationError: when that is not permitted.
        """
        try:
            self._output.give(-1 if uid is None else uid, -1 if gid is None else gid)
        except OSError as error:
            raise ConfigurationError(f"{self._output.path}: {error.strerror}") from error

    def reopen(self) -> str:
        """Open the file again, and return what was done, as a clause.

        :raises OSError: when it can't be opened.
        """
        self._output.reopen()
        return "the log is no file" if self._output.path is None else f"{self._output.path} was opened again"


def begin(log: Log, level: str, beginner: Any) -> None:
    """Log there from now on, also what is logged by Python's `logging`. No signal makes the log open again.

    :param level: what is less important is left out.
    :param beginner: Twisted's `globalLogBeginner`.
    """
    limit(beginner, level)
    # Users' print() goes to stdout.
    beginner.beginLoggingTo([log], redirectStandardIO=False)
    standard_logging.publish(globalLogPublisher, level)


def take_over(log: Log | None, level: str, daemon: bool = False) -> None:
    """Take what is logged by Python's `logging`; and open the log again when a signal comes that asks for it.

    :param log: the log; None if it is another's.
    :param level: what is less important is left out.
    :param daemon: the process will leave its terminal.
    """
    standard_logging.publish(globalLogPublisher, level)
    # A process that was started with SIGHUP ignored, as by nohup, outlives its terminal.
    stays = daemon or signal.getsignal(signals.HANGUP[0]) is signal.SIG_IGN
    terminals = [] if stays else [stream for stream in range(3) if os.isatty(stream)]
    signals.call_at(signals.HANGUP, reactors.installed(), partial(_hang_up, log, terminals))


def _hang_up(log: Log | None, terminals: Sequence[int], number: int) -> None:
    """Open the log again; or end the process, if its terminal was closed.

    :param number: the signal that has come.
    """
    name = signal.Signals(number).name
    if not all(map(os.isatty, terminals)):
        _log.info("{signal}: the terminal was closed", signal=name)
        os.kill(os.getpid(), signal.SIGTERM)
    try:
        done = "this log is not wshost's" if log is None else log.reopen()
    except OSError as error:
        _log.error("{signal}: the log can't be opened again: {why}", signal=name, why=error)
    else:
        _log.info("{signal}: {done}", signal=name, done=done)


def limit(beginner: Any, level: str) -> None:
    """Limit what Twisted and asyncio log, as soon as logging begins: a peer may cause any number of lines.

    twistd calls ``beginLoggingTo`` once, with its log observers. This wraps that call.

    :param level: what is less important is left out.
    """
    if "beginLoggingTo" in vars(beginner):
        return
    begin = beginner.beginLoggingTo

    def begin_limited(observers: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        del beginner.beginLoggingTo
        limit = LogLimit(LogPublisher(*observers), by_library, _call_later, least=LEVELS[level])
        logging.getLogger("asyncio").addFilter(limit)
        begin([limit], *args, **kwargs)

    beginner.beginLoggingTo = begin_limited


def _call_later(seconds: float, call: Callable[[], None]) -> None:
    reactor = reactors.installed()
    reactor.callFromThread(reactor.callLater, seconds, call)
