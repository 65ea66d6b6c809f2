"""Lets no test see what another one left in a cache of wshost's: it would pass or fail, and cover, by their order."""

from __future__ import annotations

import sys
from functools import _lru_cache_wrapper

import pytest


@pytest.fixture(autouse=True)
def empty_caches() -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("wshost."):
            for value in vars(module).values():
                if isinstance(value, _lru_cache_wrapper):
                    value.cache_clear()
