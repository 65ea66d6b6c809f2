from __future__ import annotations

import re
from dataclasses import FrozenInstanceError

import pytest

from wshost.backplanes.settings import BackplaneSettings, Broker


def test_settings_are_values() -> None:
    one, other = (BackplaneSettings(scheme="nats", brokers=(Broker("a", 1),)) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    with pytest.raises(FrozenInstanceError):
        one.patience = 1  # type: ignore[misc]


def test_settings_show_no_secret() -> None:
    """A username may be a token, and a query may have anything."""
    broker = Broker("host", 4_222, "token", "secret", path="master", query=(("key", "hidden"),))
    settings = BackplaneSettings(scheme="nats", brokers=(broker,))
    assert "host='host', port=4222" in repr(settings)
    assert not {"token", "secret", "hidden"} & set(re.findall(r"\w+", repr(settings)))


def test_settings_with_other_secrets_are_others() -> None:
    """Another user of a broker may be in another account."""
    one, other = (BackplaneSettings(scheme="nats", brokers=(Broker("a", 1, "u", word),)) for word in ("p", "q"))
    assert repr(one) == repr(other)
    assert one != other
