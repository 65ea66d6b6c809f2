from __future__ import annotations

from pathlib import Path

import pytest

from wshost.results import ConfigurationError
from wshost.settings.file import read

EVERYTHING = """
port = 9000
interface = "::1"
handler = "chat"
origin = ["https://a.example", "https://b.example"]
compress = true
max-message-size = "64KiB"
max_connections = 5
ping-interval = 2.5

[handler-option]
rooms = 3
names = ["a", "b"]

[route]
"/chat" = "chat"

[[protocol_modules]]
module = "http"
max-head-size = 8192

[[protocol_modules]]
module = "websocket"
"""


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def complaint(text: str | bytes) -> str:
    Path("chat.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError) as caught:
        read("chat.toml")
    return str(caught.value)


def test_every_kind_of_option_can_be_in_a_file() -> None:
    Path("chat.toml").write_text(EVERYTHING, encoding="utf-8")
    assert read("chat.toml") == {
        "port": 9000,
        "interface": "::1",
        "handler": "chat",
        "origin": ["https://a.example", "https://b.example"],
        "compress": True,
        "max_message_size": 65_536,
        "max_connections": 5,
        "ping_interval": 2.5,
        "handler_option": {"rooms": 3, "names": ["a", "b"]},
        "route": {"/chat": "chat"},
        "protocol_module": [("http", {"max_head_size": 8192}), ("websocket", {})],
    }


class TestAFileThatCannotBeRead:
    def test_a_missing_file_is_named(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^none\.toml: No such file or directory$"):
            read("none.toml")

    def test_a_file_that_is_not_utf_8_is_refused(self) -> None:
        assert complaint(b'handler = "caf\xe9"') == "chat.toml: is not UTF-8"

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("port = 1\n\nhandler = chat\n", "line 3: Invalid value"),
            ("port = 1\nport = 2\n", "line 2: Cannot overwrite a value"),
            ("port = 1\norigin = [\n", "line 2: Invalid value"),
            ("port =", "line 1: Invalid value"),
        ],
    )
    def test_a_syntax_error_is_said_with_its_line(self, text: str, expected: str) -> None:
        assert complaint(text) == f"chat.toml: {expected}"


class TestAWrongOption:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("prot = 1", "line 1: unknown option 'prot'; did you mean port?"),
            ("# a comment\n\nprot = 1\n", "line 3: unknown option 'prot'; did you mean port?"),
            ("port = 1\r\nmax-output = true\r\n", "line 2: max-output: True is not a size from 1 to"),
            ('handler = """\nport = 70000\n"""\nport = 70000\n', "line 4: port: 70000 is not a whole number"),
            ('port = 1\norigin = [\n  "a",\n  5,\n]\ncompress = true\n', "line 2: origin: 5 is not a string"),
            ("max-connections = 1\nnumber_of_workers = 1\n", "line 2: number_of_workers is given twice"),
            ("[handler-option]\na = 1\n[rout]\n", "line 3: unknown option 'rout'; did you mean route?"),
            (
                "[[protocol_modules]]\nmodule = 'http'\n[[protocol_modules]]\ntimeout = 5\n",
                "line 3: protocol_modules: a protocol module needs its name, as in module = 'http'",
            ),
            ("protocol_modules = ['http', 5]\n", "line 1: protocol_modules: 5 is not a protocol module"),
            ("handler-option.rout = 1\n[handler-option.more]\nrout = 2\n[rout]\n", "line 4: unknown option 'rout'"),
            ("[route]\nrout = 'chat'\n[rout.x]\n", "line 3: unknown option 'rout'"),
            ("compress = true\nrout.x = 'chat'\n", "line 2: unknown option 'rout'"),
            ("'prot' = 1\n", "line 1: unknown option 'prot'"),
            ("port = 1  # '''\nhandler = '''\nprot = 1\n'''\nprot = '''x'''\n", "line 5: unknown option 'prot'"),
            ('port = 1\nhandler = """\\"""\nprot = 2\n""""\n"prot" = 1\n', "line 5: unknown option 'prot'"),
        ],
    )
    def test_a_wrong_option_is_said_with_its_line(self, text: str, expected: str) -> None:
        assert complaint(text).startswith(f"chat.toml: {expected}")

    def test_a_wrong_option_whose_key_has_escapes_is_said_without_a_line(self) -> None:
        assert complaint('port = 1\n"p\\u0072ot" = 1\n').startswith("chat.toml: unknown option 'prot'")
