from __future__ import annotations

import re
import sys
import tracemalloc
from collections.abc import Callable
from itertools import count
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rooms import matches
from wshost.messages import MAX_TOPIC
from wshost.topics.patterns import MAX_MATCHES, MAX_TOPICS, Patterns, check_published, is_pattern

#: Few tokens, so that many topics match; the empty one, those that only look like wildcards, and wildcards.
TOKENS = ("", "a", "b", "a*", ">b", "**")
TOPIC = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=5).map(".".join)
PATTERN = st.tuples(
    st.lists(st.sampled_from((*TOKENS, "*", "*")), max_size=4), st.sampled_from((*TOKENS, "*", ">"))
).map(lambda parts: ".".join((*parts[0], parts[1])))


@pytest.mark.parametrize("topic", ["*", ">", "rooms.*", "rooms.>", "*.7", ".*", "*.", "..>", "*.>", "a.*.b"])
def test_a_topic_with_a_wildcard_as_a_token_is_a_pattern(topic: str) -> None:
    assert is_pattern(topic)
    with pytest.raises(
        ValueError, match=f"^a message is published to a topic, not to a pattern: {re.escape(repr(topic))}$"
    ):
        check_published(topic)


@pytest.mark.parametrize(
    "topic", ["a", "rooms.7", "a..b", ".", "**", ">>", "a*", "*a", "rooms.a>", "rooms.7 > 6", "2 * 3"]
)
def test_other_topics_are_no_patterns_and_may_be_published_to(topic: str) -> None:
    assert not is_pattern(topic)
    assert check_published(topic) == topic


