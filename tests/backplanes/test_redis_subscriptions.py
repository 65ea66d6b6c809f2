from __future__ import annotations

import pytest

from wshost.backplanes.redis_subscriptions import BATCH, KNOWN, Subscriptions
from wshost.backplanes.resp import command, message_head


def subscribed(*subjects: str) -> Subscriptions:
    subscriptions = Subscriptions()
    for subject in subjects:
        subscriptions.add(subject)
    return subscriptions


def subject_of(subscriptions: Subscriptions, head: bytes) -> str | None:
    """The subject that a parser would find."""
    return subscriptions.subjects[head] if head in subscriptions.subjects else subscriptions.resolve(head)


class TestCommands:
    def test_a_subject_is_a_channel(self) -> None:
        subscriptions = Subscriptions()
        assert subscriptions.add("a.b") == command("SUBSCRIBE", "a.b")
        assert subscriptions.remove("a.b") == command("UNSUBSCRIBE", "a.b")

    @pytest.mark.parametrize(("pattern", "glob"), [("a.*", "a.*"), ("a.>", "a.*"), ("*.b", "*.b"), (">", "*")])
    def test_a_pattern_becomes_one_of_redis(self, pattern: str, glob: str) -> None:
        subscriptions = Subscriptions()
        assert subscriptions.add(pattern) == command("PSUBSCRIBE", glob)
        assert subscriptions.remove(pattern) == command("PUNSUBSCRIBE", glob)

    def test_patterns_that_are_one_for_redis_are_subscribed_to_once(self) -> None:
        subscriptions = subscribed("a.*")
        assert subscriptions.add("a.>") is None
        assert subscriptions.remove("a.*") is None
        assert subscriptions.remove("a.>") == command("PUNSUBSCRIBE", "a.*")

    def test_a_new_connection_gets_all_subscriptions_in_order(self) -> None:
        subscriptions = subscribed("b", "a", "c.>", "d", "b.*")
        subscriptions.remove("a")
        assert list(subscriptions.commands()) == [command("SUBSCRIBE", "b", "d"), command("PSUBSCRIBE", "c.*", "b.*")]

    def test_one_command_subscribes_to_so_many_channels_at_most(self) -> None:
        names = [f"a.{number}" for number in range(BATCH + 1)]
        assert list(subscribed(*names).commands()) == [
            command("SUBSCRIBE", *names[:BATCH]),
            command("SUBSCRIBE", names[BATCH]),
        ]


class TestHeads:
    def test_the_subject_of_a_channel_is_known_at_once(self) -> None:
        assert subscribed("a.b").subjects == {message_head("message", "a.b"): "a.b"}

    def test_what_comes_after_the_end_of_a_subscription_is_not_wanted(self) -> None:
        subscriptions = subscribed("a.b")
        subscriptions.remove("a.b")
        assert subject_of(subscriptions, message_head("message", "a.b")) == ""

    def test_what_comes_for_a_pattern_has_its_subject(self) -> None:
        subscriptions = subscribed("a.*")
        assert subject_of(subscriptions, message_head("pmessage", "a.*", "a.b")) == "a.b"

    def test_a_star_of_redis_that_stands_for_dots_is_found_out(self) -> None:
        subscriptions = subscribed("a.*")
        assert subject_of(subscriptions, message_head("pmessage", "a.*", "a.b.c")) == ""

    def test_a_subject_is_matched_once(self) -> None:
        subscriptions = subscribed("a.*")
        wanted, other = (message_head("pmessage", "a.*", channel) for channel in ("a.b", "a.b.c"))
        subscriptions.resolve(wanted)
        subscriptions.resolve(other)
        assert subscriptions.subjects == {wanted: "a.b", other: ""}

    def test_a_new_pattern_changes_what_is_wanted(self) -> None:
        subscriptions = subscribed("a.*")
        head = message_head("pmessage", "a.*", "a.b.c")
        assert subject_of(subscriptions, head) == ""
        subscriptions.add("a.>")
        assert subject_of(subscriptions, head) == "a.b.c"
        subscriptions.remove("a.>")
        assert subject_of(subscriptions, head) == ""
        subscriptions.remove("a.*")
        assert subject_of(subscriptions, head) == ""

    def test_what_is_known_has_a_limit(self) -> None:
        subscriptions = subscribed("a.*", "b")
        for number in range(KNOWN + 1):
            assert subscriptions.resolve(message_head("pmessage", "a.*", f"a.{number}")) == f"a.{number}"
        assert len(subscriptions.subjects) == 2
        assert subscriptions.subjects[message_head("message", "b")] == "b"

    @pytest.mark.parametrize("channel", ["a.b c", "a.", "a.ä", "a." + "b" * 1_024])
    def test_a_channel_that_is_no_subject_is_not_wanted(self, channel: str) -> None:
        assert subscribed("a.*").resolve(message_head("pmessage", "a.*", channel)) == ""

    def test_a_channel_of_any_bytes_is_not_wanted(self) -> None:
        assert subscribed("a.*").resolve(b"4\r\n$8\r\npmessage\r\n$3\r\na.*\r\n$3\r\na.\xff") == ""

    @pytest.mark.parametrize("sizes", [(3, 4), (4, 3)])
    def test_a_head_with_wrong_lengths_is_none(self, sizes: tuple[int, int]) -> None:
        """The channel has a newline, and the head ends within it."""
        head = b"4\r\n$8\r\npmessage\r\n$%d\r\na.*\r\n$%d\r\na.b" % sizes
        assert subscribed("a.*").resolve(head) is None
