"""Raises what the message says, in the style that the path says; says back all else, and notes each end."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Mapping
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred


class PanicException(BaseException):
    """As PyO3's: no `Exception`."""


def made(name: str) -> BaseException:
    if name == "PanicException":
        return PanicException("on purpose")
    if name == "BaseExceptionGroup":
        return BaseExceptionGroup("several", [PanicException(), ValueError()])
    if name == "SystemExit":
        return SystemExit(3)
    error: BaseException = getattr(builtins, name)("on purpose")
    return error


def plain(name: str) -> Any:
    raise made(name)


async def coroutine(name: str) -> Any:
    raise made(name)


async def waiting(name: str) -> Any:
    later: Deferred[None] = Deferred()
    reactor.callLater(0, later.callback, None)
    await later
    raise made(name)


def deferred(name: str) -> Any:
    later: Deferred[None] = Deferred()
    reactor.callLater(0, later.callback, None)
    return later.addCallback(lambda _: plain(name))


async def a_task_of_its_own(name: str) -> Any:
    # It is asyncio's, and its exception goes through the loop.
    await asyncio.get_running_loop().create_task(coroutine(name))


STYLES = {f"/{style.__name__}": style for style in (plain, coroutine, waiting, deferred, a_task_of_its_own)}


def init(options: Mapping[str, Any]) -> str:
    connection = options["connection"]
    if connection.query:
        STYLES[connection.path](connection.query)
    path: str = connection.path
    return path


def handle(message: Any, path: str) -> Any:
    match message:
        case ("text", "echo"):
            return ("reply", "echo", path)
        case ("text", name):
            return STYLES[path](name)
        case "connection_close":
            print("ended", path, flush=True)
    return ("noreply", path)
