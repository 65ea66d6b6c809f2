from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wshost.cluster.envelope import ENTRIES, HEAD, VERSION, Codec, Envelope, MalformedError

PROPERTY = settings(derandomize=True, max_examples=150, deadline=None, database=None)

#: What messages are made of, in the form in which it arrives.
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(0, 9), inner, max_size=4),
    max_leaves=10,
)


def nested(depth: int) -> list[Any]:
    """Lists in lists."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


#: What can't go to another process, and why.
IMPOSSIBLE: list[Any] = [
    (object(), TypeError, "serialize"),
    ({1, 2}, TypeError, "serialize"),
    (1j, TypeError, "serialize"),
    (1 << 64, ValueError, "Integer"),
    (-(1 << 63) - 1, ValueError, "Integer"),
    ("\ud800", ValueError, "surrogates"),
    (nested(2_000), ValueError, "recursion"),
]
#: And what can be sent, but not be read.
UNREADABLE: list[Any] = [
    ({(1, 2): 3}, TypeError, "unhashable"),
    ([None] * (ENTRIES + 1), ValueError, "max_array_len"),
    (dict.fromkeys(range(ENTRIES + 1)), ValueError, "max_map_len"),
]


class TestMessages:
    @PROPERTY
    @given(st.lists(PLAIN, max_size=5))
    def test_messages_arrive_as_they_were_in_order(self, messages: list[Any]) -> None:
        codec = Codec()
        payload = codec.enclose("m", "s", 3, 5, [codec.pack(message) for message in messages])
        assert codec.read(payload) == Envelope("m", "s", 3, 5, messages)

    @pytest.mark.parametrize(("message", "error", "text"), IMPOSSIBLE)
    def test_what_has_no_form_is_refused_and_the_next_message_is_whole(
        self, message: Any, error: type[Exception], text: str
    ) -> None:
        codec = Codec()
        with pytest.raises(error, match=text):
            codec.pack(["begun", message])
        assert codec.pack("next") == msgpack.packb("next")

    @pytest.mark.parametrize(("message", "error", "text"), IMPOSSIBLE + UNREADABLE)
    def test_what_could_not_be_read_is_not_copied(self, message: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            Codec().copy(message)

    def test_a_copy_is_what_arrives(self) -> None:
        given: list[Any] = [("a", 1), {2: b"b"}]
        copied = Codec().copy(given)
        assert copied == [["a", 1], {2: b"b"}]
        given[1][2] = b"later"
        assert copied[1] == {2: b"b"}

    def test_what_is_copied_can_be_read_however_deep_it_is(self) -> None:
        codec, depths = Codec(), []
        for depth in range(1_000, 1_050):
            try:
                codec.copy(nested(depth))
            except ValueError:
                continue
            depths.append(depth)
            assert codec.read(codec.enclose("m", "s", 0, 0, [codec.pack(nested(depth))])).messages
        assert 1_000 in depths
        assert 1_049 not in depths

    def test_the_head_of_an_envelope_is_no_longer_than_it_says(self) -> None:
        most = (1 << 64) - 1
        payload = Codec().enclose("m" * 63, "s" * 11, most, most, [b"\xc0"] * ENTRIES)
        assert len(payload) - ENTRIES <= HEAD


#: Heads that are almost right.
WRONG_HEADS: list[Any] = [
    (VERSION + 1, "m", "s", 0, 0),
    ("1", "m", "s", 0, 0),
    (VERSION, b"m", "s", 0, 0),
    (VERSION, "m", None, 0, 0),
    (VERSION, "m", "s", -1, 0),
    (VERSION, "m", "s", 0, -1),
    (VERSION, "m", "s", 1.0, 0),
    (VERSION, "m", "s", 0, True),
    (VERSION, "m", "s", 0),
    (VERSION, "m", "s", 0, 0, 0),
    7,
]


class TestMalformed:
    @pytest.mark.parametrize("head", WRONG_HEADS)
    def test_another_head_is_malformed(self, head: Any) -> None:
        with pytest.raises(MalformedError):
            Codec().read(msgpack.packb([*head, []] if isinstance(head, tuple) else head))

    @pytest.mark.parametrize("messages", [{}, "text", None, 7])
    def test_messages_are_a_list(self, messages: Any) -> None:
        with pytest.raises(MalformedError, match=f"^it has another form than {VERSION}$"):
            Codec().read(msgpack.packb((VERSION, "m", "s", 0, 0, messages)))

    def test_every_part_of_an_envelope_is_malformed_and_so_is_more(self) -> None:
        codec = Codec()
        payload = codec.enclose("m", "s", 3, 5, [codec.pack(["text", b"bytes", {"key": 1.5}])])
        for size in range(len(payload)):
            with pytest.raises(MalformedError):
                codec.read(payload[:size])
        with pytest.raises(MalformedError):
            codec.read(payload + b"\xc0")
        assert codec.read(payload).sender == "s"

    @PROPERTY
    @given(st.binary())
    @example(b"\xc1")
    @example(b"\xdd\xff\xff\xff\xff")
    @example(b"\xdf\xff\xff\xff\xff")
    @example(b"\xdb\xff\xff\xff\xff")
    @example(b"\x81\x90\x90")
    @example(b"\x91" * 5_000)
    @example(b"\xc7\x0c\xff" + b"\xff" * 12)
    def test_any_bytes_are_read_or_malformed(self, payload: bytes) -> None:
        codec = Codec()
        head = codec.enclose("m", "s", 0, 0, [])[:-1]
        for whole in (payload, head + payload):
            try:
                envelope = codec.read(whole)
            except MalformedError:
                continue
            assert isinstance(envelope.messages, list)
