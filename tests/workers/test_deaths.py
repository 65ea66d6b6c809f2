from __future__ import annotations

from wshost.workers.deaths import LONGEST, MANY, WITHIN, Deaths


def test_rare_deaths_are_made_good_at_once() -> None:
    deaths = Deaths()
    assert {deaths.note(number * WITHIN) for number in range(3 * MANY)} == {(0.0, False)}
    assert deaths.count == 3 * MANY


def test_many_deaths_make_the_next_replacements_wait_ever_longer_and_say_so_once() -> None:
    deaths = Deaths()
    now, waits = 0.0, []
    for _ in range(MANY + 7):
        wait, begins = deaths.note(now)
        waits.append((wait, begins))
        now += wait
    assert waits[: MANY - 1] == [(0.0, False)] * (MANY - 1)
    assert waits[MANY - 1 : MANY + 1] == [(1.0, True), (2.0, False)]
    assert waits[-1] == (LONGEST, False)


def test_after_a_quiet_time_a_death_is_made_good_at_once() -> None:
    deaths = Deaths()
    for _ in range(MANY):
        deaths.note(0.0)
    assert deaths.note(10 * WITHIN) == (0.0, False)
