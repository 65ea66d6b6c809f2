"""Begins the log of a command. What Twisted's log, Python's `logging` and warnings have goes there, in one format."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    Logger,
    LogLevelFilterPredicate,
    LogPublisher,
    globalLogPublisher,
)
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
    :raises ConfigurationError: when the file can't be opened.
    """

    def __init__(self, settings: Settings, path: str | None = None, stream: int = 2) -> None:
        name = settings.log_file or path
        self._line = FORMATS[settings.log_format]
        self._level = settings.log_level
        self._stream = stream
        self._on_terminal = name is None and os.isatty(stream)
        try:
            self._output = Output(None if name is None else Path(name), self._lost, stream)
        except OSError as error:
            raise ConfigurationError(f"log-file: {name}: {error.strerror}") from error
        self._observer = FilteringLogObserver(
            cast("ILogObserver", self._write), [LogLevelFilterPredicate(defaultLogLevel=LEVELS[settings.log_level])]
        )

    def __call__(self, event: dict[str, Any]) -> None:
        self._observer(event)

    def _write(self, event: dict[str, Any]) -> None:
        self._output.write(self._line(entry(event)))

    def _lost(self, lines: int, why: str) -> str:
        text = f"{lines} lines could not be written before this one: {why}"
        return self._line(Entry(time.time(), "error", "wshost", text))

    def take_over(self) -> None:
        """Take what is logged by Python's `logging`, and open the file again when a signal comes that asks for it."""
        standard_logging.publish(globalLogPublisher, self._level)
        signals.call_at(signals.HANGUP, reactors.installed(), self.hang_up)

    def hang_up(self, number: int) -> None:
        """Open the file again; or end the process, if the terminal that has the log was closed.

        :param number: the signal that has come.
        """
        if self._on_terminal and not os.isatty(self._stream):
            os.kill(os.getpid(), signal.SIGTERM)
        name, path = signal.Signals(number).name, self._output.path
        try:
            self._output.reopen()
        except OSError as error:
            _log.error(
                "{signal}: the log can't be opened again: {path}: {why}", signal=name, path=path, why=error.strerror
            )
        else:
            _log.info(
                "{signal}: {what}",
                signal=name,
                what="the log is no file" if path is None else "the log was opened again",
            )


def limit(beginner: Any) -> None:
    """Limit what Twisted and asyncio log, as soon as logging begins: a peer may cause any number of lines.

    twistd calls ``beginLoggingTo`` once, with its log observers. This wraps that call.
    """
    if "beginLoggingTo" in vars(beginner):
        return
    begin = beginner.beginLoggingTo

    def begin_limited(observers: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        del beginner.beginLoggingTo
        limit = LogLimit(LogPublisher(*observers), by_library, _call_later)
        logging.getLogger("asyncio").addFilter(limit)
        begin([limit], *args, **kwargs)

    beginner.beginLoggingTo = begin_limited


def _call_later(seconds: float, call: Callable[[], None]) -> None:
    reactor = reactors.installed()
    reactor.callFromThread(reactor.callLater, seconds, call)
