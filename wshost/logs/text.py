"""Makes a text fit for a log: limits its length, escapes control characters. Imports no other module of wshost."""

from __future__ import annotations

import re

#: How many characters of a text are kept, half from its start and half from its end: a peer may make texts very long.
LENGTH = 8_192

#: Control characters but tab and newline; characters that some programs take for the end of a line; those that change
#: the direction of the text around them; and surrogates, which can't be encoded.
_UNSAFE = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


def _escape(character: re.Match[str]) -> str:
    code = ord(character[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


def escaped(text: str) -> str:
    """Return a text with its control characters escaped (CWE-117). Tabs and newlines stay."""
    return _UNSAFE.sub(_escape, text)


def loggable(text: str) -> str:
    """Return a text with its control characters escaped, and without its middle if it is too long."""
    half = LENGTH // 2
    if len(text) > LENGTH:
        text = f"{text[:half]}\n…\n{text[-half:]}"
    return escaped(text)
