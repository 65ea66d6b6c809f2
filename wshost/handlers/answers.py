"""Checks each answer of `handle` as a whole, and turns it into one value. Knows no channel and no session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from wshost.exact import shown, text
from wshost.messages import NORMAL_CLOSE, check_close, check_message, check_payload

#: Every form an answer can have.
FORMS = (
    '("noreply", state), ("reply", data, state), ("ping", state), ("ping", data, state), ("pong", state), '
    '("pong", data, state), ("close", state), ("close", code, reason, state)'
)

_ALL = slice(None)


@dataclass(frozen=True, slots=True)
class Reply:
    """Send these messages in order; there may be none."""

    messages: tuple[str | bytes, ...]


@dataclass(frozen=True, slots=True)
class Ping:
    """Send a ping with this payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """Send a pong with this payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection; None and "" for a Close without a code."""

    code: int | None
    reason: str


Action: TypeAlias = Reply | Ping | Pong | Close

_FRAMES: dict[str, type[Ping | Pong]] = {"ping": Ping, "pong": Pong}


class WrongAnswer(ValueError):
    """The user's `handle` has returned something that is not a valid answer.

    :param answer: what `handle` has returned.
    :param problem: what is wrong with it, and what would be right.
    """

    def __init__(self, answer: Any, problem: str) -> None:
        super().__init__(f"handle returned {shown(answer)}: {problem}")


def parse(answer: Any) -> tuple[Action, Any]:
    """Return what an answer asks for, and the new state.

    :raises WrongAnswer: when the answer has none of the `FORMS`, or any part of it can't be sent.
    """
    # A pattern of `match` would take a list, too.
    if isinstance(answer, tuple):
        exact = answer
        if type(answer) is not tuple or not answer or type(answer[0]) is not str:
            # A subclass, such as a named tuple, or a member of an enumeration: use the built-in values in them.
            form, *rest = tuple.__getitem__(answer, _ALL) or (None,)
            exact = (text(form) if isinstance(form, str) else None, *rest)
        try:
            match exact:
                case ("noreply", state):
                    return Reply(()), state
                case ("reply", list() | tuple() as messages, state):
                    return Reply(tuple([check_message(data)[0] for data in messages])), state
                case ("reply", data, state):
                    return Reply((check_message(data)[0],)), state
                case ("ping" | "pong" as frame, state):
                    return _FRAMES[frame](b""), state
                case ("ping" | "pong" as frame, data, state):
                    return _FRAMES[frame](check_payload(data)), state
                case ("close", state):
                    return Close(*NORMAL_CLOSE), state
                case ("close", code, reason, state):
                    return Close(*check_close(code, reason)), state
        except (TypeError, ValueError) as error:
            raise WrongAnswer(answer, str(error)) from None
    raise WrongAnswer(answer, f"that is none of {FORMS}")
