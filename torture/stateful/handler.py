"""The handler of the server: it does what the plans say, and tells the world of each call. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from torture.stateful.conversation import Conversation
from torture.stateful.plans import Act, Plan
from wshost.results import Reject

#: What the log says of a wrong answer must have this in it.
WRONG = "a wrong answer of a plan"


class PlannedError(Exception):
    """A failure of the handler that a plan asks for: it may be in the log."""


class Calls(Protocol):
    """The world, as the handler tells it of its calls."""

    def at_init(self, options: Mapping[str, Any]) -> tuple[Conversation, Plan]:
        """`init` is called: return for which connection, and what to do."""

    def at_message(self, version: int, message: Any, state: Any) -> tuple[Conversation, Plan]:
        """`handle` is called: likewise."""

    def at_last_word(self, version: int, state: Any) -> None:
        """`handle` is called with "connection_close"."""

    def at_change(self, version: int, old: int, state: Any) -> tuple[Conversation, Plan]:
        """`code_change` is called: likewise."""

    def act(self, acts: Iterable[Act]) -> None:
        """Do these acts."""

    def result(self, call: str, plan: Plan, conversation: Conversation, version: int) -> Any:
        """Return what the call returns, and note what that means; or raise what it raises."""


class Handler:
    """See `wshost.interfaces.IChangingHandler`.

    :param calls: is told of each call.
    :param version: of this code.
    """

    def __init__(self, calls: Calls, version: int, when_slow: str) -> None:
        self.version = version
        self.when_slow = when_slow
        self._calls = calls

    def init(self, options: Mapping[str, Any]) -> Any:
        conversation, plan = self._calls.at_init(options)
        return self._do("init", conversation, plan)

    def handle(self, message: Any, state: Any) -> Any:
        if message == "connection_close":
            self._calls.at_last_word(self.version, state)
            return ("noreply", state)
        conversation, plan = self._calls.at_message(self.version, message, state)
        return self._do("handle", conversation, plan)

    def code_change(self, old_version: int, state: Any) -> Any:
        conversation, plan = self._calls.at_change(self.version, old_version, state)
        return self._do("code_change", conversation, plan)

    def _do(self, call: str, conversation: Conversation, plan: Plan) -> Any:
        self._calls.act(plan.acts)
        if not plan.later:
            return self._calls.result(call, plan, conversation, self.version)
        awaited: Deferred[None] = Deferred(lambda _: setattr(conversation, "awaited", None))
        awaited.addCallback(lambda _: self._calls.result(call, plan, conversation, self.version))
        conversation.awaited, conversation.call = awaited, call
        return awaited if plan.later == "deferred" else _await(awaited)


async def _await(awaited: Deferred[Any]) -> Any:
    return await awaited


def refused() -> Reject:
    """Return what `init` raises to refuse a client."""
    return Reject(403)
