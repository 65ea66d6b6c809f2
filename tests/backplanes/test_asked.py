from __future__ import annotations

from wshost.backplanes.asked import Asked


def test_a_call_is_found_once_by_its_number() -> None:
    asked = Asked()
    numbers = [asked.number(), asked.number()]
    for number in numbers:
        asked.keep(number, list)
    assert len(set(numbers)) == 2
    assert [asked.take(numbers[0]), asked.take(numbers[0]), asked.take("other")] == [list, None, None]


def test_the_later_calls_are_kept() -> None:
    asked = Asked(most=2)
    for number in "123":
        asked.keep(number, list)
    assert [asked.take(number) for number in "123"] == [None, list, list]
