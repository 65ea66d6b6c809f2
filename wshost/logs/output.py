"""Writes the lines of the log to a file or a stream. Whatever the disk does, it costs lines only. Knows no format."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import RLock


class Output:
    """Where the lines go.

    :param path: a file, which is appended to; None: a stream.
    :param stream: the descriptor of the stream.
    :param lost: makes the line that says how many lines could not be written, and why.
    :raises OSError: when the file can't be opened.
    """

    def __init__(self, path: Path | None, lost: Callable[[int, str], str], stream: int = 2) -> None:
        #: The file, as an absolute path.
        self.path = None if path is None else path.absolute()
        self._lost_line = lost
        self._descriptor = stream if self.path is None else _opened(self.path)
        # Reentrant, as a signal's handler may log within `write`.
        self._lock = RLock()
        # How many lines were lost since the last one that was written; and why the last of them was.
        self._lost = 0
        self._why = ""
        # Only a part of the last line was written.
        self._torn = False

    def write(self, line: str) -> None:
        """Write a line, and a newline. If that fails, the line is lost, and counted; nothing is raised."""
        with self._lock:
            if self._lost and self._write(self._lost_line(self._lost, self._why)):
                self._lost = 0
            if self._lost or not self._write(line):
                self._lost += 1

    def _write(self, line: str) -> bool:
        data = f"\n{line}\n" if self._torn else f"{line}\n"
        left = memoryview(data.encode("utf-8", "backslashreplace"))
        size = len(left)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            self._why = os.strerror(error.errno or 0)
            self._torn = self._torn or len(left) < size
            return False
        self._torn = False
        return True

    def give(self, uid: int, gid: int) -> None:
        """Give the file to another user and group, as which the process will open it again; -1: it stays as it is.

        :raises OSError: when that is not permitted.
        """
        if self.path is not None:
            os.fchown(self._descriptor, uid, gid)

    def reopen(self) -> None:
        """Open the file of this path, which may be another one by now: logrotate has moved the old one.

        :raises OSError: when it can't be opened. Then the old one stays.
        """
        if self.path is not None:
            opened = _opened(self.path)
            with self._lock:
                os.close(self._descriptor)
                self._descriptor, self._torn = opened, False


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
