from __future__ import annotations

import os
from enum import Enum, IntEnum
from typing import Any

import pytest

from wshost.settings.kinds import (
    Anything,
    Choice,
    Flag,
    Integer,
    Kind,
    Module,
    Network,
    OneOrSeveral,
    Processes,
    Seconds,
    Several,
    Size,
    Table,
    Text,
    mapping,
)

PAIR = ("http", {"max_head_size": 8192})


class TestFromTheCommandLine:
    @pytest.mark.parametrize(
        ("kind", "text", "value"),
        [
            (Integer(0, 65535), "0", 0),
            (Integer(0, 65535), "65535", 65535),
            (Size(1, 1 << 40), "1", 1),
            (Size(1, 1 << 40), "64K", 65_536),
            (Size(1, 1 << 40), "64KiB", 65_536),
            (Size(1, 1 << 40), "1 mib", 1_048_576),
            (Size(1, 1 << 40), "2GiB", 2_147_483_648),
            (Seconds(0, 10), "0", 0.0),
            (Seconds(0, 10), "2.5", 2.5),
            (Seconds(0, 10), "10", 10.0),
            (Flag(), "", True),
            (Text("FILE"), "a b", "a b"),
            (Network(), "10.0.0.0/8", "10.0.0.0/8"),
            (Network(), "unix", "unix"),
            (Anything("HANDLER"), "chat", "chat"),
            (Several(Integer(0, 9)), "7", [7]),
            (Table("KEY=VALUE"), "a=1", {"a": "1"}),
            (Table("KEY=VALUE"), "a=b=c", {"a": "b=c"}),
            (Table("KEY=VALUE"), "a=", {"a": ""}),
            (Module(), "http", ("http", {})),
            (Module(), "http,max-head-size=8192", PAIR),
            (
                Module(),
                "x.y,a=-1,b=2.5,c=true,d=false,e=text,f=1.,g=64KiB,h=",
                ("x.y", {"a": -1, "b": 2.5, "c": True, "d": False, "e": "text", "f": "1.", "g": "64KiB", "h": ""}),
            ),
        ],
    )
    def test_text_becomes_a_value_of_the_kind(self, kind: Kind[Any], text: str, value: Any) -> None:
        read = kind.add(None, text)
        assert read == value
        assert type(read) is type(value)

    def test_each_use_adds_to_a_list(self) -> None:
        kind = Several(Text("ORIGIN"))
        assert kind.add(kind.add(None, "b"), "a") == ["b", "a"]

    def test_each_use_adds_to_a_table(self) -> None:
        kind = Table("KEY=VALUE")
        assert kind.add(kind.add(None, "b=1"), "a=2") == {"b": "1", "a": "2"}

    @pytest.mark.parametrize(
        ("kind", "text", "complaint"),
        [
            (Integer(0, 65535), "65536", "65536 is not a whole number from 0 to 65535"),
            (Integer(0, 65535), "-1", "'-1' is not a whole number from 0 to 65535"),
            (Integer(0, 65535), "1e3", "'1e3' is not a whole number from 0 to 65535"),
            (Integer(0, 65535), "", "'' is not a whole number from 0 to 65535"),
            (Integer(0, 65535), "²", "'²' is not a whole number from 0 to 65535"),
            (Size(1, 2048), "0", "'0' is not a size from 1 to 2048, such as 65536 or 64KiB"),
            (Size(1, 2048), "3KiB", "'3KiB' is not a size from 1 to 2048, such as 65536 or 64KiB"),
            (Size(1, 2048), "1KB", "'1KB' is not a size from 1 to 2048, such as 65536 or 64KiB"),
            (Size(1, 2048), "1.5K", "'1.5K' is not a size from 1 to 2048, such as 65536 or 64KiB"),
            (Seconds(0.001, 60), "0", "'0' is not a number of seconds from 0.001 to 60"),
            (Seconds(0.001, 60), "soon", "'soon' is not a number of seconds from 0.001 to 60"),
            (Seconds(0.001, 60), "nan", "'nan' is not a number of seconds from 0.001 to 60"),
            (Seconds(0.001, 60), "inf", "'inf' is not a number of seconds from 0.001 to 60"),
            (Text("FILE"), "", "'' is not a string of one or more characters"),
            (Several(Text("FILE")), "", "'' is not a string of one or more characters"),
            (Network(), "", "'' is not a string of one or more characters"),
            (
                Network(),
                "proxy.example",
                "'proxy.example' is not an address, a network such as 10.0.0.0/8 or 2001:db8::/32, or unix",
            ),
            (Table("PATH=HANDLER"), "/chat", "'/chat' is not PATH=HANDLER"),
            (Table("PATH=HANDLER"), "=chat", "'=chat' is not PATH=HANDLER"),
            (Module(), "", "'' is not a string of one or more characters"),
            (Module(), "http,fast", "'fast' is not KEY=VALUE"),
            (Module(), "http,a=1,a=2", "'a' is given twice"),
        ],
    )
    def test_wrong_text_is_named_with_what_is_wanted(self, kind: Kind[Any], text: str, complaint: str) -> None:
        with pytest.raises(ValueError, match=r"^") as caught:
            kind.add(None, text)
        assert str(caught.value) == complaint

    def test_a_key_given_twice_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"^'a' is given twice$"):
            Table("KEY=VALUE").add({"a": "1"}, "a=2")


