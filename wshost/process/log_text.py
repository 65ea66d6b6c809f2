"""Makes a text fit for a log: limits its length, escapes control characters. Imports no other module of wshost."""

from __future__ import annotations

from functools import cache

#: How many characters of a text are kept, half from its start and half from its end: a peer may make texts very long.
LENGTH = 8_192


@cache
def _escapes() -> dict[int, str]:
    controls = (code for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in {0x09, 0x0A})
    # Characters that some programs take for the end of a line; and surrogates, which can't be encoded.
    others = (0x2028, 0x2029, *range(0xD800, 0xE000))
    return {code: f"\\x{code:02x}" for code in controls} | {code: f"\\u{code:04x}" for code in others}


def loggable(text: str) -> str:
    """Return a text with its control characters escaped (CWE-117), and without its middle if it is too long.

    Tabs and newlines stay, as Twisted's log files indent the lines of a text.
    """
    half = LENGTH // 2
    if len(text) > LENGTH:
        text = f"{text[:half]}\n…\n{text[-half:]}"
    return text.translate(_escapes())
