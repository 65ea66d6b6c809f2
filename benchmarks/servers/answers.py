"""What the handlers of the async cells do with a message, the same with each server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

with suppress(ImportError):  # without it, no cell has the style
    import orjson

Answer = Callable[[Any], Awaitable[Any]]


def worked(request: dict[str, Any]) -> dict[str, Any]:
    """Make an answer of a request; `worked.cjs` does the same."""
    return {
        "id": request["id"],
        "ok": True,
        "user": request["user"],
        "total": sum(request["amounts"]),
        "tags": request["tags"],
        "at": request["at"],
    }


async def echo(message: Any) -> Any:
    """Say back what comes."""
    return message


async def answer_json(message: Any) -> str:
    """Read JSON, make a dict, write JSON: by the standard library."""
    return json.dumps(worked(json.loads(message)), separators=(",", ":"))


async def answer_orjson(message: Any) -> str:
    """The same by orjson."""
    answer: bytes = orjson.dumps(worked(orjson.loads(message)))
    return answer.decode()


async def wait(message: Any) -> Any:
    """Let the others have a turn of the loop."""
    await asyncio.sleep(0)
    return message


async def wait_for_future(message: Any) -> Any:
    """Wait for what another callback of the loop brings, as from a queue or a database."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    loop.call_soon(future.set_result, message)
    return await future


#: By the names of the styles.
ANSWERS: dict[str, Answer] = {
    "echo": echo,
    "json": answer_json,
    "orjson": answer_orjson,
    "wait": wait,
    "future": wait_for_future,
}
STYLES = frozenset(ANSWERS)
