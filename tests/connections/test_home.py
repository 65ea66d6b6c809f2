from __future__ import annotations

import re
import socket
from typing import Any

import pytest

from wshost.connections import home
from wshost.connections.home import Home

WEB = Home("web-1", "hD3kP0aQ9zE")
KEY = bytes(range(16))


class TestHome:
    def test_no_two_homes_have_the_same_boot(self) -> None:
        homes = [Home.new() for _ in range(1_000)]
        assert len({one.boot for one in homes}) == 1_000
        assert all(home.is_boot(one.boot) for one in homes)

    def test_a_home_has_the_machines_name_unless_it_is_given_one(self) -> None:
        assert Home.new().node == home.this_machine()
        assert Home.new("web").node == "web"

    @pytest.mark.parametrize(
        ("name", "node"),
        [("web-1.example.com", "web-1"), ("wéb_1", "w-b_1"), ("", "node"), (".local", "node"), ("x" * 99, "x" * 63)],
    )
    def test_a_machines_name_fits_into_a_reference(self, monkeypatch: pytest.MonkeyPatch, name: str, node: str) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: name)
        assert home.this_machine() == node
        assert home.is_node(node)

    @pytest.mark.parametrize("name", ["", "a.b", "ü", "x" * 64, "a\n", " "])
    def test_other_names_are_none_of_a_node(self, name: str) -> None:
        assert not home.is_node(name)

    @pytest.mark.parametrize("name", ["", "hD3kP0aQ9z", "hD3kP0aQ9zEE", "hD3kP0aQ9z.", "hD3kP0aQ9zE\n", "hD3kP0aQ9zé"])
    def test_other_names_are_none_of_a_boot(self, name: str) -> None:
        assert not home.is_boot(name)


class TestText:
    @pytest.mark.parametrize("id", ["c1", "c9999999999999999999", "w1c1", "w999999999c1"])
    def test_what_is_written_is_read(self, id: str) -> None:
        assert home.read(home.write(WEB, id)) == (WEB, id)

    def test_a_text_has_106_characters_at_the_most(self) -> None:
        text = home.write(Home("n" * 63, WEB.boot), "w999999999c9999999999999999999")
        assert home.read(text)[0].node == "n" * 63
        assert len(text) == 106

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "c1",
            "web.c1",
            "web.hD3kP0aQ9zE.",
            ".hD3kP0aQ9zE.c1",
            "web.hD3kP0aQ9z.c1",
            "web.hD3kP0aQ9zE.c",
            "web.hD3kP0aQ9zE.1",
            "web.hD3kP0aQ9zE.wc1",
            "web.hD3kP0aQ9zE.c12345678901234567890",
            "web.hD3kP0aQ9zE.c1 ",
            "web.hD3kP0aQ9zE.c1.x",
            "a.web.hD3kP0aQ9zE.c1",
            "x" * 64 + ".hD3kP0aQ9zE.c1",
            "x" * 10_000,
        ],
    )
    def test_another_text_is_none(self, text: str) -> None:
        with pytest.raises(ValueError, match=f"^{re.escape(repr(text[:120]))} is not a reference, such as web-1"):
            home.read(text)

    def test_a_reference_is_a_str(self) -> None:
        data: Any = b"web.hD3kP0aQ9zE.c1"
        with pytest.raises(TypeError):
            home.read(data)


class TestSignature:
    def test_a_signature_is_that_of_its_key_and_text(self) -> None:
        signed = home.sign("web.hD3kP0aQ9zE.c1", KEY)
        # Kept over time: clients may have it for long.
        assert signed == "web.hD3kP0aQ9zE.c1.fQUfUeJAH9cyk0AWNG99Ug"
        assert home.check_signature(signed, KEY) == "web.hD3kP0aQ9zE.c1"

    @pytest.mark.parametrize("signed", ["", ".", "web.hD3kP0aQ9zE.c1", "web.hD3kP0aQ9zE.c1.", "a.ü", "ü.a", "\ud800.a"])
    def test_what_was_not_signed_is_refused(self, signed: str) -> None:
        with pytest.raises(ValueError, match=r"not signed with this key|surrogates not allowed"):
            home.check_signature(signed, KEY)

    def test_a_short_key_signs_nothing_and_checks_nothing(self) -> None:
        for call in (home.sign, home.check_signature):
            with pytest.raises(ValueError, match=r"^a key that signs references has at least 16 bytes, not 15$"):
                call("web.hD3kP0aQ9zE.c1", KEY[:15])
