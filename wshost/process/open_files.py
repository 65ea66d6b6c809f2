"""Raises the limit on open files, and checks whether it is enough. Knows no connections, only their number."""

from __future__ import annotations

import os

#: Files that a server has open besides its connections: listening sockets, logs, files of the event loop and handler.
OTHERS = 50


def open_standard_streams() -> None:
    """Open those of the descriptors 0, 1 and 2 that are closed: a socket would get the number, and what is logged."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def raise_limit() -> int | None:
    """Raise the limit on open files to the hard limit, and return it; None when there is no limit.

    The soft limit is low for programs that use select(2). Other programs may raise it.
    """
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            # macOS has another, lower limit, which can't be queried.
            pass
        else:
            soft = hard
    return None if soft == resource.RLIM_INFINITY else soft


def shortage(limit: int | None, connections: int) -> str | None:
    """Return one line that warns that the limit is too low for so many connections; None when it is not.

    :param limit: the result of `raise_limit`.
    :param connections: how many may be open at a time.
    """
    if limit is None or limit >= connections + OTHERS:
        return None
    return (
        f"max-connections is {connections}, and this process may have {limit} files open: that is enough for about "
        f"{max(limit - OTHERS, 0)} connections, others will be closed at once. Raise the hard limit on open files to "
        f"{connections + OTHERS} (ulimit -Hn, LimitNOFILE= of systemd), or lower max-connections"
    )
