"""Lets a coroutine take one step. Knows no tasks. `steps.pyx` does the same in C, without a StopIteration."""

from __future__ import annotations

from collections.abc import Coroutine
from contextvars import Context
from typing import Any


def step(context: Context, coroutine: Coroutine[Any, Any, Any]) -> tuple[bool, Any]:
    """Let a coroutine run in a context until it waits or returns.

    :returns: whether it has returned; and its result, or what it waits for.
    :raises BaseException: what the coroutine raises.
    """
    try:
        return False, context.run(coroutine.send, None)
    except StopIteration as stop:
        return True, stop.value
