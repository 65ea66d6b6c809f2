import math
from enum import Enum, IntEnum
from typing import Any

import pytest

from wshost.protocols.options import Reader
from wshost.results import ConfigurationError


def reader(**options: Any) -> Reader:
    return Reader("tea", options)


def wrong(value: Any, expected: str) -> str:
    return f"^tea: it is {value!r}, not {expected}$"


class TestReading:
    def test_the_mapping_is_left_as_it_was(self) -> None:
        options = {"it": 1}
        taken = Reader("tea", options)
        assert taken.take("it", 2) == 1
        assert options == {"it": 1}

    @pytest.mark.parametrize("options", [{}, {"it": 1}, {"it": 1, "that": 2}])
    def test_what_nobody_took_is_an_error(self, options: dict[str, Any]) -> None:
        left = Reader("tea", {**options, "zebra": 1, "ape": 2})
        for name in options:
            left.take(name, None)
        with pytest.raises(ConfigurationError, match=r"^tea: unknown option: ape, zebra$"):
            left.done()

    def test_a_name_that_is_no_string_is_unknown_too(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^tea: unknown option: 1, x$"):
            Reader("tea", {"x": 1, 1: 2}).done()  # type: ignore[dict-item]

    def test_all_taken(self) -> None:
        complete = reader(it=1)
        complete.take("it", None)
        complete.done()


class TestTypes:
    def test_defaults(self) -> None:
        empty = reader()
        assert empty.take("it", ...) is ...
        assert empty.integer("it", 7, 1) == 7
        assert empty.seconds("it", 2.5) == 2.5
        assert empty.boolean("it", True) is True
        assert empty.string("it") is None
        assert empty.strings("it") == []
        empty.done()

    @pytest.mark.parametrize("value", [3, 4, 1 << 40])
    def test_integer(self, value: int) -> None:
        assert reader(it=value).integer("it", 7, 3) == value

    def test_of_an_enumeration(self) -> None:
        class Number(IntEnum):
            THREE = 3

        class Name(str, Enum):  # noqa: UP042 - what is formatted otherwise
            TEA = "tea"

        options = reader(number=Number.THREE, name=Name.TEA, names=(Name.TEA,))
        found = [options.integer("number", 7, 3), options.string("name"), *options.strings("names")]
        assert [*map(type, found)] == [int, str, str]
        assert found == [3, "tea", "tea"]

    @pytest.mark.parametrize("value", [2, -3, 3.0, "3", True, None])
    def test_no_integer(self, value: Any) -> None:
        with pytest.raises(ConfigurationError, match=wrong(value, "a whole number, 3 or more")):
            reader(it=value).integer("it", 7, 3)

    @pytest.mark.parametrize("value", [0.001, 1, 1.5, 86_400])
    def test_seconds(self, value: float) -> None:
        read = reader(it=value).seconds("it", 7)
        assert (read, type(read)) == (value, float)

    def test_no_seconds_where_that_means_off(self) -> None:
        assert reader(it=0).seconds("it", 7, 0.0) == 0

    @pytest.mark.parametrize("value", [0, 0.0009, -1, 86_401, math.inf, math.nan, "1", False, None])
    def test_no_time(self, value: Any) -> None:
        with pytest.raises(ConfigurationError, match=wrong(value, "a number of seconds, 0.001 to 86400")):
            reader(it=value).seconds("it", 7)

    @pytest.mark.parametrize("value", [True, False])
    def test_boolean(self, value: bool) -> None:
        assert reader(it=value).boolean("it", not value) is value

    @pytest.mark.parametrize("value", [0, 1, "true", None])
    def test_no_boolean(self, value: Any) -> None:
        with pytest.raises(ConfigurationError, match=wrong(value, "true or false")):
            reader(it=value).boolean("it", True)

    def test_string(self) -> None:
        assert reader(it="x").string("it") == "x"

    @pytest.mark.parametrize("value", [0, b"x", ["x"]])
    def test_no_string(self, value: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^tea: it is .*, not a string$"):
            reader(it=value).string("it")

    @pytest.mark.parametrize("value", [[], ["x"], ("x", "y")])
    def test_strings(self, value: Any) -> None:
        assert reader(it=value).strings("it") == list(value)

    def test_strings_are_a_new_list(self) -> None:
        value = ["x"]
        assert reader(it=value).strings("it") is not value

    @pytest.mark.parametrize("value", ["x", None, {"x"}, ["x", 1], [b"x"]])
    def test_no_strings(self, value: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^tea: it is .*, not a list of strings$"):
            reader(it=value).strings("it")
