"""How many files the process may have open. Each connection is one, but this knows no connections."""

from __future__ import annotations

#: Files that a server has open beside its connections: listening sockets, logs, the event loop's, the handler's.
OTHERS = 50


def raise_limit() -> int | None:
    """Raise the limit on open files to the hard limit, and return it; None when there is no limit.

    Systems set a low limit for the sake of programs that use `select`, and let others raise it.
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
            # macOS has another limit, which can't be asked for.
            pass
        else:
            soft = hard
    return None if soft == resource.RLIM_INFINITY else soft


def shortage(limit: int | None, connections: int) -> str | None:
    """Return one line that says that so many connections don't fit; None when they do.

    :param limit: what `raise_limit` has returned.
    :param connections: how many may be open at a time.
    """
    if limit is None or limit >= connections + OTHERS:
        return None
    return (
        f"max-connections is {connections}, and this process may have {limit} files open: that is enough for about "
        f"{max(limit - OTHERS, 0)} connections, others will be closed at once. Raise the hard limit on open files to "
        f"{connections + OTHERS} (ulimit -Hn, LimitNOFILE= of systemd), or lower max-connections"
    )