@pytest.mark.parametrize(("topic", "error"), [(b"a", TypeError), ("", ValueError), ("x" * (MAX_TOPIC + 1), ValueError)])
def test_what_is_published_to_must_be_a_topic(topic: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^a topic "):
        check_published(topic)


class TestMatching:
    @pytest.mark.parametrize(
        ("pattern", "yes", "no"),
        [
            ("rooms.*", ["rooms.7", "rooms.", "rooms.ä b"], ["rooms", "rooms.7.8", "room.7", "rooms..", "a.rooms.7"]),
            ("rooms.>", ["rooms.7", "rooms.", "rooms.7.8", "rooms.."], ["rooms", "room.7", "a.rooms.7"]),
            ("*.7", ["rooms.7", ".7"], ["7", "rooms.8", "a.rooms.7"]),
            ("*", ["rooms", "7"], ["rooms.7", "."]),
            (">", ["rooms", "rooms.7", "."], []),
            ("a.*.b", ["a.x.b", "a..b"], ["a.b", "a.x.y.b"]),
            ("*.>", ["a.b", ".", "a.b.c"], ["a"]),
            ("a*.*", ["a*.b"], ["ab.b"]),
        ],
    )
    def test_a_wildcard_stands_for_one_token_or_for_all_the_rest(
        self, pattern: str, yes: list[str], no: list[str]
    ) -> None:
        patterns: Patterns[str] = Patterns()
        patterns.put(pattern, "value")
        assert [topic for topic in yes + no if patterns.matching(topic) == ("value",)] == yes
        assert [topic for topic in yes + no if patterns.matching(topic) == ()] == no

    @given(st.lists(st.tuples(PATTERN, st.booleans()), max_size=20), st.lists(TOPIC, min_size=1, max_size=10))
    @settings(max_examples=400, deadline=None, derandomize=True)
    def test_the_patterns_found_are_those_of_the_model(
        self, changes: list[tuple[str, bool]], topics: list[str]
    ) -> None:
        """After each change; each topic is looked for twice, as results are kept."""
        patterns: Patterns[str] = Patterns()
        there: set[str] = set()
        for pattern, put in changes:
            if put:
                patterns.put(pattern, f"value of {pattern}")
                there.add(pattern)
            elif pattern in there:
                patterns.remove(pattern)
                there.discard(pattern)
            for topic in topics * 2:
                expected = sorted(f"value of {one}" for one in there if matches(one, topic))
                assert sorted(patterns.matching(topic)) == expected
        assert patterns.values == {pattern: f"value of {pattern}" for pattern in there}

    def test_wildcards_in_a_published_topic_are_plain_tokens(self) -> None:
        """No topic has them, but an exchange of others may bring anything."""
        patterns: Patterns[str] = Patterns()
        for pattern in ("a.*", "a.>", "a.b"):
            patterns.put(pattern, pattern)
        for topic in ("a.*", "a.>"):
            assert sorted(patterns.matching(topic)) == ["a.*", "a.>"]

    def test_a_value_that_is_put_again_takes_the_place_of_the_first(self) -> None:
        patterns: Patterns[int] = Patterns()
        for value in (1, 2):
            patterns.put("a.*", value)
            assert patterns.matching("a.b") == (value,)
        patterns.remove("a.*")
        assert patterns.matching("a.b") == ()

    def test_many_patterns_may_match_one_topic(self) -> None:
        patterns: Patterns[int] = Patterns()
        for number in range(2 * MAX_MATCHES):
            patterns.put(".".join("*" if number >> bit & 1 else "a" for bit in range(8)), number)
        for _ in range(2):
            assert sorted(patterns.matching(".".join("a" * 8))) == list(range(2 * MAX_MATCHES))

    def test_the_longest_pattern_may_have_one_wildcard_after_the_other(self) -> None:
        patterns: Patterns[str] = Patterns()
        longest = ".".join("*" * 128)
        patterns.put(longest, "value")
        assert patterns.matching("." * 127) == patterns.matching("a" + ".b" * 127) == ("value",)
        assert patterns.matching("." * 126) == ()


class TestMemory:
    def test_nothing_is_kept_of_removed_patterns(self) -> None:
        patterns: Patterns[str] = Patterns()
        patterns.put("rooms.>", "stays")
        tracemalloc.start()
        for number in range(5_000):
            names = [f"rooms.{number}.*", f"rooms.{number}.>", f"*.{number}.a.b.c.*", f"*.{number}.a"]
            for name in names:
                patterns.put(name, "value")
            for name in names:
                patterns.remove(name)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 10_000
        assert patterns.values == {"rooms.>": "stays"}

    def test_results_are_kept_for_few_topics(self) -> None:
        patterns: Patterns[str] = Patterns()
        patterns.put("rooms.*", "value")
        tracemalloc.start()
        for number in range(20 * MAX_TOPICS):
            assert patterns.matching(f"rooms.{number}") == ("value",)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 400 * MAX_TOPICS


def at_line(number: int, of: Callable[[], Any], call: Callable[[], Any]) -> bool:
    """Run `of`, and `call` before its nth line, as another thread might; return whether there is such a line."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == number:
                sys.settrace(None)
                call()
                sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        of()
    finally:
        sys.settrace(before)
    return lines >= number


class TestThreads:
    @pytest.mark.parametrize("changing", [True, False], ids=["a change in a search", "a search in a change"])
    @pytest.mark.parametrize("put", [True, False], ids=["put", "remove"])
    def test_patterns_may_change_and_be_looked_for_at_the_same_time(self, changing: bool, put: bool) -> None:
        """What is found at that time may be old or new. What is found later is new."""

        def look() -> None:
            assert set(patterns.matching("a.b")) in ({"first"}, {"first", "second"})

        def change() -> None:
            if put:
                patterns.put("*.b", "second")
            else:
                patterns.remove("*.b")

        for number in count(1):
            patterns: Patterns[str] = Patterns()
            patterns.put("a.*", "first")
            if not put:
                patterns.put("*.b", "second")
            if not (at_line(number, look, change) if changing else at_line(number, change, look)):
                break
            assert sorted(patterns.matching("a.b")) == (["first", "second"] if put else ["first"])
        assert number > 5
