"""Matches the paths of requests with configured patterns. Must not know how the result is used."""

from __future__ import annotations

import re
from collections.abc import Iterable

from wshost.results import ConfigurationError

_PATH = re.compile(r'/[!"$-)+->@-~]*')  # visible ASCII without "#", "*" and "?"
#: Dot segments, backslashes and encoded slashes. A proxy or handler that decodes them would see another path.
_AMBIGUOUS = re.compile(r"/(?:\.|%2e){1,2}(?:/|$)|%2f|%5c|\\", re.IGNORECASE)


def is_path(text: str) -> bool:
    """Return whether this is a single path that all programs read alike."""
    return _PATH.fullmatch(text) is not None and not _AMBIGUOUS.search(text)


class Routes:
    """A set of path patterns; the most specific one that matches wins.

    ``/chat`` matches only this path. ``/chat/*`` matches ``/chat/`` and everything below, but not ``/chat``; ``/*``
    matches every path. An exact pattern wins over a prefix, a longer prefix over a shorter one.

    Paths are compared as received, case-sensitively and not decoded. A path with a segment ``.`` or ``..``, a
    backslash or an encoded slash matches nothing, not even ``/*``: clients resolve dot segments before they send
    (RFC 3986 §5.2.4), and if a proxy may read a path in another way, the path must not pass for an allowed one.

    :param patterns: at least one.
    :raises wshost.results.ConfigurationError: for a malformed pattern, one that comes twice, or one that can't match.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        if isinstance(patterns, str):
            raise ConfigurationError(f"paths are a list, not {patterns!r}")
        self._exact: set[str] = set()
        prefixes: set[str] = set()
        for pattern in patterns:
            if not isinstance(pattern, str) or not _PATH.fullmatch(pattern.removesuffix("*")):
                raise ConfigurationError(f"{pattern!r} is not a path pattern: write /chat, or /chat/* for all below")
            if pattern.endswith("*") and not pattern.endswith("/*"):
                raise ConfigurationError(
                    f"{pattern!r} is not a path pattern: * stands for whole segments, as in /chat/*"
                )
            if _AMBIGUOUS.search(pattern):
                raise ConfigurationError(
                    f"the path pattern {pattern!r} never matches: it has a dot segment, a backslash or an encoded slash"
                )
            if pattern in self._exact or pattern in prefixes:
                raise ConfigurationError(f"the path pattern {pattern!r} is given twice")
            (prefixes if pattern.endswith("*") else self._exact).add(pattern)
        if not self._exact and not prefixes:
            raise ConfigurationError("an empty list of path patterns matches nothing; leave it out to serve every path")
        self._prefixes = sorted(prefixes, key=len, reverse=True)

    def match(self, path: str) -> str | None:
        """Return the most specific pattern that matches a path, or None.

        :param path: `Request.path`: not decoded, without the query.
        """
        if _AMBIGUOUS.search(path):
            return None
        if path in self._exact:
            return path
        return next((pattern for pattern in self._prefixes if path.startswith(pattern[:-1])), None)
