from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wshost.client import requests
from wshost.client.requests import Request
from wshost.connections.ref import Ref

TEXT = "web-1.hD3kP0aQ9zE.c17"
BOOT = "hD3kP0aQ9zE"
NO_MESSAGE: Any = 3


@pytest.mark.parametrize("ref", [TEXT, Ref.parse(TEXT)])
def test_a_reference_or_its_text_names_a_connection_of_a_home(ref: Ref | str) -> None:
    assert requests.ping(ref, "now") == Request(None, BOOT, ("ping", "c17", b"now"))


def test_each_action_is_one_that_the_other_process_knows() -> None:
    assert requests.publish("room", b"hi") == Request("room", "", b"hi")
    assert requests.send(TEXT, "hi", None).message == ("send", "c17", "hi", None)
    assert requests.send(TEXT, "hi", "price").message == ("send", "c17", "hi", "price")
    assert requests.info(TEXT, {"a": 1}).message == ("info", "c17", {"a": 1})
    assert requests.close(TEXT, 4000, "bye").message == ("close", "c17", 4000, "bye")


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda: requests.publish("", "hi"), ValueError),
        (lambda: requests.publish("rooms.*", "hi"), ValueError),
        (lambda: requests.publish("room", NO_MESSAGE), TypeError),
        (lambda: requests.send("no reference", "hi", None), ValueError),
        (lambda: requests.send(TEXT, "hi", ""), ValueError),
        (lambda: requests.close(TEXT, 1006, ""), ValueError),
        (lambda: requests.ping(TEXT, b"x" * 126), ValueError),
    ],
)
def test_what_can_not_be_sent_raises(wrong: Callable[[], Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        wrong()
