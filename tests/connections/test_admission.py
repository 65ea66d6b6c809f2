from __future__ import annotations

from wshost.connections.admission import MAX_REFUSED, Admission


def test_connections_have_room_up_to_the_limit() -> None:
    admission = Admission(2, 0)
    assert [admission.has_room(count, "c1") for count in range(4)] == [True, True, False, False]


def test_refused_connections_do_not_count_against_the_limit() -> None:
    admission = Admission(2, 0)
    admission.refuse("c3")
    assert admission.has_room(2, "c1")
    admission.forget("c3")
    assert not admission.has_room(2, "c1")


def test_only_a_limited_number_of_refused_connections_is_told_so() -> None:
    admission = Admission(0, 0)
    assert [admission.refuse(f"c{number}") for number in range(MAX_REFUSED + 2)] == [True] * MAX_REFUSED + [False] * 2
    for number in range(3):
        admission.forget(f"c{number}")
    assert admission.refuse("next")


def test_an_address_has_connections_up_to_its_limit() -> None:
    admission = Admission(10, 2)
    assert [admission.count_address("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert admission.count_address("192.0.2.2")
    admission.discount_address("192.0.2.1")
    assert admission.count_address("192.0.2.1")


def test_an_address_without_a_limit_has_any_number_of_connections() -> None:
    admission = Admission(10, 0)
    assert all(admission.count_address("192.0.2.1") for _ in range(1_000))


def test_there_is_no_other_process_to_ask() -> None:
    called: list[str] = []
    asked = Admission(10, 5).ask("c1", "192.0.2.1", lambda: called.append("count"), lambda: called.append("then"))
    assert (asked, called) == (False, [])


def test_nothing_is_kept_of_connections_that_are_gone() -> None:
    admission = Admission(10, 5)
    for _ in range(2):
        admission.count_address("192.0.2.1")
    admission.refuse("c1")
    assert not admission.empty
    for _ in range(2):
        admission.discount_address("192.0.2.1")
    assert not admission.empty
    admission.forget("c1")
    assert admission.empty
