from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.workers.supervised import Endpoint, Scene
from wshost.results import ConfigurationError


@pytest.mark.parametrize(
    ("given", "scheme"),
    [
        ({"tls_cert": ["x"]}, "wss"),
        ({"protocol_module": [("lines", {})]}, "tcp"),
        ({"protocol_module": [(object(), {})], "tls_cert": ["x"]}, "tls"),
    ],
)
def test_the_log_names_the_urls_scheme(made: Callable[..., Scene], given: dict[str, Any], scheme: str) -> None:
    scene = made(**given)
    scene.start()
    assert scene.listener.events[0][1:] == (scheme, scheme)


def test_the_endpoint_listens_with_the_others_and_stops_last(watched: Scene, endpoints: list[Endpoint]) -> None:
    [endpoint] = endpoints
    watched.supervisor.bind(unix=False)
    watched.start()
    assert endpoint.events == [("listen", False), ("listen", True), "announce"]
    watched.supervisor.stopService()
    watched.end(1)
    assert endpoint.events[-1] == "announce"
    watched.end(2)
    assert endpoint.events[-1] == "stop"


def test_an_endpoint_that_is_taken_closes_the_others(watched: Scene, endpoints: list[Endpoint]) -> None:
    endpoints[0].fails = True
    with pytest.raises(ConfigurationError, match="it is taken"):
        watched.supervisor.bind()
    assert watched.listener.events[-1] == "stop"
