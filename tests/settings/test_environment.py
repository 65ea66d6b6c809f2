from __future__ import annotations

from typing import Any

import pytest

from wshost.results import ConfigurationError
from wshost.settings import environment
from wshost.settings.options import OPTIONS, Settings


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", "80", 80),
        ("max_message_size", "64KiB", 65_536),
        ("ping_interval", "2.5", 2.5),
        ("handler", "my chat:live", "my chat:live"),
        ("compress", "1", True),
        ("compress", "Yes", True),
        ("compress", "false", False),
        ("compress", "off", False),
        ("origin", "https://a.example  https://b.example\n*", ["https://a.example", "https://b.example", "*"]),
        (
            "handler_option",
            """room=1 'title=My chat' motto="a \\ b" """,
            {"room": "1", "title": "My chat", "motto": "a \\ b"},
        ),
        ("listen", r"tcp6:8080:interface=\:\: unix:/run/a#b", [r"tcp6:8080:interface=\:\:", "unix:/run/a#b"]),
        ("log_level", "debug", "debug"),
    ],
)
def test_a_variable_is_read_as_the_option_of_its_name(name: str, text: str, value: Any) -> None:
    assert environment.read({f"WSHOST_{name.upper()}": text}) == {name: value}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_has_a_variable(name: str) -> None:
    assert environment.variable(OPTIONS[name]) == f"WSHOST_{name.upper()}"


def test_what_is_empty_or_no_option_is_left_alone() -> None:
    others = {"WSHOST_PORT": "", "WSHOST_PURE": "1", "WSHOST_SERVICE_HOST": "10.0.0.1", "PORT": "80"}
    assert environment.read(others) == {}


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("port", "http", "'http' is not a whole number from 0 to 65535"),
        ("compress", "maybe", "'maybe' is not true or false"),
        ("handler_option", "room", "'room' is not KEY=VALUE"),
        ("origin", "'https://a", "No closing quotation"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable(name: str, text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        environment.read({f"WSHOST_{name.upper()}": text})
    assert str(caught.value) == f"WSHOST_{name.upper()}: {complaint}"


def test_what_looks_like_an_option_is_found() -> None:
    variables = {
        "WSHOST_PROT": "1",
        "WSHOST_PORT": "1",
        "WSHOST_MAX_CONNECTION": "1",
        "WSHOST_PURE": "1",
        "PROT": "1",
        "WSHOST_CONFIG": "x",
    }
    assert list(environment.misspelt(variables)) == [
        ("WSHOST_MAX_CONNECTION", "WSHOST_MAX_CONNECTIONS"),
        ("WSHOST_PROT", "WSHOST_PORT"),
    ]
    assert Settings(**environment.read({"WSHOST_PORT": "1"})).port == 1
