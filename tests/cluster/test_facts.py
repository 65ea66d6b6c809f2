from __future__ import annotations

from typing import Any

import pytest

from wshost.cluster.facts import Change, Claim, of_presence, packed, presence_key, read, unpacked

REF = "vm.hD3kP0aQ9zE.c17"


@pytest.mark.parametrize(
    ("told", "change"),
    [
        ([True, "n", "ann", [1.5, REF]], Change(True, ("n", "ann"), Claim(1.5, REF))),
        ([False, "n", "ann", "why"], Change(False, ("n", "ann"), None)),
        ([True, "c", REF, "anything"], Change(True, ("c", REF), None)),
        ([False, "c", REF, "it ended"], Change(False, ("c", REF), "it ended")),
        ([False, "c", REF, None], Change(False, ("c", REF), None)),
        ([True, "p", f"{REF} a room", b"\x01"], Change(True, ("p", f"{REF} a room"), b"\x01")),
        ([False, "p", f"{REF} room", None], Change(False, ("p", f"{REF} room"), None)),
    ],
)
def test_a_change_is_read_as_it_was_told(told: Any, change: Change) -> None:
    assert read(told) == change


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        [True, "n", "ann"],
        [1, "n", "ann", [1.5, REF]],
        [True, "n", 7, [1.5, REF]],
        [True, "x", "ann", None],
        [True, ["n"], "ann", None],
        [True, "n", "", [1.5, REF]],
        [True, "n", "a" * 256, [1.5, REF]],
        [True, "n", "ann", None],
        [True, "n", "ann", [1, REF]],
        [True, "n", "ann", [float("nan"), REF]],
        [True, "n", "ann", [1.5, "no reference"]],
        [True, "n", "ann", [1.5, None]],
        [True, "c", "no reference", None],
        [True, "p", "room", b"\x01"],
        [True, "p", f"{REF} ", b"\x01"],
        [True, "p", f"{REF} " + "r" * 256, b"\x01"],
        [True, "p", f"{REF} room", "text"],
        [True, "p", f"{REF} room", b"\xc1"],
        [True, "p", f"{REF} room", b""],
        [True, "p", f"{REF} room", b"\xc4\xff" + bytes(4_095)],
    ],
)
def test_what_is_no_change_is_refused(told: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        read(told)


def test_a_topic_may_have_blanks() -> None:
    assert of_presence(presence_key("a room of one's own", REF)) == ("a room of one's own", REF)


@pytest.mark.parametrize("data", [None, 1, "text", b"bytes", [1, [2.5]], {"a": {1: True}}])
def test_what_is_said_of_a_presence_comes_back_as_it_was(data: Any) -> None:
    assert unpacked(packed(data)) == data


def test_what_is_said_of_a_presence_has_at_most_4_kib() -> None:
    assert len(packed(bytes(4_093))) == 4_096
    with pytest.raises(ValueError, match="at most 4096 bytes, not 4097"):
        packed(bytes(4_094))


@pytest.mark.parametrize("data", [object(), {1, 2}, 1 << 70, "\ud800", {(1, 2): 3}])
def test_what_msgpack_has_no_form_for_can_not_be_said(data: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        packed(data)
