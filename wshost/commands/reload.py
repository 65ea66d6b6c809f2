"""`wshost --reload`: runs the command again when a file has changed. For development; connections are closed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from wshost.commands.options import Options
from wshost.results import ConfigurationError
from wshost.settings.options import Settings


def run(parsed: Options, arguments: Sequence[str]) -> int:
    """Run the command in a process of its own, and again after each change, until SIGINT or SIGTERM.

    If the command can't start, it says so, and is run again after the next change.

    :param arguments: those of this command.
    :returns: the exit status.
    :raises ConfigurationError: when the package that watches files is not installed, or the options are wrong.
    """
    try:
        from watchfiles import run_process  # noqa: PLC0415 - few have it
    except ImportError:
        raise ConfigurationError("--reload needs the package watchfiles: pip install 'wshost[reload]'") from None
    command = [sys.executable, "-m", "wshost", *(one for one in arguments if one != "--reload")]
    paths = list(watched(parsed.settings(), parsed.file))
    print(f"wshost: watching {', '.join(map(str, paths))}", file=sys.stderr)
    run_process(*paths, target=shlex.join(command), target_type="command")
    return 0


def watched(settings: Settings, file: str | None) -> Iterator[Path]:
    """Return the folders and files to watch: those of the handlers, with all that is below, and the configuration.

    :param file: the path of the configuration.
    """
    if file is not None:
        yield Path(file).absolute()
    handlers = {one for one in (settings.handler, *settings.route.values()) if isinstance(one, str)}
    yield from sorted({found for handler in handlers if (found := _folder(handler, file)) is not None})


def _folder(handler: str, file: str | None) -> Path | None:
    """Return the folder of a handler: of its file, or of the outermost package that has it. It is not imported."""
    name = handler.partition(":")[0]
    if name.endswith(".py"):
        return Path(name).absolute().parent
    top = name.partition(".")[0]
    folders = [Path.cwd(), *([] if file is None else [Path(file).absolute().parent])]
    for folder in folders:
        if (folder / top).is_dir():
            return folder / top
        if (folder / f"{top}.py").is_file():
            return folder
    spec = find_spec(top)
    return None if spec is None or not spec.origin else Path(spec.origin).parent
