from __future__ import annotations

from enum import Enum, IntEnum, StrEnum
from math import inf, nan
from typing import Any

import pytest

from wshost.exact import message, number, octets, seconds, shown, text


class Room(StrEnum):
    HALL = "hall"


class Mixed(str, Enum):  # noqa: UP042 - what is formatted otherwise
    """As before Python had `StrEnum`: formatted, it is its member's name."""

    HALL = "hall"


class LyingText(str):
    def __str__(self) -> str:
        return "lie"

    def __len__(self) -> int:
        return 99

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 1

    def encode(self, *args: Any) -> bytes:
        return b"lie"


class LyingBytes(bytes):
    def __bytes__(self) -> bytes:
        return b"lie"

    def __len__(self) -> int:
        return 99


class LyingArray(bytearray):
    def __bytes__(self) -> bytes:
        return b"lie"


class LyingNumber(int):
    def __int__(self) -> int:
        return 99

    def __index__(self) -> int:
        return 99


class Code(IntEnum):
    GOING_AWAY = 1001


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError


class TestText:
    @pytest.mark.parametrize(
        "value", [Room.HALL, Mixed.HALL, LyingText("hall"), "hall"], ids=lambda v: type(v).__name__
    )
    def test_text_returns_the_characters_as_a_str(self, value: str) -> None:
        assert (text(value), type(text(value))) == ("hall", str)

    def test_an_exact_str_is_not_copied(self) -> None:
        value = "x" * 100
        assert text(value) is value

    @pytest.mark.parametrize("value", [b"hall", None, 7])
    def test_text_takes_only_a_str(self, value: Any) -> None:
        with pytest.raises(TypeError):
            text(value)


class TestNumber:
    @pytest.mark.parametrize("value", [1001, Code.GOING_AWAY, LyingNumber(1001)], ids=lambda v: type(v).__name__)
    def test_number_returns_an_int(self, value: int) -> None:
        assert (number(value), type(number(value))) == (1001, int)

    @pytest.mark.parametrize("value", ["1001", 1001.0, None])
    def test_number_takes_only_an_int(self, value: Any) -> None:
        with pytest.raises(TypeError):
            number(value)


class TestOctets:
    @pytest.mark.parametrize(
        "value",
        [
            b"abcd",
            LyingBytes(b"abcd"),
            bytearray(b"abcd"),
            LyingArray(b"abcd"),
            memoryview(b"abcd"),
            memoryview(b"a-b-c-d-")[::2],
            memoryview(b"abcd").cast("I"),
            memoryview(b"abcd").cast("B", (2, 2)),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_octets_returns_bytes(self, value: Any) -> None:
        assert (octets(value), type(octets(value))) == (b"abcd", bytes)

    def test_exact_bytes_are_not_copied(self) -> None:
        value = bytes(100)
        assert octets(value) is value

    @pytest.mark.parametrize("value", ["abcd", None, 4, [97]])
    def test_octets_takes_only_bytes(self, value: Any) -> None:
        """`bytes(4)` would be four zeros."""
        with pytest.raises(TypeError, match=f"^bytes are wanted, not {type(value).__name__}$"):
            octets(value)

    def test_a_released_memoryview_is_a_value_error(self) -> None:
        value = memoryview(b"abcd")
        value.release()
        with pytest.raises(ValueError, match="released"):
            octets(value)


class TestMessage:
    @pytest.mark.parametrize(
        ("value", "exact"), [(Room.HALL, "hall"), ("", ""), (LyingBytes(b"a"), b"a"), (memoryview(b""), b"")]
    )
    def test_message_returns_a_str_or_bytes(self, value: Any, exact: Any) -> None:
        assert (message(value), type(message(value))) == (exact, type(exact))

    @pytest.mark.parametrize("value", [None, 7, ["text"]])
    def test_message_takes_only_a_str_or_bytes(self, value: Any) -> None:
        with pytest.raises(TypeError, match=f"^a message is a str or bytes, not {type(value).__name__}$"):
            message(value)


class TestSeconds:
    @pytest.mark.parametrize("value", [1, 1.0, True])
    def test_seconds_returns_a_float(self, value: Any) -> None:
        assert (seconds(value), type(seconds(value))) == (1.0, float)

    @pytest.mark.parametrize("value", [nan, inf, -inf])
    def test_seconds_takes_only_finite_numbers(self, value: float) -> None:
        with pytest.raises(ValueError, match=f"^{value!r} is no number of seconds$"):
            seconds(value)

    @pytest.mark.parametrize("value", ["1", None])
    def test_seconds_takes_only_numbers(self, value: Any) -> None:
        with pytest.raises(TypeError):
            seconds(value)


class TestShown:
    def test_a_long_value_is_shown_short(self) -> None:
        assert shown(("reply", ["x" * 1_000], [[[[]]]])) == "('reply', ['xxxxxxxxxxxx...xxxxxxxxxxxxx'], [[...]])"

    @pytest.mark.parametrize(
        ("value", "how"),
        [(10**5_000, "<int>"), (Unshowable(), "<Unshowable"), ((10**5_000,), "(<int>,)")],
        ids=["int", "object", "tuple"],
    )
    def test_any_value_can_be_shown(self, value: Any, how: str) -> None:
        assert shown(value).startswith(how)
