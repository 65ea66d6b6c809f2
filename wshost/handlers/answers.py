"""What `handle` may return, and what it asks of the channel by that; performs nothing."""

from __future__ import annotations

from typing import Any

from wshost.exact import message, shown, text
from wshost.messages import NORMAL_CLOSE, check_close, check_payload

#: Every form an answer can have.
FORMS = (
    '("noreply", state), ("reply", data, state), ("ping", state), ("ping", data, state), ("pong", state), '
    '("pong", data, state), ("close", state), ("close", code, reason, state)'
)

_ALL = slice(None)


class WrongAnswer(ValueError):
    """A handler's `handle` has returned what means nothing.

    :param answer: what it has returned.
    :param problem: what is wrong with that, and what is right.
    """

    def __init__(self, answer: Any, problem: str) -> None:
        super().__init__(f"handle returned {shown(answer)}: {problem}")


def read(answer: Any) -> tuple[list[tuple[Any, ...]], Any]:
    """Return what an answer asks for, and the new state.

    :returns: the names of `IChannel`'s methods to call in order, each with its arguments; and the state.
    :raises WrongAnswer: before anything of it could be done.
    """
    # A pattern would take a list for a tuple.
    if isinstance(answer, tuple):
        exact = answer
        if type(answer) is not tuple or not answer or type(answer[0]) is not str:
            # Of a subclass, such as a named one, what it holds.
            form, *rest = tuple.__getitem__(answer, _ALL) or (None,)
            exact = (text(form) if isinstance(form, str) else None, *rest)
        try:
            match exact:
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
        except (TypeError, ValueError) as error:
            raise WrongAnswer(answer, str(error)) from None
    raise WrongAnswer(answer, f"that is none of {FORMS}")


def _message(data: Any) -> str | bytes:
    if not isinstance(data, str | bytes | bytearray | memoryview):
        raise ValueError(f"{shown(data)} is no message: a str, bytes, or a list of these")
    checked = message(data)
    if isinstance(checked, str) and not checked.isascii():
        # What has lone surrogates can't be sent, and then nothing of the answer shall be.
        checked.encode()
    return checked
