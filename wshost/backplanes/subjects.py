"""Matches subjects with the patterns of subscriptions, as `IBackplane` defines them. Knows no broker."""

from __future__ import annotations

import re

#: The most characters of a subject.
LONGEST = 1_024

_SUBJECT = re.compile(r"[A-Za-z0-9\-_=~%]+(?:\.[A-Za-z0-9\-_=~%]+)*+")


def is_subject(text: str) -> bool:
    """Whether something can have been published with this subject."""
    return len(text) <= LONGEST and _SUBJECT.fullmatch(text) is not None


def is_pattern(subject: str) -> bool:
    """Whether a subscription to this subject is for many subjects."""
    return "*" in subject or ">" in subject


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject is one of those that a pattern stands for."""
    expected, tokens = pattern.split("."), subject.split(".")
    if expected[-1] == ">":
        del expected[-1]
        if len(tokens) <= len(expected):
            return False
    elif len(tokens) != len(expected):
        return False
    return all(one in ("*", token) for one, token in zip(expected, tokens, strict=False))
