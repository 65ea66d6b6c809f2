"""A handler that shows how its connection is named, publishes, and sends to others: for tests of several processes."""

from __future__ import annotations

from typing import Any

import wshost


def init(options: Any) -> Any:
    ref = options["worker"]
    ref.subscribe("room", tell_lost=True)
    return ref


async def handle(message: Any, ref: Any) -> Any:
    match message:
        case ("text", "who"):
            return ("reply", str(ref), ref)
        case ("text", text) if text.startswith("all "):
            wshost.publish("room", text.removeprefix("all "))
        case ("text", text) if text.startswith("to "):
            _, to, what = text.split(" ", 2)
            outcome = await wshost.Ref.parse(to).send(what, confirm=True)
            return ("reply", outcome.value, ref)
        case ("text", text) if text.startswith("name "):
            return ("reply", str(wshost.register(text.removeprefix("name "), ref)), ref)
        case ("text", text) if text.startswith("whereis "):
            return ("reply", str(wshost.whereis(text.removeprefix("whereis "))), ref)
        case ("text", text) if text.startswith("monitor "):
            ref.monitor(wshost.Ref.parse(text.removeprefix("monitor ")))
        case ("info", ("down", other, reason)):
            return ("reply", f"down {other} {reason}", ref)
        case ("info", ("lost", topic, messages)):
            return ("reply", f"lost {topic} {messages}", ref)
    return ("noreply", ref)