class TestFromAFile:
    @pytest.mark.parametrize(
        ("kind", "given", "value"),
        [
            (Integer(0, 9), 9, 9),
            (Size(1, 2048), 2048, 2048),
            (Size(1, 2048), "2KiB", 2048),
            (Seconds(0, 10), 3, 3.0),
            (Seconds(0, 10), 2.5, 2.5),
            (Flag(), False, False),
            (Flag(), True, True),
            (Text("FILE"), "a", "a"),
            (Anything("HANDLER"), "chat", "chat"),
            (Several(Text("FILE")), ["a", "b"], ["a", "b"]),
            (Several(Text("FILE")), ("a", "b"), ["a", "b"]),
            (Several(Text("FILE")), [], []),
            (OneOrSeveral(Text("FILE")), "a", ["a"]),
            (OneOrSeveral(Text("FILE")), ["a", "b"], ["a", "b"]),
            (Table("KEY=VALUE"), {"a": 1}, {"a": 1}),
            (Module(), "http,max-head-size=8192", PAIR),
            (Module(), {"module": "http", "max-head-size": 8192}, PAIR),
            (Module(), {"module": "http"}, ("http", {})),
            (Module(), ("http", {"max_head_size": 8192}), PAIR),
            (Module(), ["http", [("max_head_size", 8192)]], PAIR),
        ],
    )
    def test_a_value_of_the_kind_is_taken(self, kind: Kind[Any], given: Any, value: Any) -> None:
        checked = kind.check(given)
        assert checked == value
        assert type(checked) is type(value)

    def test_a_handler_may_be_any_object(self) -> None:
        given = object()
        assert Anything("HANDLER").check(given) is given

    @pytest.mark.parametrize(
        ("kind", "given", "complaint"),
        [
            (Integer(0, 9), "5", "'5' is not a whole number from 0 to 9"),
            (Integer(0, 9), True, "True is not a whole number from 0 to 9"),
            (Integer(0, 9), 5.0, "5.0 is not a whole number from 0 to 9"),
            (Integer(0, 9), 10, "10 is not a whole number from 0 to 9"),
            (Size(1, 9), True, "True is not a size from 1 to 9, such as 65536 or 64KiB"),
            (Size(1, 9), "ten", "'ten' is not a size from 1 to 9, such as 65536 or 64KiB"),
            (Size(1, 9), 0, "0 is not a size from 1 to 9, such as 65536 or 64KiB"),
            (Seconds(0, 9), "5", "'5' is not a number of seconds from 0 to 9"),
            (Seconds(0, 9), True, "True is not a number of seconds from 0 to 9"),
            (Seconds(0, 9), 9.5, "9.5 is not a number of seconds from 0 to 9"),
            (Seconds(0, 9), float("nan"), "nan is not a number of seconds from 0 to 9"),
            (Flag(), 1, "1 is not true or false"),
            (Flag(), "true", "'true' is not true or false"),
            (Text("FILE"), "a\0b", "'a\\x00b' has a null character"),
            (Text("FILE"), 1, "1 is not a string of one or more characters"),
            (Several(Text("FILE")), "a", "'a' is not a list"),
            (Several(Text("FILE")), ["a", 1], "1 is not a string of one or more characters"),
            (Table("KEY=VALUE"), "a=1", "'a=1' is not a table"),
            (Module(), 1, "1 is not a protocol module and its options"),
            (Module(), ["http"], "['http'] is not a protocol module and its options"),
            (Module(), {"name": "http"}, "a protocol module needs its name, as in module = 'http'"),
            (Module(), ("http", 1), "1 is not a table"),
            (Module(), (1, {}), "1 is not a string of one or more characters"),
        ],
    )
    def test_a_wrong_value_is_named_with_what_is_wanted(self, kind: Kind[Any], given: Any, complaint: str) -> None:
        with pytest.raises(ValueError, match=r"^") as caught:
            kind.check(given)
        assert str(caught.value) == complaint


class Word(str, Enum):  # noqa: UP042 - what is formatted otherwise
    PORT = "8080"
    SIZE = "64KiB"
    MODULE = "http,timeout=5"


class Port(IntEnum):
    HTTP = 80


