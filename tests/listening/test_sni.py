from __future__ import annotations

import pytest

from wshost.listening.sni import ServerNames


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (b"", 0),
        (b"chat.example.com", 1),
        (b"CHAT.Example.com", 1),
        (b"news.example.com", 2),
        (b"example.com", 0),
        (b"a.b.example.com", 0),
        (b"other.test", 3),
        (b"localhost", 0),
        (b"ch\xe4t.example.net", 0),
    ],
)
def test_an_exact_name_goes_before_a_wildcard_of_one_label_and_the_first_is_for_all_others(
    name: bytes, place: int
) -> None:
    names = ServerNames(
        [["first.example"], ["chat.example.com"], ["*.example.com", "chat.example.com"], ["Other.test"]]
    )
    assert names.place(name) == place


def test_a_certificate_whose_names_are_all_taken_is_never_chosen_but_the_first_is() -> None:
    names = ServerNames([[], ["a.example"], ["a.example", "b.example"], ["b.example", "A.example"], []])
    assert [names.serves(place) for place in range(5)] == [True, True, True, False, False]
