"""Reads the options of the commands, from the command line, the environment and a file, and prints the help.

Knows no server.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar

from twisted.python import usage

from wshost import __version__, compiled
from wshost.commands import passed
from wshost.commands.one_line import one_line
from wshost.process import passed_sockets
from wshost.results import ConfigurationError
from wshost.settings import environment
from wshost.settings.options import GROUPS, OPTIONS, Option, Settings, settle

#: The help of `--config`.
CONFIG = "TOML file with more options, by the same names; options on the command line win. Handlers may lie beside it."

_NOTES = """\
Sizes are in bytes: 65536, 64KiB, 1MiB, 1GiB.
Each option may also be a variable: WSHOST_PORT=8080. A file wins over variables, the command line over both.
"""

_HANDLER = re.compile(r"(?P<path>.+\.py)(?P<attribute>:.*)?")


class Options(usage.Options):
    """The checked options of the command line, by their names in `wshost.settings.options.Settings`."""

    longdesc = "\nA WebSocket server that runs your handler."
    #: Lines at the end of the help.
    examples = ""
    #: More options, which are no settings of a server: their help, by name. A flag has a method `opt_…`.
    more: ClassVar[Mapping[str, str]] = {}

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
            arguments = sys.argv[1:] if options is None else options
            self._check_names(arguments)
            try:
                usage.Options.parseOptions(self, arguments)
            except usage.UsageError as error:
                raise ConfigurationError(f"{error}; see --help") from None
            if self.file is None:
                self.file = os.environ.get(environment.CONFIG) or None

    def parseArgs(self, *args: str) -> None:
        if args:
            raise usage.UsageError(f"unexpected argument {args[0]!r}")

    def _check_names(self, arguments: list[str]) -> None:
        """Refuse unknown options; also abbreviations, which Twisted would take: a new option might change them.

        :raises ConfigurationError: for the first one.
        """
        takes_value = {option.dashed: bool(option.kind.metavar) for option in OPTIONS.values()}
        takes_value |= {"config": True, "version": False, "help": False, **dict.fromkeys(self.more, False)}
        left = iter(arguments)
        for argument in left:
            if not argument.startswith("--"):
                continue
            name, equals, _ = argument[2:].partition("=")
            if name not in takes_value:
                close = get_close_matches(name, takes_value, 1)
                close = close or [known for known in takes_value if name and known.startswith(name)]
                hint = f"; did you mean --{close[0]}?" if close else "; see --help"
                raise ConfigurationError(f"unknown option --{name}{hint}")
            if takes_value[name] and not equals:
                next(left, None)

    def layers(self, environ: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
        """Return the checked options by where they come from; later ones win.

        :param environ: by default, that of the process.
        :raises ConfigurationError: when a variable or the file is wrong, or what systemd has passed.
        """
        layers = {"the environment": environment.read(os.environ if environ is None else environ)}
        if self.file is not None:
            from wshost.settings import file  # noqa: PLC0415 - few commands need it

            layers[self.file] = _beside(Path(self.file).parent, file.read(self.file))
        layers["the command line"] = dict(self)
        given = {name for layer in layers.values() for name in layer}
        return {**layers, "systemd": passed.options(passed_sockets.PASSED, given)}

    def settings(self) -> Settings:
        """Return the settings of the environment, the file and the command line together.

        :raises ConfigurationError: when a variable or the file is wrong, or some options contradict each other.
        """
        return settle(*self.layers().values())

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
            *(_entry(name, "", text, width) for name, text in self.more.items()),
            _entry("version", "", "Print the version, and exit.", width),
            _entry("help", "", "Print this, and exit.", width),
        ]
        return f"{self.longdesc}\n{''.join(lines)}\n{_NOTES}{self.examples}"


def _beside(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a file, with handlers that are files beside it by their absolute paths."""

    def found(handler: Any) -> Any:
        match = _HANDLER.fullmatch(handler) if isinstance(handler, str) else None
        if match is None or not (folder / match["path"]).is_file():
            return handler
        return f"{(folder / match['path']).absolute()}{match['attribute'] or ''}"

    routes = {path: found(handler) for path, handler in given.get("route", {}).items()}
    handlers = {"handler": found(given["handler"])} if "handler" in given else {}
    return {**given, **handlers, **({"route": routes} if routes else {})}


def _entry(name: str, metavar: str, text: str, width: int) -> str:
    """Return an option's help: its name, and its text on the same line, or on the next when the name is long."""
    column = 28
    head = f"  --{name}{'=' * bool(metavar)}{metavar}"
    lines = textwrap.wrap(text, max(width - column, 20), break_on_hyphens=False)
    if len(head) < column:
        head = f"{head:<{column}}{lines.pop(0)}"
    return "".join(f"{line}\n" for line in [head, *(f"{'':<{column}}{line}" for line in lines)])


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