class TestMembersOfAnEnumeration:
    @pytest.mark.parametrize(
        ("kind", "given", "value"),
        [
            (Integer(0, 65535), Port.HTTP, 80),
            (Size(1, 1 << 40), Port.HTTP, 80),
            (Size(1, 1 << 40), Word.SIZE, 65_536),
            (Seconds(0, 100), Port.HTTP, 80.0),
            (Text("FILE"), Word.PORT, "8080"),
            (Several(Text("FILE")), [Word.PORT], ["8080"]),
            (Table("KEY=VALUE"), {Word.PORT: 1}, {"8080": 1}),
            (Module(), Word.MODULE, ("http", {"timeout": 5})),
        ],
    )
    def test_a_member_of_an_enumeration_is_taken_as_the_exact_type_of_its_value(
        self, kind: Kind[Any], given: Any, value: Any
    ) -> None:
        checked = kind.check(given)
        assert (checked, type(checked), repr(checked)) == (value, type(value), repr(value))


class TestMapping:
    def test_a_table_is_a_copy_of_the_mapping(self) -> None:
        given = {"a": 1}
        assert mapping(given) == given
        assert mapping(given) is not given

    @pytest.mark.parametrize("given", [[("a", 1), ("b", 2)], (["a", 1], ["b", 2])])
    def test_a_list_of_pairs_is_a_table(self, given: Any) -> None:
        assert mapping(given) == {"a": 1, "b": 2}

    @pytest.mark.parametrize("given", ["", "ab", 1, None, ["ab"], [("a", 1, 2)], {"a"}])
    def test_what_is_no_mapping_and_no_list_of_pairs_is_no_table(self, given: Any) -> None:
        with pytest.raises(ValueError, match="is not a table"):
            mapping(given)

    @pytest.mark.parametrize(
        ("given", "complaint"),
        [({1: 2}, "1 is not a name"), ([("a", 1), ("a", 2)], "'a' is given twice")],
    )
    def test_the_keys_of_a_table_are_different_strings(self, given: Any, complaint: str) -> None:
        with pytest.raises(ValueError, match=f"^{complaint}$"):
            mapping(given)


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (Integer(0, 9), 7, "7"),
        (Size(0, 1 << 40), 1_000, "1000"),
        (Size(0, 1 << 40), 16_384, "16KiB"),
        (Size(0, 1 << 40), 1 << 20, "1MiB"),
        (Size(0, 1 << 40), 3 << 30, "3GiB"),
        (Seconds(0, 9), 5.0, "5"),
        (Seconds(0, 9), 2.5, "2.5"),
        (Flag(), True, "true"),
        (Text("ADDRESS"), "::1", "::1"),
    ],
)
def test_a_value_is_shown_as_one_would_write_it(kind: Kind[Any], value: Any, shown: str) -> None:
    assert kind.show(value) == shown


@pytest.mark.parametrize(
    ("kind", "repeatable"),
    [(Several(Text("NAME")), True), (Table("KEY=VALUE"), True), (Text("NAME"), False), (Flag(), False)],
)
def test_only_lists_and_tables_are_repeatable(kind: Kind[Any], repeatable: bool) -> None:
    assert kind.repeatable is repeatable


@pytest.mark.parametrize(
    ("kind", "metavar"),
    [
        (Integer(0, 9), "N"),
        (Integer(0, 9, "PORT"), "PORT"),
        (Size(0, 9), "SIZE"),
        (Seconds(0, 9), "SECONDS"),
        (Flag(), ""),
        (Several(Text("FILE")), "FILE"),
        (Module(), "NAME[,KEY=VALUE...]"),
    ],
)
def test_a_metavar_stands_for_the_value_in_the_help(kind: Kind[Any], metavar: str) -> None:
    assert kind.metavar == metavar


class TestChoice:
    def test_a_word_of_the_choice_is_taken(self) -> None:
        kind = Choice("FORMAT", "text", "json")
        assert kind.metavar == "FORMAT"
        assert kind.add(None, "json") == kind.check("json") == "json"

    @pytest.mark.parametrize("value", ["xml", "", 1, None])
    def test_anything_else_is_refused(self, value: Any) -> None:
        with pytest.raises(ValueError, match=f"^{value!r} is none of text, json$"):
            Choice("FORMAT", "text", "json").check(value)

    def test_a_word_that_is_a_number_may_be_given_as_one(self) -> None:
        kind = Choice("CODE", "1001", "1012")
        assert kind.check(1012) == kind.check("1012") == "1012"
        with pytest.raises(ValueError, match=r"^1000 is none of 1001, 1012$"):
            kind.check(1000)


class TestProcesses:
    def test_auto_is_one_for_each_processor_that_this_process_may_use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kind = Processes(1, 3)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5}, raising=False)
        assert (kind.add(None, "auto"), kind.check("auto"), kind.add(None, "1"), kind.check(3)) == (2, 2, 1, 3)
        monkeypatch.delattr(os, "sched_getaffinity")
        monkeypatch.setattr(os, "cpu_count", lambda: 7)
        assert kind.check("auto") == 3
        monkeypatch.setattr(os, "cpu_count", lambda: None)
        assert kind.check("auto") == 1

    def test_another_number_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'many' is not a whole number from 1 to 3"):
            Processes(1, 3).check("many")
