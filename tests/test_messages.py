from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest

from wshost.messages import (
    MAX_KEY,
    MAX_TOPIC,
    NORMAL_CLOSE,
    check_close,
    check_key,
    check_message,
    check_payload,
    check_topic,
    sendable,
)


class TestMessages:
    @pytest.mark.parametrize(
        ("data", "size"), [("", 0), ("plain", 5), ("schön", 6), (b"", 0), (b"\xff\x00", 2)], ids=repr
    )
    def test_a_message_is_returned_as_it_is_with_its_size(self, data: str | bytes, size: int) -> None:
        checked = check_message(data)
        assert checked == (data, size)
        assert checked[0] is data

    @pytest.mark.parametrize("kind", [bytearray, memoryview])
    def test_a_message_that_may_change_is_copied(self, kind: Any) -> None:
        source = bytearray(b"now")
        data, size = check_message(kind(source))
        source[:] = b"and"
        assert (type(data), data, size) == (bytes, b"now", 3)

    def test_a_message_of_a_subclass_becomes_exact(self) -> None:
        class Special(bytes):
            pass

        data, size = check_message(Special(b"text"))
        assert (type(data), data, size) == (bytes, b"text", 4)

    @pytest.mark.parametrize("data", [7, None, ["text"]])
    def test_a_message_of_another_type_is_a_type_error(self, data: Any) -> None:
        with pytest.raises(TypeError, match=f"^a message is a str or bytes, not {type(data).__name__}$"):
            check_message(data)

    def test_a_message_with_lone_surrogates_is_an_error(self) -> None:
        with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
            check_message("\ud800")


class TestTopics:
    @pytest.mark.parametrize("topic", ["a", "rooms/ä 1", "x" * MAX_TOPIC, "ü" * 127, "a>.b", "rooms.*", "*.>", ">"])
    def test_a_topic_is_a_str_of_1_to_255_bytes(self, topic: str) -> None:
        assert check_topic(topic) is topic

    @pytest.mark.parametrize("topic", [b"room", None, 7])
    def test_a_topic_of_another_type_is_a_type_error(self, topic: Any) -> None:
        with pytest.raises(TypeError, match=f"^a topic is a str, not {type(topic).__name__}$"):
            check_topic(topic)

    @pytest.mark.parametrize(("topic", "size"), [("", 0), ("x" * 256, 256), ("ü" * 128, 256)])
    def test_an_empty_or_too_long_topic_is_a_value_error(self, topic: str, size: int) -> None:
        with pytest.raises(ValueError, match=f"^a topic has 1 to 255 bytes, not {size}$"):
            check_topic(topic)

    @pytest.mark.parametrize("topic", ["a.>.b", ">.a", ">.>", "a.>."])
    def test_a_wildcard_for_the_rest_that_is_not_the_last_token_is_a_value_error(self, topic: str) -> None:
        with pytest.raises(ValueError, match=f"^in a pattern of topics, '>' can only be the last token: {topic!r}$"):
            check_topic(topic)

    def test_a_topic_with_lone_surrogates_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="surrogates not allowed"):
            check_topic("\ud800")


class TestKeys:
    @pytest.mark.parametrize("key", ["a", "EUR/USD", "x" * MAX_KEY])
    def test_a_key_is_a_str_of_1_to_255_bytes(self, key: str) -> None:
        assert check_key(key) is key

    def test_any_other_key_is_an_error(self) -> None:
        wrong: Any = 7
        with pytest.raises(TypeError, match="a key is a str, not int"):
            check_key(wrong)
        for key in ("", "ü" * 128):
            with pytest.raises(ValueError, match="a key has 1 to 255 bytes"):
                check_key(key)


class TestSendable:
    """RFC 6455 §7.4."""

    @pytest.mark.parametrize(
        ("first", "last", "may"),
        [
            (0, 999, False),
            (1000, 1003, True),
            (1004, 1006, False),  # reserved; no status, abnormal closure: never on the wire
            (1007, 1014, True),
            (1015, 1015, False),  # TLS failed
            (1016, 2999, False),
            (3000, 4999, True),  # of libraries and applications (§7.4.2)
            (5000, 65535, False),
        ],
    )
    def test_sendable_tells_which_codes_may_be_sent(self, first: int, last: int, may: bool) -> None:
        assert {sendable(code) for code in range(first, last + 1)} == {may}


class TestClose:
    @pytest.mark.parametrize("code", [999, 1005, 5000, -1, True, "1000", 1000.0])
    def test_a_wrong_code_is_named(self, code: Any) -> None:
        with pytest.raises(
            ValueError, match=f"^{code!r} is not a close code to send: 1000-1003, 1007-1014, 3000-4999$"
        ):
            check_close(code, "")

    @pytest.mark.parametrize("reason", [b"bytes", None, 7])
    def test_a_wrong_reason_is_named(self, reason: Any) -> None:
        with pytest.raises(ValueError, match=r"is not a close reason: a str$"):
            check_close(1000, reason)

    def test_a_close_may_have_neither_code_nor_reason(self) -> None:
        """RFC 6455 §5.5.1: a Close may be empty."""
        assert check_close(None, "") == (None, "")

    @pytest.mark.parametrize("reason", ["bye", b"", None])
    def test_a_reason_without_a_code_is_a_value_error(self, reason: Any) -> None:
        with pytest.raises(ValueError, match=r"can't be the reason of a Close without a code$"):
            check_close(None, reason)

    def test_a_reason_with_lone_surrogates_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="surrogates not allowed"):
            check_close(1000, "\ud800")

    @pytest.mark.parametrize(
        ("reason", "kept"),
        [
            ("", ""),
            ("a" * 123, "a" * 123),
            ("a" * 124, "a" * 123),
            ("ü" * 62, "ü" * 61),
            ("a" + "€" * 41, "a" + "€" * 40),
            ("a" * 120 + "😀", "a" * 120),
        ],
    )
    def test_a_reason_is_cut_between_characters(self, reason: str, kept: str) -> None:
        """A control frame has 125 bytes, the code takes 2 of them (RFC 6455 §5.5)."""
        assert check_close(1001, reason) == (1001, kept)

    def test_a_code_of_an_enumeration_becomes_exact(self) -> None:
        class Code(IntEnum):
            GOING_AWAY = 1001

        code, _ = check_close(Code.GOING_AWAY, "")
        assert (code, type(code)) == (1001, int)

    def test_the_normal_close_may_be_sent(self) -> None:
        assert check_close(*NORMAL_CLOSE) == NORMAL_CLOSE


class TestPayload:
    @pytest.mark.parametrize("data", [b"p", bytearray(b"p"), memoryview(b"p"), "p"])
    def test_a_payload_is_returned_as_bytes(self, data: Any) -> None:
        payload = check_payload(data)
        assert (payload, type(payload)) == (b"p", bytes)

    def test_a_payload_has_at_most_125_bytes(self) -> None:
        """RFC 6455 §5.5."""
        assert check_payload(bytes(125)) == bytes(125)
        with pytest.raises(ValueError, match=r"^the payload of a ping or pong has at most 125 bytes, not 126$"):
            check_payload("ü" * 63)

    @pytest.mark.parametrize("data", [7, None, ["p"]])
    def test_a_payload_of_another_type_is_a_type_error(self, data: Any) -> None:
        with pytest.raises(
            TypeError, match=f"^the payload of a ping or pong is a str or bytes, not {type(data).__name__}$"
        ):
            check_payload(data)
