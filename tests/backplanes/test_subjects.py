from __future__ import annotations

import pytest

from wshost.backplanes.subjects import LONGEST, is_pattern, is_subject, matches


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("*", "a", True),
        ("*", "a.b", False),
        ("a.>", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.>", "b.c", False),
        (">", "a", True),
        (">", "a.b", True),
        ("*.b.>", "a.b.c.d", True),
        ("*.b.>", "a.c.c", False),
    ],
)
def test_a_pattern_stands_for_a_subject_or_not(pattern: str, subject: str, expected: bool) -> None:
    assert matches(pattern, subject) is expected


@pytest.mark.parametrize(
    ("subject", "expected"), [("a.b", False), ("a-b_c=~%", False), ("a.*", True), (">", True), ("a.>", True)]
)
def test_a_subject_with_a_wildcard_is_a_pattern(subject: str, expected: bool) -> None:
    assert is_pattern(subject) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", True),
        ("a.b-_=~%9", True),
        ("a" * LONGEST, True),
        ("a" * (LONGEST + 1), False),
        ("", False),
        (".", False),
        ("a..b", False),
        ("a.", False),
        ("a.*", False),
        ("a b", False),
        ("a\n", False),
        ("ä", False),
    ],
)
def test_a_subject_has_tokens_of_some_characters(text: str, expected: bool) -> None:
    assert is_subject(text) is expected
