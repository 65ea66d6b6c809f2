"""What may stand in a log: text of a bounded length, without control characters. Imports nothing of ours."""

from __future__ import annotations

#: Characters of a traceback that are kept, of its begin and its end: a peer may have made the message endless.
LENGTH = 8_192

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in {0x09, 0x0A}}
# What ends a line for some, and what no encoding has.
_ESCAPES |= {code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0xD800, 0xE000))}


def shortened(text: str) -> str:
    """Return the text, without its middle if it is too long."""
    half = LENGTH // 2
    return text if len(text) <= LENGTH else f"{text[:half]}\n…\n{text[-half:]}"


def escaped(text: str) -> str:
    """Return the text with its control characters escaped: peers' words may be in it (CWE-117).

    Tabs and newlines stay; what comes behind a newline, Twisted's log files indent.
    """
    return text.translate(_ESCAPES)
