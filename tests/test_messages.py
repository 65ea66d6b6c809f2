from __future__ import annotations

from typing import Any

import pytest

from wshost.messages import MAX_TOPIC, check_message, check_topic


class TestMessages:
    @pytest.mark.parametrize(
        ("data", "size"), [("", 0), ("plain", 5), ("schön", 6), (b"", 0), (b"\xff\x00", 2)], ids=repr
    )
    def test_are_what_they_are(self, data: str | bytes, size: int) -> None:
        checked = check_message(data)
        assert checked == (data, size)
        assert checked[0] is data

    @pytest.mark.parametrize("kind", [bytearray, memoryview])
    def test_that_may_change_are_taken_as_they_are_now(self, kind: Any) -> None:
        source = bytearray(b"now")
        data, size = check_message(kind(source))
        source[:] = b"and"
        assert (type(data), data, size) == (bytes, b"now", 3)

    def test_of_subclasses_are_what_is_compiled_takes(self) -> None:
        class Special(bytes):
            pass

        data, size = check_message(Special(b"text"))
        assert (type(data), data, size) == (bytes, b"text", 4)

    @pytest.mark.parametrize("data", [7, None, ["text"]])
    def test_of_other_types_are_refused(self, data: Any) -> None:
        with pytest.raises(TypeError, match=f"^a message is a str or bytes, not {type(data).__name__}$"):
            check_message(data)

    def test_that_are_no_text_are_refused(self) -> None:
        with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
            check_message("\ud800")


class TestTopics:
    @pytest.mark.parametrize("topic", ["a", "rooms/ä 1", "x" * MAX_TOPIC, "ü" * 127])
    def test_have_names(self, topic: str) -> None:
        assert check_topic(topic) is topic

    @pytest.mark.parametrize("topic", [b"room", None, 7])
    def test_of_another_type_are_refused(self, topic: Any) -> None:
        with pytest.raises(TypeError, match=f"^a topic is a str, not {type(topic).__name__}$"):
            check_topic(topic)

    @pytest.mark.parametrize(("topic", "size"), [("", 0), ("x" * 256, 256), ("ü" * 128, 256)])
    def test_have_some_length(self, topic: str, size: int) -> None:
        with pytest.raises(ValueError, match=f"^a topic has 1 to 255 bytes, not {size}$"):
            check_topic(topic)

    def test_that_are_no_text_are_refused(self) -> None:
        with pytest.raises(ValueError, match="surrogates not allowed"):
            check_topic("\ud800")
