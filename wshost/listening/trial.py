"""Tries whether endpoints can be listened on, before a server is started. Knows no server, and serves nobody."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocolFactory

from wshost.listening.listener import Listener
from wshost.results import ConfigurationError

#: Interfaces that stand for all.
_ALL = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - nothing is bound to them


def try_all(endpoints: Iterable[tuple[Listener, IProtocolFactory]]) -> list[ConfigurationError]:
    """Try to listen on all endpoints. Unix sockets are not made; all others listen until their listeners are stopped.

    :param endpoints: the listeners, with their factories.
    :returns: why some of them can't be listened on now: another server listens there.
    :raises ConfigurationError: for the first that can't be listened on, whatever other servers do.
    """
    taken = []
    ours: list[Listener] = []
    for listener, factory in endpoints:
        try:
            if listener.path is None:
                listener.listen(factory)
            elif any(_same(listener.path, other.path) for other in ours):
                raise ConfigurationError(f"can't listen on {listener.description}: another endpoint is there, too")
            elif is_served(listener.path):
                taken.append(_error(listener, "a server listens there already"))
        except OSError as error:
            raise _error(listener, error.strerror or error) from error
        except ConfigurationError as error:
            if not _is_in_use(error.__cause__) or any(_overlap(error.__cause__, other) for other in ours):
                raise
            taken.append(error)
        ours.append(listener)
    return taken


def is_served(name: str) -> bool:
    """Return whether a server listens on a Unix socket.

    :param name: the socket's path; or an abstract name, which begins with a zero byte.
    :raises OSError: when nobody does, and no server could.
    """
    path = Path(name)
    abstract = name.startswith("\0")
    if not abstract and os.path.lexists(path) and not stat.S_ISSOCK(path.lstat().st_mode):
        raise FileExistsError(errno.EEXIST, "what is there is no socket")
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        try:
            client.connect(name)
        except BlockingIOError:
            # Its backlog is full.
            return True
        except (ConnectionRefusedError, FileNotFoundError):
            # Nobody listens. A socket that a killed server has left is replaced.
            pass
        else:
            return True
    folder = path.absolute().parent
    if not abstract and not (folder.is_dir() and os.access(folder, os.W_OK)):
        number = errno.EACCES if folder.is_dir() else errno.ENOENT
        raise OSError(number, os.strerror(number))
    return False


def _error(listener: Listener, reason: object) -> ConfigurationError:
    return ConfigurationError(f"can't listen on {listener.description}: {reason}")


def _is_in_use(cause: Any) -> bool:
    return isinstance(cause, CannotListenError) and getattr(cause.socketError, "errno", None) == errno.EADDRINUSE


def _same(path: str, other: str | None) -> bool:
    return other is not None and Path(path).absolute() == Path(other).absolute()


def _overlap(cause: Any, other: Listener) -> bool:
    """Return whether it is this other listener that has the TCP port."""
    host: Any = other.host
    if getattr(host, "port", None) != cause.port:
        return False
    return host.host == cause.interface or not _ALL.isdisjoint({host.host, cause.interface})
