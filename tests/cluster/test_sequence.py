from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wshost.cluster import sequence
from wshost.cluster.sequence import Incoming, Outgoing

PROPERTY = settings(derandomize=True, max_examples=150, deadline=None, database=None)

#: Payloads: their subject, how many messages they have, and how often each comes: 0 is a loss.
PAYLOADS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.integers(0, 3)), max_size=30)


class TestOutgoing:
    def test_each_subject_is_counted_for_itself(self) -> None:
        outgoing = Outgoing()
        assert [outgoing.count("a", 2), outgoing.count("b", 1), outgoing.count("a", 3), outgoing.count("a", 0)] == [
            (1, 0),
            (2, 0),
            (1, 2),
            (1, 5),
        ]

    def test_a_subject_that_was_forgotten_begins_a_later_epoch(self) -> None:
        outgoing = Outgoing(most=2)
        for subject in "abac":
            outgoing.count(subject, 1)
        assert outgoing.count("a", 1) == (1, 2)
        assert outgoing.count("b", 1) == (4, 0)

    def test_the_subjects_that_were_used_last_are_known(self) -> None:
        outgoing = Outgoing()
        for subject in "abca":
            outgoing.count(subject, 1)
        assert (outgoing.recent(2), outgoing.recent(9)) == (["a", "c"], ["a", "c", "b"])

    def test_no_more_subjects_are_remembered_than_may_be(self) -> None:
        outgoing = Outgoing(most=3)
        for number in range(100):
            outgoing.count(str(number), 1)
        assert outgoing.recent(100) == ["99", "98", "97"]


class TestIncoming:
    def test_what_was_published_before_the_first_payload_is_not_lost(self) -> None:
        assert Incoming().count("s", "a", 1, 7, 2) == (0, 0)

    def test_a_gap_was_lost(self) -> None:
        incoming = Incoming()
        incoming.count("s", "a", 1, 0, 2)
        assert incoming.count("s", "a", 1, 5, 1) == (0, 3)
        assert incoming.count("s", "a", 1, 6, 1) == (0, 0)

    def test_a_mark_without_messages_tells_what_was_lost_last_once(self) -> None:
        incoming = Incoming()
        incoming.count("s", "a", 1, 0, 2)
        assert [incoming.count("s", "a", 1, 4, 0) for _ in range(2)] == [(0, 2), (0, 0)]

    def test_messages_that_have_come_are_known(self) -> None:
        incoming = Incoming()
        incoming.count("s", "a", 1, 0, 3)
        assert incoming.count("s", "a", 1, 0, 3) == (3, 0)
        assert incoming.count("s", "a", 1, 2, 3) == (1, 0)

    def test_senders_and_subjects_are_counted_apart(self) -> None:
        incoming = Incoming()
        incoming.count("s", "a", 1, 0, 3)
        assert incoming.count("t", "a", 1, 0, 3) == (0, 0)
        assert incoming.count("s", "b", 2, 0, 3) == (0, 0)

    def test_what_is_missing_at_the_beginning_of_a_later_epoch_was_lost(self) -> None:
        incoming = Incoming()
        incoming.count("s", "a", 1, 0, 3)
        assert incoming.count("s", "a", 4, 2, 1) == (0, 2)

    def test_messages_of_an_epoch_that_is_over_are_late(self) -> None:
        incoming = Incoming()
        incoming.count("s", "a", 4, 0, 3)
        assert incoming.count("s", "a", 1, 7, 3) == (3, 0)
        assert incoming.count("s", "a", 4, 3, 1) == (0, 0)

    def test_a_forgotten_subject_begins_anew(self) -> None:
        incoming = Incoming()
        for subject in "ab":
            incoming.count("s", subject, 1, 0, 1)
        incoming.forget("a")
        assert incoming.count("s", "a", 1, 5, 1) == (0, 0)
        assert incoming.count("s", "b", 1, 5, 1) == (0, 4)
        incoming.forget(None)
        incoming.forget("never seen")
        assert incoming.count("s", "b", 1, 9, 1) == (0, 0)

    def test_the_subjects_that_were_used_last_are_remembered(self) -> None:
        incoming = Incoming(most=2)
        for subject in "abac":
            incoming.count("s", subject, 1, 0, 1)
        assert incoming.count("s", "a", 1, 0, 1) == (1, 0)
        assert incoming.count("s", "b", 1, 0, 1) == (0, 0)

    def test_the_senders_of_a_subject_are_limited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sequence, "MOST_SENDERS", 2)
        incoming = Incoming()
        for sender in "stu":
            incoming.count(sender, "a", 1, 0, 1)
        assert incoming.count("u", "a", 1, 0, 1) == (1, 0)
        assert incoming.count("s", "a", 1, 0, 1) == (0, 0)


@PROPERTY
@given(PAYLOADS, st.integers(1, 4))
def test_each_message_comes_once_or_was_lost(payloads: list[tuple[str, int, int]], most: int) -> None:
    """Whatever is lost, comes twice, or is forgotten by the sender."""
    outgoing, incoming = Outgoing(most), Incoming()
    seen: set[str] = set()
    came = missed = 0
    # What is missing before a subject's first payload, or behind its last one in an epoch, is not known.
    pending: Counter[str] = Counter()
    epochs: dict[str, int] = {}
    lost_in_all = sent = 0
    for subject, messages, times in payloads:
        epoch, before = outgoing.count(subject, messages)
        if epoch != epochs.get(subject):
            pending[subject], epochs[subject] = 0, epoch
        if not times:
            pending[subject] += messages
            continue
        if subject in seen:
            lost_in_all += pending[subject]
        pending[subject] = 0
        seen.add(subject)
        sent += messages
        for _ in range(times):
            known, lost = incoming.count("s", subject, epoch, before, messages)
            came += messages - known
            missed += lost
            assert 0 <= known <= messages
            assert lost >= 0
    assert (came, missed) == (sent, lost_in_all)
