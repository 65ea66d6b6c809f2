from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from wshost.backplanes.settings import BackplaneSettings, Broker


def test_settings_are_values() -> None:
    one, other = (BackplaneSettings(scheme="nats", brokers=(Broker("a", 1),)) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    with pytest.raises(FrozenInstanceError):
        one.patience = 1  # type: ignore[misc]
