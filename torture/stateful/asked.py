"""What is asked of the server by its handler and by refs, and what that means for the model. Knows no peer's steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from torture.stateful.conversation import CHANGE, MESSAGE, Conversation, Item, Want
from torture.stateful.handler import WRONG, Handler, PlannedError, refused
from torture.stateful.plans import Act, Plan
from torture.stateful.server import MAX_OUTPUT, Server
from wshost.results import Sent

#: Policies of `when_slow` that drop messages which were accepted.
OUTBOXES = frozenset({"drop_old", "conflate"})
#: Data that can't be compressed.
_PADDING = Random(0).randbytes(200_000)
_FAILED = (1011, "")
#: A handler that fails is started again so often in so many seconds.
_RESTARTS, _PERIOD = 3, 5.0


class Asked:
    """All that was asked, and all differences that were found.

    :param policy: the handler's `when_slow`.
    :param restarts: the handler's `on_crash` is "restart".
    :param options: of the module websocket.
    """

    def __init__(self, policy: str, restarts: bool, options: Mapping[str, Any]) -> None:
        self.conversations: list[Conversation] = []
        self.differences: list[str] = []
        self.policy = policy
        self.restarts = restarts
        #: The newest version of the handler's code, and what its `code_change` does.
        self.version = 1
        self.change = Plan()
        self.server = Server(Handler(self, 1, policy), restarts, options, self.conversations)
        #: How often the handler has failed, by the call; and what `drained` has returned.
        self.crashes: Counter[str] = Counter()
        self.drains: list[Deferred[bool]] = []
        self._takeover = not options["server_no_context_takeover"]
        # The plans of infos, by their numbers; and the number of the last message or info.
        self._infos: dict[int, Plan] = {}
        self._number = 0

    # From the handler

    def at_init(self, options: Mapping[str, Any]) -> tuple[Conversation, Plan]:
        one = self.conversations[int(options["connection"].path[1:])]
        if one.restarting:
            # Its subscriptions have ended.
            one.restarting = False
            one.topics.clear()
            return one, Plan()
        if one.ref is not None or options["own"] != "option":
            self.differ(one, "init was called twice, or without its options")
        one.ref = options["worker"]
        one.version = self.version
        return one, one.plan

    def at_message(self, version: int, message: Any, state: Any) -> tuple[Conversation, Plan]:
        one: Conversation = state[0]
        self._check_call(one, version, state, message)
        if message == ("info", "drained"):
            if not one.was_refused:
                self.differ(one, "drained came, and no send was refused")
            one.was_refused = False
            return one, Plan()
        if message[0] == "info":
            number = 0 if message[1] == "drain" else message[1]
            if not one.begin(Item(number)):
                self.differ(one, f"the info {number} came before {list(one.queue)[:3]}")
            return one, self._infos.pop(number, Plan())
        # A message that waits behind infos is on its way: it comes even if a ref closes meanwhile.
        on_its_way = MESSAGE in one.queue
        if on_its_way and not one.begin(MESSAGE):
            self.differ(one, f"{message[0]} came before {list(one.queue)[:3]}")
        what, plan = one.inbox.popleft() if one.inbox else (None, Plan())
        if what != message or (one.close is not None and not on_its_way):
            self.differ(one, f"{str(message)[:40]} came instead of {str(what)[:40]}, ending with {one.close}")
        if message[0] == "close":
            one.answers_close = True
        return one, plan

    def at_last_word(self, version: int, state: Any) -> None:
        one: Conversation = state[0]
        self._check_call(one, version, state, "connection_close")
        one.last_words += 1
        if not one.peer.gone:
            self.differ(one, "connection_close came before the end")

    def at_change(self, version: int, old: int, state: Any) -> tuple[Conversation, Plan]:
        one: Conversation = state[0]
        self._check_call(one, old, state, "code_change")
        if version != self.version or not one.begin(CHANGE):
            self.differ(one, f"code_change of version {version} is not due")
        return one, self.change

    def _check_call(self, one: Conversation, version: int, state: Any, message: Any) -> None:
        if state is not one.state:
            self.differ(one, f"{str(message)[:40]} came with another state than the last one")
        if version != one.version:
            self.differ(one, f"{str(message)[:40]} came to version {version}, not to {one.version}")
        if one.awaited is not None or one.last_words:
            self.differ(one, f"{str(message)[:40]} came while the handler was at work, or after its last word")

    def result(self, call: str, plan: Plan, one: Conversation, version: int) -> Any:
        if plan.answer in {"raise", "wrong"}:
            self.fails(call, one)
            if plan.answer == "raise":
                raise PlannedError
            return WRONG
        if call == "init" and not one.has_state:
            if plan.answer == "reject":
                one.refused = True
                raise refused()
            one.state = (one, 0)
            one.accept(in_order=not plan.later)
            return one.state
        one.state = (one, one.state[1] + 1)
        if call == "code_change":
            one.version = version
        answer = self._answer(plan, one) if call == "handle" else one.state
        if one.answers_close and one.peers_close is not None:
            one.close_by(one.peers_close)
        one.go_on()
        return answer

    def _answer(self, plan: Plan, one: Conversation) -> Any:
        state = one.state
        if plan.answer == "close":
            one.close_by((4_000, "planned"))
            return ("close", 4_000, "planned", state)
        if plan.answer in {"ping", "pong"}:
            data = self.data("p", 0, True)[1]
            one.owe(Want((plan.answer, data), "answer"))
            return (plan.answer, data, state)
        if plan.answer == "reply":
            datas = [self.data("a", plan.size, plan.size > 0) for _ in range(plan.count)]
            for what in datas:
                one.owe(Want(what, "answer"))
            return ("reply", [what[1] for what in datas] if plan.count > 1 else datas[0][1], state)
        return ("noreply", state)

    def fails(self, call: str, one: Conversation) -> None:
        """The handler fails: its connection is closed, or never let in."""
        self.crashes[call] += 1
        now = self.server.host.reactor.seconds()
        late = [then for then in one.restarts if now - then < _PERIOD]
        if self.restarts and call == "handle" and len(late) < _RESTARTS:
            one.restarts.append(now)
            one.restarting = True
        elif one.has_state:
            one.close_by(_FAILED)
        else:
            one.refused = True

    # Acts

    def act(self, acts: Iterable[Act]) -> None:
        """Do some acts, one after the other, and note what they mean."""
        for act in acts:
            known = [one for one in self.conversations if one.ref is not None]
            if act.what == "publish":
                self._publish(act)
            elif known:
                self._ask(act, known[act.whom % len(known)])

    def _ask(self, act: Act, one: Conversation) -> None:
        ref, waiting, waits, ending = one.ref, one.ref.waiting, one.waits, one.ending
        if act.what == "send":
            what = self.data("s", act.size, act.size > 0)
            said = ref.send(what[1], act.key)
            if said:
                loose = said is Sent.WAITING and self.policy in OUTBOXES
                if not waits:
                    one.go_first(loose)
                one.owe(Want(what, "ref", loose or one.doomed, act.key), waits and not loose)
            else:
                one.was_refused = True
        elif act.what == "ping":
            data = self.data("p", 0, True)[1]
            said = ref.ping(data)
            if said:
                if not waits:
                    one.go_first()
                one.owe(Want(("ping", data), "ref", one.doomed), waits)
        elif act.what == "close":
            said = ref.close(4_200, "by ref")
            if said:
                if not waits:
                    one.go_first()
                one.close_by((4_200, "by ref"), waits)
        elif act.what == "drained":
            said = True
            self.drains.append(ref.drained())
        elif act.what == "info":
            self._number += 1
            self._infos[self._number] = act.plan or Plan()
            said = ref.info(self._number)
            if said:
                one.queue.append(Item(self._number))
        elif act.what == "subscribe":
            said = ref.subscribe(act.topic)
            if said:
                one.topics.add(act.topic)
        else:
            said = ref.unsubscribe(act.topic)
            one.topics.discard(act.topic)
        if said and one.peer.gone and act.what != "drained":
            self.differ(one, f"{act.what} was accepted after the end")
        if not (said or ending or one.doomed) and waiting + act.size < MAX_OUTPUT // 2:
            self.differ(one, f"{act.what} was refused, and {waiting} bytes waited")

    def _publish(self, act: Act) -> None:
        what = self.data("t", act.size, act.size > 0)
        for one in self.conversations:
            if act.topic in one.topics and not one.ending:
                # Once for all, or apart for each: then it is a request like those of refs.
                apart = one.peer.compressed and self._takeover
                others = any(not isinstance(other, Item) for other in one.queue)
                waits = one.waits and (apart or others)
                if not waits and one.ref.waiting < MAX_OUTPUT:
                    one.go_first()
                one.owe(Want(what, "topic", one.ref.waiting > 0 or one.doomed), waits)
        self.server.backplane.publish(act.topic, what[1])

    def data(self, kind: str, size: int, binary: bool) -> tuple[str, Any]:
        """Return a message that there was not before."""
        self._number += 1
        name = f"{kind}{self._number} "
        return ("binary", name.encode() + _PADDING[:size]) if binary else ("text", name + "." * size)

    def differ(self, one: Conversation, what: str) -> None:
        """Note a difference."""
        self.differences.append(f"connection {one.number}: {what}")
