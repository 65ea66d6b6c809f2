from __future__ import annotations

import pytest

from wshost.process.log_text import LENGTH, escaped, shortened


class TestEscapes:
    """CWE-117: what a peer says may be in an exception's text."""

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
    def test_control_characters(self, text: str, safe: str) -> None:
        assert escaped(text) == safe

    def test_what_is_left_is_a_line_for_every_reader(self) -> None:
        text = escaped("".join(map(chr, range(0x11_0000))))
        assert len(text.splitlines()) == 2
        text.encode()


class TestLength:
    def test_of_a_short_text_is_kept(self) -> None:
        assert shortened("a" * LENGTH) == "a" * LENGTH

    def test_of_a_long_one_the_middle_is_left_out(self) -> None:
        text = shortened("a" * LENGTH + "b" * LENGTH)
        assert text == "a" * (LENGTH // 2) + "\n…\n" + "b" * (LENGTH // 2)
