from __future__ import annotations

import pytest

from wshost.logs.text import LENGTH, loggable


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\rb", r"a\x0db"),
        ("\x00\x07\x08\x0b\x0c\x7f", r"\x00\x07\x08\x0b\x0c\x7f"),
        ("\x80\x85\x9b\x9f", r"\x80\x85\x9b\x9f"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\ud800\udfff", r"\ud800\udfff"),
        ("a\tb\nc", "a\tb\nc"),
        ("schön 😀 \xa0", "schön 😀 \xa0"),
    ],
)
def test_control_characters_are_escaped(text: str, safe: str) -> None:
    """CWE-117: what a peer says may be in an exception's text."""
    assert loggable(text) == safe


def test_only_a_newline_ends_a_line_for_any_reader() -> None:
    characters = "".join(map(chr, range(0x11_0000)))
    lines = []
    for start in range(0, len(characters), LENGTH):
        text = loggable(characters[start : start + LENGTH])
        text.encode()
        lines.extend(f"{text}.".splitlines()[1:])
    assert len(lines) == 1


def test_a_short_text_is_kept_whole() -> None:
    assert loggable("a" * LENGTH) == "a" * LENGTH


def test_a_long_text_loses_its_middle() -> None:
    text = loggable("a" * LENGTH + "b" * LENGTH)
    assert text == "a" * (LENGTH // 2) + "\n…\n" + "b" * (LENGTH // 2)
