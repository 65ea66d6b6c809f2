"""`wshost --reload`: runs the command again when a file has changed. For development; connections are closed."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from wshost.commands.options import Options
from wshost.results import ConfigurationError
from wshost.settings.options import Settings

#: The ends of names of files that programs write while they run.
_WRITTEN = (".log", ".pid", ".sock", ".db", ".sqlite", ".sqlite3", "-journal", "-wal", "-shm")


def run(parsed: Options, arguments: Sequence[str]) -> int:
    """Run the command in a process of its own, and again after each change, until SIGINT, SIGTERM or SIGHUP.

    If the command can't start, it says so, and is run again after the next change.

    :param arguments: those of this command.
    :returns: the exit status.
    :raises ConfigurationError: when the package that watches files is not installed, or the options are wrong.
    """
    try:
        from watchfiles import DefaultFilter, run_process  # noqa: PLC0415 - few have it
    except ImportError:
        raise ConfigurationError("--reload needs the package watchfiles: pip install 'wshost[reload]'") from None
    logging.getLogger("watchfiles").setLevel(logging.CRITICAL)
    # `run_process` handles KeyboardInterrupt and SIGTERM.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    settings = parsed.settings()
    folders = list(folders_of(settings, parsed.file))
    file = None if parsed.file is None else Path(parsed.file).absolute()
    usual, counts = DefaultFilter(), Sources(folders, file, settings.log_file)
    command = shlex.join([sys.executable, "-m", "wshost", *(one for one in arguments if one != "--reload")])
    print(f"wshost: watching {', '.join(map(str, [*folders, *([file] if file else [])]))}", file=sys.stderr)
    run_process(
        # Not the configuration itself: editors replace it by another file.
        *{*folders, *([file.parent] if file else [])},
        target=command,
        target_type="command",
        watch_filter=lambda change, path: usual(change, path) and counts(path),
        sigint_timeout=int(settings.drain_timeout) + 3,
    )
    return 0


class Sources:
    """Tells files whose changes count from those that the server itself writes.

    :param folders: those of the handlers.
    :param file: the configuration.
    :param log: the path of the log.
    """

    def __init__(self, folders: Sequence[Path], file: Path | None, log: str | None) -> None:
        self._folders = folders
        self._file = file
        self._log = None if log is None else Path(log).absolute()
        streams = [os.fstat(stream) for stream in (1, 2)]
        self._streams = [(one.st_dev, one.st_ino) for one in streams]

    def __call__(self, name: str) -> bool:
        path = Path(name)
        if path == self._file:
            return True
        # The folder of the configuration is watched, too, for that file alone.
        if path == self._log or name.endswith(_WRITTEN) or not any(map(path.is_relative_to, self._folders)):
            return False
        with suppress(OSError):
            found = path.stat()
            return (found.st_dev, found.st_ino) not in self._streams
        return True


def folders_of(settings: Settings, file: str | None) -> Iterator[Path]:
    """Return the folders to watch, with all that is below: those of the handlers; the current one if there are none.

    :param file: the path of the configuration.
    """
    handlers = {one for one in (settings.handler, *settings.route.values()) if isinstance(one, str)}
    yield from sorted({found for one in handlers if (found := _folder(one, file)) is not None}) or [Path.cwd()]


def _folder(handler: str, file: str | None) -> Path | None:
    """Return the folder of a handler: of its file, or of the outermost package that has it. It is not imported."""
    name = handler.partition(":")[0]
    if name.endswith(".py"):
        return Path(name).absolute().parent
    top = name.partition(".")[0]
    for folder in (Path.cwd(), *([] if file is None else [Path(file).absolute().parent])):
        if (folder / top).is_dir():
            return folder / top
        if (folder / f"{top}.py").is_file():
            return folder
    spec = find_spec(top)
    return None if spec is None or not spec.origin else Path(spec.origin).parent
