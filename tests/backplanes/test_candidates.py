from __future__ import annotations

from random import Random

import pytest

from wshost.backplanes import candidates as module
from wshost.backplanes.candidates import BROKERS, Candidates
from wshost.backplanes.settings import Broker

A, B, C = Broker("a", 1), Broker("b", 1), Broker("c", 1)


def begun(*given: Broker) -> Candidates:
    """Candidates whose first round has begun."""
    candidates = Candidates(given, Random(1))
    candidates.begin()
    return candidates


def tried(candidates: Candidates) -> list[Broker]:
    """All that are left, in their order."""
    brokers = []
    while candidates.left:
        brokers.append(candidates.next())
        assert candidates.current == brokers[-1]
    return brokers


def test_each_is_tried_once_in_a_round_and_the_last_one_is_the_last_again() -> None:
    candidates = begun(A, B, C)
    for _ in range(10):
        before = tried(candidates)
        candidates.begin()
        after = tried(candidates)
        assert set(before) == set(after) == {A, B, C}
        assert before[-1] == after[-1]
        candidates.begin()


def test_any_of_the_given_ones_may_be_the_first() -> None:
    random = Random(1)
    firsts = set()
    for _ in range(30):
        candidates = Candidates([A, B], random)
        assert candidates.current == A
        candidates.begin()
        firsts.add(candidates.next())
    assert firsts == {A, B}


def test_a_round_that_has_ended_has_nobody_left() -> None:
    candidates = begun(A, B)
    candidates.end()
    assert not candidates.left


def test_one_is_tried_before_all_others_and_once() -> None:
    candidates = begun(A, B)
    candidates.direct(C)
    assert candidates.is_directed
    assert candidates.next() == C
    assert not candidates.is_directed
    assert sorted(one.host for one in tried(candidates)) == ["a", "b"]


def test_one_may_be_tried_between_two_rounds() -> None:
    candidates = begun(A)
    candidates.end()
    candidates.direct(C)
    assert tried(candidates) == [C]


class TestKnowledge:
    def test_the_given_ones_stay_and_others_are_replaced(self) -> None:
        candidates = begun(A)
        candidates.know([B, A])
        candidates.know([C])
        candidates.begin()
        assert set(tried(candidates)) == {A, C}

    def test_only_so_many_others_are_kept(self) -> None:
        candidates = begun(A)
        candidates.know([Broker("n", port) for port in range(BROKERS + 10)])
        candidates.begin()
        assert len(tried(candidates)) == BROKERS + 1

    @pytest.mark.parametrize(("host", "name"), [("192.0.2.1", "a"), ("::1", "a"), ("b", "b")])
    def test_the_certificate_of_a_named_address_is_for_the_name_of_who_named_it(self, host: str, name: str) -> None:
        candidates = begun(A)
        candidates.know([Broker(host, 1)])
        assert candidates.name == "a"
        candidates.direct(Broker(host, 1))
        candidates.next()
        assert candidates.name == name
        # Who was named may name others.
        candidates.know([Broker("192.0.2.2", 1)])
        assert candidates.name == name
        candidates.direct(Broker("192.0.2.2", 1))
        candidates.next()
        assert candidates.name == name


class TestTLS:
    @pytest.mark.parametrize(
        ("broker", "secure"), [(A, False), (Broker("a", 1, tls=True), True), (Broker("a", 1, upgrades=True), True)]
    )
    def test_a_brokers_url_says_whether_it_speaks_tls(self, broker: Broker, secure: bool) -> None:
        assert Candidates([broker], Random(1)).is_secure is secure

    def test_a_broker_that_demands_it_unexpectedly_is_known_for_it(self) -> None:
        candidates = begun(A, B)
        first = candidates.next()
        candidates.demand_tls()
        assert candidates.is_secure
        candidates.next()
        assert not candidates.is_secure
        candidates.direct(first)
        candidates.next()
        assert candidates.is_secure

    def test_only_so_many_of_these_are_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "BROKERS", 1)
        candidates = begun(A, B)
        first = candidates.next()
        candidates.demand_tls()
        candidates.next()
        candidates.demand_tls()
        assert candidates.is_secure
        candidates.direct(first)
        candidates.next()
        assert not candidates.is_secure
