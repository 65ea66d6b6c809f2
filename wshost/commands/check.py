"""The command `wshost check`: says what would be wrong at the start, and what is in force. Serves nobody."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wshost import __version__, compiled
from wshost.commands import passed
from wshost.commands.options import Options
from wshost.listening import trial
from wshost.loading.importing import make_importable
from wshost.logs.text import escaped
from wshost.process import open_files, passed_sockets, reactors, takeover
from wshost.results import ConfigurationError
from wshost.server import Server, public
from wshost.settings import environment
from wshost.settings.options import OPTIONS, Option, Settings, settle


def check(parsed: Options) -> int:
    """Print every option's value and where it comes from, and check all that a start would.

    A port that is in use is no error: the server that is to be replaced may have it.

    :returns: 0: the server would start.
    :raises ConfigurationError: for the first thing that would prevent it.
    """
    layers = parsed.layers()
    settings = settle(*layers.values())
    reactors.choose(daemon=False)
    on = f"Python {sys.version.split()[0]}, {reactors.name(reactors.installed())}"
    print(f"wshost {__version__} ({compiled.form()}), {on}\n")
    for option in OPTIONS.values():
        print(f"{option.dashed:28} {_shown(option, settings):32} {_source(option, settings, layers)}")
    for name, meant in environment.misspelt(os.environ):
        _warn(f"{name} is no option; did you mean {meant}?")
    limit = open_files.raise_limit()
    _warn(open_files.shortage(limit, settings.max_connections))
    _check_log(settings.log_file)
    if parsed.file is not None:
        make_importable(Path(parsed.file).absolute().parent)
    if settings.takeover is not None:
        _check_takeover(Path(settings.takeover))
    if settings.workers > 1:
        from wshost.workers import ports, supervisor  # noqa: PLC0415 - few servers have workers

        supervisor.check()
        ports.check(reactors.installed(), public(settings))
    server = Server(settings)
    server.load()
    try:
        for taken in server.try_endpoints():
            _warn(f"{taken}: no error if that is the server to be replaced")
    finally:
        server.stopService()
    _warn(passed.unused(passed_sockets.PASSED))
    print("\nIt would start.")
    return 0


def _warn(line: str | None) -> None:
    if line is not None:
        print(f"wshost: warning: {line}", file=sys.stderr)


def _shown(option: Option[Any], settings: Settings) -> str:
    """Return an option's value, on one line. Nothing in it reaches the terminal but as text."""
    return escaped(_text(option, settings)).replace("\n", "\\n")


def _text(option: Option[Any], settings: Settings) -> str:
    value = getattr(settings, option.name)
    if value == option.default or value is None:
        return option.shown or "-"
    if option.kind.repeatable and isinstance(value, Mapping):
        # A handler's options may be secrets.
        secret = option.name == "handler_option"
        return " ".join(f"{key}=…" if secret else f"{key}={one}" for key, one in value.items())
    if option.kind.repeatable:
        return " ".join(_named(*one) if isinstance(one, tuple) else str(one) for one in value)
    return option.kind.show(value)


def _named(module: str, options: Mapping[str, Any]) -> str:
    return ",".join([module, *(f"{key}={value}" for key, value in options.items())])


def _source(option: Option[Any], settings: Settings, layers: Mapping[str, Mapping[str, Any]]) -> str:
    if option.name not in settings.given:
        return "default"
    source = [place for place, given in layers.items() if option.name in given][-1]
    return environment.variable(option) if source == "the environment" else source


def _check_takeover(path: Path) -> None:
    """Check that a successor can be waited for, without making a socket.

    :raises ConfigurationError: when it can't.
    """
    try:
        predecessor = takeover.find(path)
        if predecessor is not None:
            predecessor.close()
        elif path.exists() and not path.is_socket():
            raise FileExistsError(f"{path} is no socket")
        trial.is_served(str(takeover.unfinished(path)))
    except (OSError, takeover.TakeoverError) as error:
        raise ConfigurationError(f"takeover: {path}: {getattr(error, 'strerror', None) or error}") from error


def _check_log(name: str | None) -> None:
    """Check that the log can be written, without making it.

    :raises ConfigurationError: when it can't.
    """
    if name is None:
        return
    path = Path(name).absolute()
    if path.is_dir():
        raise ConfigurationError(f"log-file: {name}: {os.strerror(errno.EISDIR)}")
    if not path.parent.is_dir():
        raise ConfigurationError(f"log-file: {name}: {os.strerror(errno.ENOENT)}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigurationError(f"log-file: {name}: {os.strerror(errno.EACCES)}")
