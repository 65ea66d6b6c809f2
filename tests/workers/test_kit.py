from __future__ import annotations

import pytest

from wshost.results import ConfigurationError
from wshost.workers.kit import Kit, unpacked


def test_what_is_packed_is_unpacked() -> None:
    kit = Kit({"port": 80, "trust_proxy": ["10.0.0.0/8"]}, "/etc/chat", "/var/log/chat", 1)
    assert unpacked(kit.packed()) == kit


def test_too_many_options_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="too many to be passed on"):
        Kit({"handler_option": {"text": "x" * 200_000}}).packed()


def test_options_that_are_no_data_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="the options can't be passed on"):
        Kit({"handler": lambda: None}).packed()
