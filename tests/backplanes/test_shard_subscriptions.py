from __future__ import annotations

from typing import Any

import pytest

from tests.backplanes.surroundings import Notes
from wshost.backplanes import shard_subscriptions
from wshost.backplanes.resp import command, message_head
from wshost.backplanes.shard_subscriptions import ShardSubscriptions, Sorter
from wshost.backplanes.shards import PARTS, channel, marker, part_of


def head(name: str, part: int) -> bytes:
    return message_head("smessage", channel(part, name))


class TestSubjects:
    def test_a_subject_has_one_channel_in_its_part(self) -> None:
        subscriptions = ShardSubscriptions()
        part = part_of("a.b")
        assert subscriptions.add("a.b") == [(part, [channel(part, "a.b")])]
        assert subscriptions.subjects == {head("a.b", part): "a.b"}
        assert subscriptions.has(part, channel(part, "a.b"))
        assert subscriptions.remove("a.b") == [(part, [channel(part, "a.b")])]
        assert subscriptions.subjects == {}
        assert not subscriptions.has(part, channel(part, "a.b"))

    def test_all_of_a_part_is_subscribed_to_in_order_and_in_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shard_subscriptions, "BATCH", 2)
        subscriptions = ShardSubscriptions()
        part = part_of("a.b.c.d")
        names = [f"a.b.c.d.{number}" for number in (3, 1, 2)]
        for name in names:
            subscriptions.add(name)
        channels = [channel(part, name) for name in names]
        expected = [command("SSUBSCRIBE", *channels[:2]), command("SSUBSCRIBE", channels[2])]
        assert list(subscriptions.commands(part)) == expected
        assert list(subscriptions.commands((part + 1) % PARTS)) == []


class TestPatterns:
    def test_a_short_pattern_has_a_channel_and_a_marker_in_each_part(self) -> None:
        subscriptions = ShardSubscriptions()
        due = [(part, [channel(part, "a.*"), marker(part)]) for part in range(PARTS)]
        assert subscriptions.add("a.*") == due
        assert subscriptions.subjects == {head("a.*", part): "a.*" for part in range(PARTS)}
        assert subscriptions.remove("a.*") == due
        assert subscriptions.subjects == {}

    def test_a_long_pattern_has_them_in_one_part(self) -> None:
        part = part_of("a.b.c.d")
        assert ShardSubscriptions().add("a.b.c.d.>") == [(part, [channel(part, "a.b.c.d.*"), marker(part)])]

    def test_patterns_with_one_prefix_share_the_channel(self) -> None:
        subscriptions = ShardSubscriptions()
        part = part_of("a.b.c.d")
        subscriptions.add("a.b.c.d.*")
        assert subscriptions.add("a.b.c.d.>") == []
        assert subscriptions.remove("a.b.c.d.*") == []
        assert subscriptions.remove("a.b.c.d.>") == [(part, [channel(part, "a.b.c.d.*"), marker(part)])]

    def test_prefixes_of_one_part_share_the_marker(self) -> None:
        subscriptions = ShardSubscriptions()
        part = part_of("a.b.c.d")
        subscriptions.add("a.b.c.d.*")
        assert subscriptions.add("a.b.c.d.e.*") == [(part, [channel(part, "a.b.c.d.e.*")])]
        assert subscriptions.remove("a.b.c.d.*") == [(part, [channel(part, "a.b.c.d.*")])]
        assert subscriptions.remove("a.b.c.d.e.*") == [(part, [channel(part, "a.b.c.d.e.*"), marker(part)])]

    @pytest.mark.parametrize(
        ("subject", "wanted"), [("a.b", True), ("a.b.c", True), ("a.b.d", False), ("a", False), ("a.b c", False)]
    )
    def test_what_comes_for_a_prefix_must_match_one_of_its_patterns(self, subject: str, wanted: bool) -> None:
        subscriptions = ShardSubscriptions()
        subscriptions.add("a.*")
        subscriptions.add("a.*.c")
        for _ in range(2):
            assert subscriptions.wants("a.*", subject) is wanted

    def test_what_was_unsubscribed_from_is_not_wanted_any_more(self) -> None:
        subscriptions = ShardSubscriptions()
        subscriptions.add("a.*")
        subscriptions.add("a.>")
        assert subscriptions.wants("a.*", "a.b.c")
        subscriptions.remove("a.>")
        assert not subscriptions.wants("a.*", "a.b.c")
        subscriptions.remove("a.*")
        assert not subscriptions.wants("a.*", "a.b")

    def test_what_matches_is_remembered_for_so_many_subjects(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shard_subscriptions, "KNOWN", 2)
        subscriptions = ShardSubscriptions()
        subscriptions.add("a.*")
        assert all(subscriptions.wants("a.*", f"a.{number}") for number in range(5))
        assert len(subscriptions._found) <= 2


class TestSorter:
    def sorted(self, *came: tuple[str, bytes]) -> list[Any]:
        subscriptions, notes = ShardSubscriptions(), Notes()
        subscriptions.add("a.*")
        sorter = Sorter(subscriptions, notes)
        for one in came:
            sorter.received(*one)
        sorter.dropped(3)
        return notes.told

    def test_a_payload_comes_with_its_subject_on_both_kinds_of_channels(self) -> None:
        came = [("a.b", b"1"), ("a.*", b"a.b 2 3"), ("a.*", b"a.b ")]
        assert self.sorted(*came) == [("a.b", b"1"), ("a.b", b"2 3"), ("a.b", b""), 3]

    @pytest.mark.parametrize("payload", [b"", b" ", b"nothing", b"\xff\xff 1", b"a.b.c 1", b"a.* 1"])
    def test_what_was_not_subscribed_to_or_is_no_subject_is_dropped(self, payload: bytes) -> None:
        assert self.sorted(("a.*", payload)) == [3]
