"""The async handlers' work: the same for each server in Python."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

with suppress(ImportError):  # without it, its cells are left out
    import orjson

Answer = Callable[[Any], Awaitable[Any]]


def worked(request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a request; `arguments.cjs` and `gorilla_server.go` do the same."""
    return {
        "id": request["id"],
        "ok": True,
        "user": request["user"],
        "total": sum(request["amounts"]),
        "tags": request["tags"],
        "at": request["at"],
    }


async def echo(message: Any) -> Any:
    """Return the message."""
    return message


async def answer_json(message: Any) -> str:
    """Answer JSON with JSON, by the standard library."""
    return json.dumps(worked(json.loads(message)), separators=(",", ":"))


async def answer_orjson(message: Any) -> str:
    """Answer JSON with JSON, by orjson."""
    answer: bytes = orjson.dumps(worked(orjson.loads(message)))
    return answer.decode()


async def wait(message: Any) -> Any:
    """Return the message after one turn of the event loop."""
    await asyncio.sleep(0)
    return message


async def wait_for_future(message: Any) -> Any:
    """Return the message from a future that another callback sets, as a queue or a database does."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    loop.call_soon(future.set_result, message)
    return await future


#: The handlers by name; a cell's style is one of these.
ANSWERS: dict[str, Answer] = {
    "echo": echo,
    "json": answer_json,
    "orjson": answer_orjson,
    "wait": wait,
    "future": wait_for_future,
}
STYLES = frozenset(ANSWERS)
