"""How many files the process may have open, each connection being one. Knows no connection."""

from __future__ import annotations

#: What a server has open beside its connections: sockets that listen, logs, the event loop's own, and the handler's.
OTHERS = 50


def raise_limit() -> int | None:
    """Let the process have as many files open as its hard limit says; return how many, None for no limit.

    Systems give programs few, for the sake of those that use `select`, and let them ask for more.
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
            # macOS has one more limit, and does not tell it.
            pass
        else:
            soft = hard
    return None if soft == resource.RLIM_INFINITY else soft


def shortage(limit: int | None, connections: int) -> str | None:
    """Say in one line that so many connections don't fit; None when they do.

    :param limit: what `raise_limit` has returned.
    :param connections: how many there may be at one time.
    """
    if limit is None or limit >= connections + OTHERS:
        return None
    return (
        f"max-connections is {connections}, and this process may have {limit} files open: that is enough for about "
        f"{max(limit - OTHERS, 0)} connections, others will be closed unheard. Raise the hard limit on open files to "
        f"{connections + OTHERS} (ulimit -Hn, LimitNOFILE= of systemd), or lower max-connections"
    )
