"""The steps, chosen by hypothesis. It runs as ``python -m torture.stateful.machine EXAMPLES SEED``.

It prints a line of JSON with what it has done. On a difference it also shows the fewest steps that lead there, and its
exit status is 1. Does not know what must hold.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from torture.peers import PING, PONG, TEXT, frame, head
from torture.stateful.conversation import Conversation
from torture.stateful.plans import HUGE, LARGE, SMALL, Act, How, Plan
from torture.stateful.world import World

#: Steps of one example, and its connections.
STEPS = 40
MOST = 4

_SIZES = st.sampled_from([SMALL, SMALL, SMALL, LARGE, HUGE])
_LATER = st.sampled_from(["", "", "deferred", "coroutine"])
_ANSWERS = st.sampled_from(["reply", "reply", "noreply", "ping", "pong", "close", "raise", "wrong"])
_ACTS_OF_REFS = [
    *("send", "send", "send", "info", "info", "publish", "publish", "subscribe", "subscribe"),
    *("unsubscribe", "ping", "close", "drained"),
]
_CUT = st.sampled_from([0, 0, 0, 1, 5, 50])
_INDEX = st.integers(0, MOST - 1)


def _acts(infos: Any) -> Any:
    return st.lists(
        st.builds(
            Act,
            what=st.sampled_from(
                ["send", "send", "info", "publish", "publish", "subscribe", "unsubscribe", "ping", "close", "drained"]
            ),
            whom=st.integers(0, 3),
            topic=st.sampled_from("ab"),
            size=_SIZES,
            key=st.sampled_from([None, "k", "l"]),
            plan=infos,
        ),
        max_size=3,
    ).map(tuple)


def _plans(acts: Any) -> Any:
    return st.builds(Plan, acts=acts, answer=_ANSWERS, size=_SIZES, count=st.integers(1, 3), later=_LATER)


_ACTS = _acts(_plans(_acts(_plans(st.just(())))))
_PLANS = _plans(_ACTS)
_INITS = st.builds(
    Plan, acts=_ACTS, answer=st.sampled_from(["accept", "accept", "accept", "reject", "raise"]), later=_LATER
)
_CHANGES = st.builds(Plan, answer=st.sampled_from(["accept", "accept", "raise"]), later=_LATER)
_HOWS = st.builds(How, st.booleans(), st.sampled_from([SMALL, LARGE]), st.integers(1, 3), st.booleans(), st.booleans())
#: Frames that break the protocol, and the codes for that: RFC 6455 §5.2, §5.5, §5.6, and the limit on messages.
_FAULTS = st.sampled_from(
    [
        (frame(3), 1002),
        (frame(PING, fin=False), 1002),
        (frame(TEXT, rsv1=False)[:1] + b"\0", 1002),
        (frame(TEXT, b"\xff"), 1007),
        (head(TEXT, 1 << 62), 1009),
    ]
)


def step(**given: Any) -> Callable[[Callable[..., None]], Any]:
    """Return the decorator of a rule whose calls are counted."""

    def decorate(do: Callable[..., None]) -> Any:
        @wraps(do)
        def counted(machine: Machine, **chosen: Any) -> None:
            machine.count["steps"] += 1
            do(machine, **chosen)

        made: Any = rule(**given)
        return made(counted)

    return decorate


class Machine(RuleBasedStateMachine):
    """Several peers, one server."""

    #: How many examples and steps there were in this process.
    count: ClassVar[dict[str, int]] = {"examples": 0, "steps": 0}

    world: World

    @initialize(
        policy=st.sampled_from(["close", "close", "drop_new", "drop_old", "conflate"]),
        restarts=st.booleans(),
        compress=st.booleans(),
        apart=st.booleans(),
        fast_lane=st.booleans(),
    )
    def begin(self, policy: str, *, restarts: bool, compress: bool, apart: bool, fast_lane: bool) -> None:
        self.count["examples"] += 1
        options = {"compress": compress, "server_no_context_takeover": not apart, "fast_lane": fast_lane}
        self.world = World(policy, restarts, options)

    # Peers

    def _one(self, index: int, *, sends: bool = False) -> Conversation | None:
        """Return a connection that is there still.

        :param sends: one whose peer may send frames.
        """
        there = [one for one in self.world.conversations if not one.peer.gone]
        found = [one for one in there if not (sends and (one.peer.has_closed or one.peer.wire.ended))]
        return found[index % len(found)] if found else None

    @precondition(lambda self: len(self.world.conversations) < MOST)
    @step(plan=_INITS, deflate=st.booleans(), cut=_CUT)
    def connect(self, plan: Plan, deflate: bool, cut: int) -> None:
        self.world.connect(plan, deflate, cut)

    @step(index=_INDEX, plan=_PLANS, how=_HOWS, cut=_CUT)
    def message(self, index: int, plan: Plan, how: How, cut: int) -> None:
        one = self._one(index, sends=True)
        if one is not None:
            self.world.message(one, plan, how, cut)

    @step(index=_INDEX, opcode=st.sampled_from([PING, PONG]), plan=_PLANS, cut=_CUT)
    def control(self, index: int, opcode: int, plan: Plan, cut: int) -> None:
        one = self._one(index, sends=True)
        if one is not None:
            self.world.control(one, opcode, plan, cut)

    @step(index=_INDEX, code=st.sampled_from([None, 1000, 3_000]), plan=_PLANS, cut=_CUT)
    def peer_closes(self, index: int, code: int | None, plan: Plan, cut: int) -> None:
        one = self._one(index, sends=True)
        if one is not None:
            self.world.peer_closes(one, code, plan, cut)

    @step(index=_INDEX, fault=_FAULTS)
    def break_protocol(self, index: int, fault: tuple[bytes, int]) -> None:
        one = self._one(index, sends=True)
        if one is not None:
            self.world.break_protocol(one, *fault)

    @step(index=_INDEX, properly=st.booleans())
    def end(self, index: int, properly: bool) -> None:
        one = self._one(index)
        if one is not None and not (properly and one.peer.wire.ended):
            (self.world.end if properly else self.world.reset)(one)

    @step(index=_INDEX, reads=st.booleans(), polite=st.booleans())
    def change_peer(self, index: int, reads: bool, polite: bool) -> None:
        one = self._one(index)
        if one is not None:
            self.world.change_peer(one, reads, polite)

    # The server

    @step(acts=_ACTS)
    def act(self, acts: tuple[Act, ...]) -> None:
        self.world.act(acts)

    @step(index=_INDEX, fails=st.booleans())
    def fire(self, index: int, fails: bool) -> None:
        found = [one for one in self.world.conversations if one.awaited is not None]
        if found:
            self.world.fire(found[index % len(found)], fails)

    @step(plan=_CHANGES)
    def reload(self, plan: Plan) -> None:
        self.world.reload(plan)

    @step(sure=st.sampled_from([False, False, False, True]))
    def stop(self, sure: bool) -> None:
        if sure:
            self.world.stop()

    # Time

    @step()
    def turn(self) -> None:
        self.world.turn()

    @step()
    def turn_again(self) -> None:
        self.world.turn()

    @step(seconds=st.sampled_from([0.05, 1.0, 6.0, 50.0]))
    def wait(self, seconds: float) -> None:
        self.world.turn()
        self.world.wait(seconds)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.finish()


def main(examples: int, number: int) -> int:
    """Run, and say what was found.

    :param examples: so many conversations.
    :param number: the seed.
    :returns: the exit status.
    """
    Machine.count.update(examples=0, steps=0)
    how = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    status = 0
    try:
        run_state_machine_as_test(seed(number)(Machine), settings=how)
    except Exception:
        status = 1
        traceback.print_exc()
    print(json.dumps({**Machine.count, "differences": status}), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
