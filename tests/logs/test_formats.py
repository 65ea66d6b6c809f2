from __future__ import annotations

import json
from dataclasses import replace

import pytest

from wshost.logs.entry import Entry
from wshost.logs.formats import FORMATS, json_line, text_line

#: 2026-11-27, 01:02:03.004005 in UTC.
TIME = 1_795_741_323.004005
FAILED = Entry(
    TIME,
    "error",
    "wshost",
    "it failed",
    "c7",
    "[::1]:5000",
    "/chat/*",
    traceback="Traceback:\n  a line\nValueError: no",
)


class TestText:
    def test_a_line_has_the_time_in_utc_the_level_the_logger_and_the_message(self) -> None:
        assert text_line(Entry(TIME, "info", "chat", "hello")) == "2026-11-27T01:02:03.004Z info chat: hello"

    def test_a_connection_is_named_and_its_traceback_is_indented(self) -> None:
        assert text_line(FAILED).splitlines() == [
            "2026-11-27T01:02:03.004Z error wshost: [c7 [::1]:5000 /chat/*] it failed",
            "    Traceback:",
            "      a line",
            "    ValueError: no",
        ]

    def test_a_connection_without_an_address_is_named_alone(self) -> None:
        assert text_line(Entry(TIME, "info", "chat", "hello", "c7")).endswith("chat: [c7] hello")

    def test_a_worker_is_named_unless_the_connections_id_names_it(self) -> None:
        entry = Entry(TIME, "info", "chat", "hello", worker="w2")
        assert text_line(entry).endswith("chat: [w2] hello")
        assert text_line(replace(entry, connection="w2c7")).endswith("chat: [w2c7] hello")

    @pytest.mark.parametrize("part", ["message", "logger", "peer", "connection", "traceback"])
    def test_nobody_can_forge_an_entry(self, part: str) -> None:
        """CWE-117."""
        forged = "x\r\n2026-01-01T00:00:00.000Z info wshost: \x1b[1mroot\x85logged in\u2028"
        entry = replace(Entry(TIME, "info", "chat", "hello"), **{part: forged})  # type: ignore[arg-type]
        first, *others = text_line(entry).splitlines()
        assert first.startswith("2026-11-27T01:02:03.004Z info ")
        assert others
        assert all(line.startswith("    ") for line in others)
        assert not set(text_line(entry)) & set("\r\x1b\x85\u2028")


class TestJson:
    def test_an_entry_is_one_object_of_the_keys_that_there_are(self) -> None:
        assert json.loads(json_line(Entry(TIME, "info", "chat", "hello"))) == {
            "time": "2026-11-27T01:02:03.004005Z",
            "level": "info",
            "logger": "chat",
            "message": "hello",
        }

    def test_a_failure_has_all_keys(self) -> None:
        assert json.loads(json_line(FAILED)) == {
            "time": "2026-11-27T01:02:03.004005Z",
            "level": "error",
            "logger": "wshost",
            "message": "it failed",
            "connection": "c7",
            "peer": "[::1]:5000",
            "route": "/chat/*",
            "traceback": "Traceback:\n  a line\nValueError: no",
        }

    def test_a_worker_is_a_key(self) -> None:
        assert json.loads(json_line(Entry(TIME, "info", "chat", "hello", worker="w2")))["worker"] == "w2"

    def test_facts_are_keys(self) -> None:
        entry = Entry(TIME, "info", "wshost.access", "path=/", facts={"path": "/", "seconds": 1.5})
        assert json.loads(json_line(entry)).items() >= {"message": "path=/", "path": "/", "seconds": 1.5}.items()

    def test_any_text_is_a_line_of_printable_ascii(self) -> None:
        text = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x11_0000)]))
        line = json_line(Entry(TIME, "info", "chat", text))
        assert line.isascii()
        assert line.isprintable()
        assert json.loads(line)["message"] == text


def test_the_formats_are_found_by_name() -> None:
    assert dict(FORMATS) == {"text": text_line, "json": json_line}
