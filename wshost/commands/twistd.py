"""The command `twistd wshost`: Twisted's plugin has its options and its server from here. Knows no other command."""

from __future__ import annotations

import errno
import os
import pdb
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, cast

from twisted.logger import globalLogBeginner

from wshost.commands import log, options, start
from wshost.commands.one_line import one_line
from wshost.process import reactors
from wshost.results import ConfigurationError
from wshost.server import Server
from wshost.settings.options import OPTIONS, Settings

#: twistd's log, where its own options name none.
_DAEMONS_LOG = "twistd.log"


class Options(options.Options):
    """The options of `twistd wshost`, and what follows for twistd from its own."""

    examples = """
Examples:
  twistd -n wshost --port 8080 --handler chat
      serves chat.py of the current directory on ws://localhost:8080
  twistd wshost --listen tcp:443 --tls-cert chat.pem --origin https://example.com \\
                --route /chat=chat --route '/feed/*=feeds:live' --config limits.toml
      serves two handlers over TLS, in the background
"""

    def __init__(self) -> None:
        super().__init__()
        # The log is ours.
        self._ours = False

    def postOptions(self) -> None:
        # twistd forks unless its own options say otherwise; twist never forks.
        twistd = self.twistd
        daemon = not twistd.get("nodaemon", True) and not twistd.get("debug")
        if not daemon:
            _let_debug()
        _check_files(twistd, daemon)
        # twist, --logger and --syslog have a log of their own.
        self._ours = "syslog" in twistd and not twistd["syslog"] and not twistd["logger"]
        if self._ours:
            # Then twistd opens no file of its own.
            cast("dict[str, Any]", twistd)["logger"] = f"{__name__}.{observer.__name__}"
        reactors.choose(daemon=daemon)

    @property
    def twistd(self) -> Mapping[str, Any]:
        """The options of twistd itself."""
        return self.parent or {}

    def make_log(self, settings: Settings) -> None:
        """Make the log, if it is left to us.

        :raises ConfigurationError: when its file can't be opened; or when it is not left to us, and there are options
            for it.
        """
        if self._ours:
            path = self.twistd["logfile"] or (None if self.twistd["nodaemon"] else _DAEMONS_LOG)
            made = log.Log(settings, None if path == "-" else path, stream=1)
            made.take_over()
            _made.append(made)
            return
        for name in settings.given:
            if name in {"log_format", "log_level", "log_file"}:
                raise ConfigurationError(
                    f"{OPTIONS[name].dashed}: this log is not wshost's, but twist's, syslog's or --logger's"
                )


# The log of the process, once it is made.
_made: list[log.Log] = []


def observer() -> log.Log:
    """Return the log that `makeService` has made: twistd asks for it, by this function's name, before it logs."""
    return _made.pop()


def makeService(given: Options) -> Server:
    """Return a server that listens already, so that errors are reported before twistd becomes a daemon."""
    log.limit(globalLogBeginner)
    with one_line():
        settings = given.settings()
        given.make_log(settings)
        return start.start(given, settings, given.twistd)


def _check_files(twistd: Mapping[str, Any], daemon: bool) -> None:
    """Check that twistd can write its files. If it can't, it would fail with a traceback later.

    :param twistd: twistd's own options.
    :raises ConfigurationError: for a file that can't be written.
    """
    # With --chroot, the path means another file.
    files = {} if twistd.get("chroot") else {"pidfile": twistd.get("pidfile")}
    if not twistd.get("syslog") and not twistd.get("logger") and twistd.get("logfile") != "-":
        files["logfile"] = twistd.get("logfile") or (daemon and _DAEMONS_LOG)
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


def _let_debug() -> None:
    """Let Python's `breakpoint` talk to the terminal: twistd takes sys.stdout for its log."""
    if "PYTHONBREAKPOINT" not in os.environ:
        sys.breakpointhook = _break


def _break() -> None:
    caller: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as Python's own hook does
    pdb.Pdb(stdin=sys.__stdin__, stdout=sys.__stdout__).set_trace(caller)
