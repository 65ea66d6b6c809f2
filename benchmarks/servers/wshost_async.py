"""wshost's handlers for the async cells: `async def handle`, as most people write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.servers.answers import ANSWERS, Answer


class Echo:
    """Echoes."""

    def init(self, _options: Mapping[str, Any]) -> None: ...

    async def handle(self, message: Any, state: None) -> tuple[Any, ...]:
        match message:
            case ("text" | "binary", data):
                return ("reply", data, state)
        return ("noreply", state)


def answering(answer: Answer) -> type[Echo]:
    """Return a handler that answers texts."""

    class Handler(Echo):
        async def handle(self, message: Any, state: None) -> tuple[Any, ...]:
            match message:
                case ("text", data):
                    return ("reply", await answer(data), state)
            return ("noreply", state)

    return Handler


Json, Orjson, Wait, Future = (answering(ANSWERS[style]) for style in ("json", "orjson", "wait", "future"))
