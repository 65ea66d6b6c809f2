"""Removes a Unix socket that a killed server has left, before another server listens there. Knows no reactor."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.internet.error import CannotListenError

#: How many seconds a server waits for another server that starts in the same directory, and the interval of its checks.
_LOCK_TIMEOUT, _STEP = 1.0, 0.02


@contextmanager
def replacing_stale_socket(name: bytes | str) -> Iterator[None]:
    """Remove a socket on which nobody listens, and Twisted's lock file beside it; then the block may listen there.

    Only sockets are removed. Connecting to the socket tells whether a server listens; the process id in a lock file
    does not, as another process may have it by now. If several servers start at once, one gets the path.

    :param name: the path. An abstract name, which begins with a zero byte, leaves no file behind.
    :raises CannotListenError: when a server listens there.
    """
    path = Path(os.fsdecode(name))
    if os.fsencode(name).startswith(b"\0"):
        yield
        return
    directory = _lock(path.parent)
    try:
        if _is_stale(path):
            path.unlink(missing_ok=True)
            lock = path.with_name(f"{path.name}.lock")
            # Twisted's lock is a symbolic link whose target is a process id.
            if lock.is_symlink() and str(lock.readlink()).isdigit():
                lock.unlink()
        yield
    finally:
        if directory is not None:
            os.close(directory)


def _lock(directory: Path) -> int | None:
    """Lock a directory against other servers that start; return its descriptor, None when it can't be locked.

    The lock is needed as another server's socket looks stale while it is bound, but not listening yet.
    """
    import fcntl  # noqa: PLC0415 - Windows has neither this nor Unix sockets

    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return None
    end = time.monotonic() + _LOCK_TIMEOUT
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


def _is_stale(path: Path) -> bool:
    """Say whether this path is a socket without a server, or does not exist.

    :raises CannotListenError: when a server listens there.
    """
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
            # A server listens, and its backlog is full.
            pass
        except OSError:
            # Connecting is not permitted, or this is another kind of socket. Binding will fail, and say why.
            return False
    raise CannotListenError(None, os.fsencode(path), "a server listens there already")
