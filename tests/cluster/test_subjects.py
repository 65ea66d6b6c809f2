from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wshost.cluster.subjects import Subjects
from wshost.messages import MAX_TOPIC

#: What `IBackplane` says of a subject on which something is published.
LEGAL = re.compile(r"[A-Za-z0-9_=~%-]+(\.[A-Za-z0-9_=~%-]+)*")
#: And of that of a subscription.
WILD = re.compile(r"([A-Za-z0-9_=~%-]+|\*)(\.([A-Za-z0-9_=~%-]+|\*))*(\.>)?")
LONGEST = 1_024

#: Texts that are topics, and many that have tokens with a meaning.
TOPICS = st.one_of(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=MAX_TOPIC),
    st.lists(st.sampled_from(["", "*", ">", "~", "%", "%2A", "a", "a*", "ü", " ", "\r\n", "+"]), min_size=1).map(
        ".".join
    ),
).filter(lambda topic: 0 < len(topic.encode()) <= MAX_TOPIC)

SUBJECTS = Subjects("c" * 63)
PROPERTY = settings(derandomize=True, max_examples=150, deadline=None, database=None)


class TestTopics:
    @PROPERTY
    @given(TOPICS)
    @example("\U0010ffff" * 63)
    @example(".")
    @example("~")
    @example("*.>")
    def test_each_topic_has_a_subject_that_brokers_take_and_is_read_again(self, topic: str) -> None:
        subject = SUBJECTS.of_topic(topic)
        assert LEGAL.fullmatch(subject)
        assert len(subject) <= LONGEST
        assert SUBJECTS.topic(subject) == topic

    @PROPERTY
    @given(TOPICS)
    @example(">.a")
    @example("*.>")
    def test_each_topic_or_pattern_can_be_subscribed_to(self, topic: str) -> None:
        subject = SUBJECTS.of_subscription(topic)
        assert WILD.fullmatch(subject)
        assert len(subject) <= LONGEST
        if not {"*", ">"} & set(topic.split(".")):
            assert subject == SUBJECTS.of_topic(topic)

    @PROPERTY
    @given(TOPICS, TOPICS)
    def test_two_topics_have_two_subjects(self, one: str, other: str) -> None:
        assert (SUBJECTS.of_topic(one) == SUBJECTS.of_topic(other)) is (one == other)

    @pytest.mark.parametrize(
        ("topic", "subscription", "subject"),
        [
            ("rooms.7", "w.t.rooms.7", "w.t.rooms.7"),
            ("rooms.*", "w.t.rooms.*", "w.t.rooms.%2A"),
            ("*.>", "w.t.*.>", "w.t.%2A.%3E"),
            (">.a", "w.t.%3E.a", "w.t.%3E.a"),
            ("a*.>b", "w.t.a%2A.%3Eb", "w.t.a%2A.%3Eb"),
            ("*>", "w.t.%2A%3E", "w.t.%2A%3E"),
            ("a..b.", "w.t.a.~.b.~", "w.t.a.~.b.~"),
        ],
    )
    def test_wildcards_are_special_only_in_subscriptions_and_as_whole_tokens(
        self, topic: str, subscription: str, subject: str
    ) -> None:
        subjects = Subjects("w")
        assert subjects.of_subscription(topic) == subscription
        assert subjects.of_topic(topic) == subject


class TestSubjects:
    def test_a_homes_subject_has_its_boot(self) -> None:
        subject = SUBJECTS.of_home("hD3kP0aQ9zE")
        assert LEGAL.fullmatch(subject)
        assert (SUBJECTS.boot(subject), SUBJECTS.topic(subject)) == ("hD3kP0aQ9zE", None)

    @pytest.mark.parametrize("subject", ["", "other.t.a", "wshost", "wshost.x.a"])
    def test_a_subject_of_another_cluster_means_nothing(self, subject: str) -> None:
        assert (Subjects().topic(subject), Subjects().boot(subject)) == (None, None)

    def test_a_topics_subject_is_no_homes(self) -> None:
        assert SUBJECTS.boot(SUBJECTS.of_topic("a")) is None

    @PROPERTY
    @given(st.text())
    def test_any_subject_can_be_read(self, text: str) -> None:
        topic = Subjects().topic(f"wshost.t.{text}")
        assert topic is not None
        topic.encode("utf-8", "surrogatepass")
