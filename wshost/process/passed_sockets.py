"""The sockets that systemd, or who else started the process so, has passed: sd_listen_fds(3). Listens on none."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass
from stat import S_ISSOCK

#: The first passed socket's descriptor: SD_LISTEN_FDS_START.
FIRST = 3
#: The name of a socket to which systemd has given none, as in sd_listen_fds_with_names(3).
UNNAMED = "unknown"


@dataclass(frozen=True)
class PassedSocket:
    """A descriptor as it was passed: maybe no socket that can be listened on."""

    descriptor: int
    #: `FileDescriptorName=` of systemd's unit, by default the unit's own name.
    name: str
    #: The address family without ``AF_``: ``INET``; None when this is no socket.
    domain: str | None
    #: Device and inode: they tell whether the descriptor is still the same.
    identity: tuple[int, int]

    @classmethod
    def of(cls, descriptor: int, name: str) -> PassedSocket:
        """Return what a descriptor is. :raises OSError: when it is none."""
        identity = _identity(descriptor)
        return cls(descriptor, name, _domain(descriptor), identity)

    @property
    def index(self) -> int:
        """The socket's place among the passed ones, from 0."""
        return self.descriptor - FIRST

    @property
    def is_used(self) -> bool:
        """Whether the descriptor was taken over: who listens on it closes it."""
        try:
            return _identity(self.descriptor) != self.identity
        except OSError:
            return True

    def __str__(self) -> str:
        return f"{self.descriptor} ({self.name})"


@dataclass(frozen=True)
class PassedSockets:
    """What was passed to this process."""

    sockets: tuple[PassedSocket, ...] = ()
    #: One line that says what is wrong with systemd's variables; None if nothing is.
    error: str | None = None


def take(environ: MutableMapping[str, str]) -> PassedSockets:
    """Return the sockets that were passed to this process. Programs that it starts do not inherit them.

    Twisted reads the variables, too, once, when it imports its endpoints, for those that begin with ``systemd:``. It
    knows no socket if the sockets have no names. So call this before, and all have names.

    :param environ: has LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, or not. If they are wrong, they are removed.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return PassedSockets()
    try:
        passed = PassedSockets(tuple(_sockets(environ.get("LISTEN_FDS", ""), environ.get("LISTEN_FDNAMES", ""))))
    except ValueError as error:
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            environ.pop(name, None)
        return PassedSockets(error=str(error))
    environ["LISTEN_FDNAMES"] = ":".join(one.name for one in passed.sockets)
    return passed


def _sockets(count: str, names: str) -> list[PassedSocket]:
    """Return the passed sockets.

    :param count: LISTEN_FDS.
    :param names: LISTEN_FDNAMES; empty if there are none.
    :raises ValueError: when these are wrong.
    """
    if not (count.isascii() and count.isdecimal() and len(count) < 10):
        raise ValueError(f"LISTEN_FDS: {count!r} is no number of sockets")
    given = names.split(":") if names else None
    if given is not None and len(given) != int(count):
        raise ValueError(f"LISTEN_FDNAMES has {len(given)} names, but LISTEN_FDS is {count}")
    found = []
    for descriptor in range(FIRST, FIRST + int(count)):
        name = UNNAMED if given is None else given[descriptor - FIRST]
        try:
            found.append(PassedSocket.of(descriptor, name))
        except OSError as error:
            raise ValueError(f"LISTEN_FDS={count}: descriptor {descriptor}: {error.strerror}") from error
        os.set_inheritable(descriptor, False)
    return found


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _domain(descriptor: int) -> str | None:
    if not S_ISSOCK(os.fstat(descriptor).st_mode):
        return None
    found = socket.socket(fileno=descriptor)
    family = found.family
    found.detach()
    return getattr(family, "name", str(family)).removeprefix("AF_")


#: What was passed to this process.
PASSED = take(os.environ)
