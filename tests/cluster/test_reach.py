from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wshost.cluster.reach import publish_or_tell


class Silent:
    """A backplane that says nothing of who gets a payload."""

    largest = 10

    def __init__(self, takes: bool = True) -> None:
        self.takes = takes
        self.sent: list[tuple[str, bytes]] = []

    def publish(self, subject: str, payload: bytes) -> bool:
        self.sent.append((subject, payload))
        return self.takes


class Telling(Silent):
    """One that says so, when the test lets it."""

    nobody: Callable[[], object]

    def publish_or_tell(self, subject: str, payload: bytes, nobody: Callable[[], object]) -> bool:
        self.nobody = nobody
        return self.publish(subject, payload)


def publish(*ways: Any, payload: bytes = b"x") -> tuple[bool, list[str]]:
    """Publish on these ways; return whether one has taken it, and a list that has two words once nobody gets it."""
    told: list[str] = []
    return publish_or_tell(ways, "a", payload, [lambda: told.append("one"), lambda: told.append("two")]), told


def test_nobody_gets_a_payload_when_no_way_leads_to_anybody() -> None:
    one, other = Telling(), Telling()
    taken, told = publish(one, other)
    assert (taken, one.sent, other.sent) == (True, [("a", b"x")], [("a", b"x")])
    one.nobody()
    one.nobody()
    assert told == []
    other.nobody()
    assert told == ["one", "two"]
    other.nobody()
    assert told == ["one", "two"]


def test_a_way_that_says_nothing_may_lead_to_somebody() -> None:
    one, other = Telling(), Silent()
    taken, told = publish(one, other)
    one.nobody()
    assert (taken, told, other.sent) == (True, [], [("a", b"x")])


def test_a_way_that_takes_nothing_leads_to_nobody() -> None:
    one = Telling()
    taken, told = publish(Telling(False), one, Silent(False))
    assert (taken, told) == (True, [])
    one.nobody()
    assert told == ["one", "two"]


@pytest.mark.parametrize(("way", "payload"), [(Silent(False), b"x"), (Telling(False), b"x"), (Telling(), bytes(11))])
def test_what_no_way_takes_reaches_nobody(way: Any, payload: bytes) -> None:
    assert publish(way, payload=payload) == (False, ["one", "two"])
