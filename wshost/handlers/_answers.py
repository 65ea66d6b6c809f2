"""What `handle` may return, and what it asks of the channel by that; performs nothing."""

from __future__ import annotations

from reprlib import Repr
from typing import Any

from wshost.control import NORMAL_CLOSE, check_close, check_payload

#: Every form an answer can have.
FORMS = (
    '("noreply", state), ("reply", data, state), ("ping", state), ("ping", data, state), ("pong", state), '
    '("pong", data, state), ("close", state), ("close", code, reason, state)'
)

_short = Repr()
_short.maxlevel = 2


class WrongAnswer(ValueError):
    """A handler's `handle` has returned what means nothing.

    :param answer: what it has returned.
    :param problem: what is wrong with that, and what is right.
    """

    def __init__(self, answer: Any, problem: str) -> None:
        super().__init__(f"handle returned {_short.repr(answer)}: {problem}")


def read(answer: Any) -> tuple[list[tuple[Any, ...]], Any]:
    """Return what an answer asks for, and the new state.

    :returns: the names of `IChannel`'s methods to call in order, each with its arguments; and the state.
    :raises WrongAnswer: before anything of it could be done.
    """
    # A pattern would take a list for a tuple.
    if isinstance(answer, tuple):
        try:
            match answer:
                case ("noreply", state):
                    return [], state
                case ("reply", list() | tuple() as messages, state):
                    return [("send", _message(data)) for data in messages], state
                case ("reply", data, state):
                    return [("send", _message(data))], state
                case ("ping" | "pong" as frame, state):
                    return [(frame, b"")], state
                case ("ping" | "pong" as frame, data, state):
                    return [(frame, check_payload(data))], state
                case ("close", state):
                    return [("close", *NORMAL_CLOSE)], state
                case ("close", code, reason, state):
                    return [("close", *check_close(code, reason))], state
        except ValueError as error:
            raise WrongAnswer(answer, str(error)) from None
    raise WrongAnswer(answer, f"that is none of {FORMS}")


def _message(data: Any) -> str | bytes:
    if isinstance(data, str):
        return data
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise ValueError(f"{_short.repr(data)} is no message: a str, bytes, or a list of these")
