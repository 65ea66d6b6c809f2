"""wshost's handlers of the async cells: `async def handle`, as most people write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.servers.answers import answer_json, answer_orjson, wait, wait_for_future


class Echo:
    """Says back what it hears."""

    def init(self, _options: Mapping[str, Any]) -> None: ...

    async def handle(self, message: Any, state: None) -> tuple[Any, ...]:
        match message:
            case ("text" | "binary", data):
                return ("reply", data, state)
        return ("noreply", state)


class Json(Echo):
    """Answers JSON with JSON."""

    async def handle(self, message: Any, state: None) -> tuple[Any, ...]:
        match message:
            case ("text", data):
                return ("reply", await answer_json(data), state)
        return ("noreply", state)


class Orjson(Echo):
    """Answers JSON with JSON, by orjson."""

    async def handle(self, message: Any, state: None) -> tuple[Any, ...]:
        match message:
            case ("text", data):
                return ("reply", await answer_orjson(data), state)
        return ("noreply", state)


class Wait(Echo):
    """Says back what it hears, after a turn of the loop."""

    async def handle(self, message: Any, state: None) -> tuple[Any, ...]:
        match message:
            case ("text", data):
                return ("reply", await wait(data), state)
        return ("noreply", state)


class Future(Echo):
    """Says back what it hears, when a future has it."""

    async def handle(self, message: Any, state: None) -> tuple[Any, ...]:
        match message:
            case ("text", data):
                return ("reply", await wait_for_future(data), state)
        return ("noreply", state)
