"""Reads options from the environment: `WSHOST_PORT` is `port`. Knows no option by name.

An option that takes several values has them in one variable, separated by spaces; quotes keep spaces within a value.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from wshost.results import ConfigurationError
from wshost.settings.options import OPTIONS, Option

PREFIX = "WSHOST_"
#: Names the file.
CONFIG = "WSHOST_CONFIG"

_TRUTH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def variable(option: Option[Any]) -> str:
    """Return the name of an option's variable."""
    return f"{PREFIX}{option.name.upper()}"


def read(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the checked options of the environment, by their names in `wshost.settings.options.Settings`.

    An empty variable counts as not set. Other variables with the prefix are left alone: some mean something else, and
    Kubernetes sets many for a service of this name.

    :raises ConfigurationError: ``WSHOST_PORT: …``.
    """
    given = {}
    for option in OPTIONS.values():
        text = environ.get(variable(option), "")
        if text:
            try:
                given[option.name] = _value(option, text)
            except ValueError as error:
                raise ConfigurationError(f"{variable(option)}: {error}") from None
    return given


def misspelt(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Return variables that look like options, but are none, each with the one that was meant."""
    known = [CONFIG, *(variable(option) for option in OPTIONS.values())]
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            yield from ((name, meant) for meant in get_close_matches(name, known, 1, 0.85))


def _value(option: Option[Any], text: str) -> Any:
    kind = option.kind
    if not kind.metavar:
        if text.lower() not in _TRUTH:
            raise ValueError(f"{text!r} is not true or false")
        return _TRUTH[text.lower()]
    if not kind.repeatable:
        return kind.add(None, text)
    # Without escapes: backslashes belong to the values, as in the descriptions of endpoints.
    words = shlex.shlex(text, posix=True, punctuation_chars="")
    words.whitespace_split, words.escape, words.commenters = True, "", ""
    value = None
    for word in words:
        value = kind.add(value, word)
    return value
