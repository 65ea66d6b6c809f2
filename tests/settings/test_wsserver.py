"""The original's own names; what its options do is in `tests/regressions/test_behaviour_of_wsserver.py`."""

from __future__ import annotations

from typing import Any

import pytest

from wshost.results import ConfigurationError
from wshost.settings import wsserver


class TestTheOptionsOfAServer:
    @pytest.mark.parametrize("name", ["protocol_modules", "protocol_modules_options"])
    def test_worker_options_stand_beside_the_others(self, name: str) -> None:
        given = [("port", 8080), ("worker_options", [(name, ["http"])])]
        assert wsserver.translate(given) == ({"port": 8080, name: ["http"]}, None)

    def test_register_is_the_name_of_the_service(self) -> None:
        assert wsserver.translate({"register": "chat", "port": 8080}) == ({"port": 8080}, "chat")

    def test_the_mapping_is_left_as_it_was(self) -> None:
        given = {"register": "chat", "worker_options": {"protocol_modules": []}}
        wsserver.translate(given)
        assert given == {"register": "chat", "worker_options": {"protocol_modules": []}}

    @pytest.mark.parametrize(
        ("given", "complaint"),
        [
            (5, "the options: 5 is not a table"),
            ({"worker_options": 5}, "worker_options: 5 is not a table"),
            ({"worker_options": {"a": 5}}, "worker_options: unknown option 'a'"),
            (
                {"protocol_modules": [], "worker_options": {"protocol_modules": []}},
                "worker_options: protocol_modules is given twice",
            ),
            ({"register": ("local", "chat")}, "register: ('local', 'chat') is not a string"),
        ],
    )
    def test_wrong_options_are_named(self, given: Any, complaint: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            wsserver.translate(given)
        assert str(caught.value) == complaint


class TestAProtocolModule:
    @pytest.mark.parametrize(
        ("name", "ours"),
        [
            ("wsserver_http_protocol", "http"),
            ("wsserver_websocket_protocol", "websocket"),
            ("websocket", "websocket"),
            ("examples.knock", "examples.knock"),
        ],
    )
    def test_a_protocol_module_of_the_original_has_our_name(self, name: str, ours: str) -> None:
        assert wsserver.module(name, {"a": 1}) == (ours, {"a": 1})

    def test_handler_module_is_another_name_for_the_handler_of_websocket(self) -> None:
        given = {"handler_module": "chat"}
        assert wsserver.module("websocket", given) == ("websocket", {"handler": "chat"})
        assert given == {"handler_module": "chat"}

    def test_handler_module_is_left_to_other_modules(self) -> None:
        assert wsserver.module("mine", {"handler_module": "chat"}) == ("mine", {"handler_module": "chat"})

    def test_two_handlers_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^websocket: handler_module is another name for handler: "):
            wsserver.module("wsserver_websocket_protocol", {"handler_module": "chat", "handler": "chat"})
