"""The command `wshost`: runs the server in the foreground. Knows no twistd."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from twisted.logger import globalLogBeginner

from wshost.commands import log, options, start
from wshost.commands.one_line import one_line
from wshost.process import ending, open_files, passed_sockets, reactors
from wshost.results import ConfigurationError


class Options(options.Options):
    """The options of `wshost`."""

    more = {  # noqa: RUF012 - as in the base class
        "reload": "For development: start again when the handler, a file beside it, or the configuration changes.",
    }
    examples = """
Commands:
  wshost [options]         serves in the foreground, until SIGTERM or Ctrl-C
  wshost check [options]   says what would be wrong, and what is in force; starts nothing
  wshost publish TOPIC TEXT [options]
                           sends the subscribers of a topic a message, through --backplane

Examples:
  wshost --port 8080 --handler chat
      serves chat.py of the current directory on ws://localhost:8080
  wshost --config /etc/chat/wshost.toml --log-format json
      serves as the file says, with a log for programs
"""

    def __init__(self) -> None:
        super().__init__()
        #: Start again when a file changes.
        self.reloads = False

    def opt_reload(self) -> None:
        """Start again when a file changes."""
        self.reloads = True

    def getSynopsis(self) -> str:
        return "Usage: wshost [check | publish TOPIC TEXT] [options]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    :param arguments: by default, those of the process.
    :returns: the exit status.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["publish"]:
        from wshost.commands import publish  # noqa: PLC0415 - only then

        return publish.main(given[1:])
    checks = given[:1] == ["check"]
    parsed = Options()
    parsed.parseOptions(given[1:] if checks else given)
    with one_line():
        if checks and parsed.reloads:
            raise ConfigurationError("check starts nothing: leave out --reload")
        if parsed.reloads and passed_sockets.PASSED.sockets:
            raise ConfigurationError("--reload can't serve the sockets that systemd has passed: leave it out")
        if checks:
            from wshost.commands import check  # noqa: PLC0415 - only then

            return check.check(parsed)
        if parsed.reloads:
            from wshost.commands import reload  # noqa: PLC0415 - only then

            return reload.run(parsed, given)
        return run(parsed)


def run(parsed: Options) -> int:
    """Serve until a signal comes.

    :returns: the exit status; after SIGINT, the process ends by SIGINT, so that a shell's script ends, too.
    :raises ConfigurationError: for what prevents the start.
    """
    open_files.open_standard_streams()
    reactors.choose(daemon=False)
    reactor = reactors.installed()
    settings = parsed.settings()
    ours = log.Log(settings)
    log.limit(globalLogBeginner, settings.log_level)
    # Users' print() goes to stdout.
    globalLogBeginner.beginLoggingTo([ours], redirectStandardIO=False)
    log.take_over(ours, settings.log_level)
    server = start.start(parsed, settings, {}, ours)
    server.privilegedStartService()
    server.startService()
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    reactor.run()
    if getattr(reactor, "_exitSignal", None) == signal.SIGINT:
        ending.end_by(signal.SIGINT)
    return 0
