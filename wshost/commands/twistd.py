"""The command `twistd wshost`: Twisted's plugin has its options and its server from here. Knows no other command."""

from __future__ import annotations

import errno
import os
import pdb
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from twisted.logger import globalLogBeginner

from wshost.commands import log, options, start
from wshost.commands.one_line import one_line
from wshost.process import reactors
from wshost.results import ConfigurationError
from wshost.server import Server
from wshost.settings.options import OPTIONS, Settings

if TYPE_CHECKING:
    from wshost.workers.supervisor import Supervisor

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
        _check_pid_file(twistd)
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

    def make_log(self, settings: Settings) -> log.Log | None:
        """Make the log, if it is left to us, and return it.

        :raises ConfigurationError: when its file can't be opened; or when it is not left to us, and there are options
            for it.
        """
        twistd = self.twistd
        daemon = not twistd.get("nodaemon", True)
        if not self._ours:
            for name in settings.given:
                if name in {"log_format", "log_level", "log_file"}:
                    raise ConfigurationError(
                        f"{OPTIONS[name].dashed}: this log is not wshost's, but twist's, syslog's or --logger's"
                    )
            log.take_over(None, settings.log_level, daemon)
            return None
        path = twistd["logfile"] or (_DAEMONS_LOG if daemon else None)
        made = log.Log(settings, None if path == "-" else path, stream=1)
        made.give(twistd["uid"], twistd["gid"])
        log.take_over(made, settings.log_level, daemon)
        _made.append(made)
        return made


# The log of the process, once it is made.
_made: list[log.Log] = []


def observer() -> log.Log:
    """Return the log that `makeService` has made: twistd asks for it, by this function's name, before it logs."""
    return _made.pop()


def makeService(given: Options) -> Server | Supervisor:
    """Return a server that listens already, so that errors are reported before twistd becomes a daemon."""
    with one_line():
        settings = given.settings()
        log.limit(globalLogBeginner, settings.log_level)
        ours = given.make_log(settings)
        return start.start(given, settings, given.twistd, ours)


def _check_pid_file(twistd: Mapping[str, Any]) -> None:
    """Check that twistd can write its file. If it can't, it would fail with a traceback later.

    :param twistd: twistd's own options.
    :raises ConfigurationError: when it can't.
    """
    name = twistd.get("pidfile")
    # With --chroot, the path means another file.
    if not name or twistd.get("chroot"):
        return
    path = Path(name)
    if path.is_dir():
        error = errno.EISDIR
    elif not path.absolute().parent.is_dir():
        error = errno.ENOENT
    elif not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        error = errno.EACCES
    else:
        return
    raise ConfigurationError(f"--pidfile: {name}: {os.strerror(error)}")


def _let_debug() -> None:
    """Let Python's `breakpoint` talk to the terminal: twistd takes sys.stdout for its log."""
    if "PYTHONBREAKPOINT" not in os.environ:
        sys.breakpointhook = _break


def _break() -> None:
    caller: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as Python's own hook does
    pdb.Pdb(stdin=sys.__stdin__, stdout=sys.__stdout__).set_trace(caller)
