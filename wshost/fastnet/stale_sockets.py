"""Makes way for a Unix socket where one was left behind by a server that was killed. Knows no reactor."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.internet.error import CannotListenError

#: So long a start waits for another one in the same directory, in seconds, and how often it looks.
_PATIENCE, _STEP = 1.0, 0.02


@contextmanager
def vacant(name: bytes | str) -> Iterator[None]:
    """Let the block listen on this path: what nobody listens on is removed before, the socket and Twisted's lock file.

    What is no socket is never removed. Whether somebody listens is found out by connecting: the id in a lock file may
    be that of another process by now. Of several servers that start at once, one gets it.

    :raises CannotListenError: when somebody listens there.
    """
    path = Path(os.fsdecode(name))
    if os.fsencode(name).startswith(b"\0"):
        # It is in no directory, and leaves nothing behind.
        yield
        return
    directory = _lock(path.parent)
    try:
        if _is_left(path):
            path.unlink(missing_ok=True)
            lock = path.with_name(f"{path.name}.lock")
            # Twisted's is a symbolic link that names a process.
            if lock.is_symlink() and str(lock.readlink()).isdigit():
                lock.unlink()
        yield
    finally:
        if directory is not None:
            os.close(directory)


def _lock(directory: Path) -> int | None:
    """Return a descriptor that keeps others from starting in this directory, None when that can't be had.

    Between the binding of a socket and the listening on it, it looks as if nobody did.
    """
    import fcntl  # noqa: PLC0415 - Windows has none, and no such sockets

    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return None
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= end:
                os.close(descriptor)
                return None
            time.sleep(_STEP)
        else:
            return descriptor


def _is_left(path: Path) -> bool:
    """Say whether nobody listens there. :raises CannotListenError: when somebody does."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return False
    except FileNotFoundError:
        return True
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            # More wait there than it takes.
            pass
        except OSError:
            # It may not be asked, or is of another kind: to bind it will fail, and say why.
            return False
    raise CannotListenError(None, os.fsencode(path), "a server listens there already")
