"""The options of the commands, read from their arguments; must not know what is tested with them."""

from __future__ import annotations

from twisted.scripts._twistd_unix import ServerOptions

from wshost.commands.twistd import Options

ECHO = ["--handler", "wshost.handlers.echo"]


def parsed(*given: str) -> Options:
    """The options of `twistd wshost` without those of twistd."""
    options = Options()
    options.parseOptions(list(given))
    return options


def twistd(*given: str) -> Options:
    """The options of wshost within those of twistd."""
    options = ServerOptions()
    options.parseOptions(list(given))
    ours: Options = options.subOptions
    return ours
