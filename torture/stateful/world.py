"""The steps of a world of one server and its peers, and what must hold after them. `machine` chooses the steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from torture.peers import BINARY, PING, TEXT, frame
from torture.stateful.asked import Asked
from torture.stateful.conversation import CHANGE, DRAIN, END, Conversation
from torture.stateful.handler import Handler, PlannedError
from torture.stateful.peer import Peer
from torture.stateful.plans import Act, How, Plan
from torture.stateful.server import MAX_OUTPUT

#: Turns that one step may take at the most.
_TURNS = 1_000
#: Seconds that pass at once: peers answer pings in between.
_STEP = 1.0
#: The Close at the server's stop, and how long it waits for answers that are awaited.
_GOOD_BYE = (1001, "going away")
_ANSWER_TIME = 9.0
#: How long the server waits for an answer to the peer's Close.
_CLOSE_TIMEOUT = 5.0


class World:
    """The server and its conversations.

    :param policy: the handler's `when_slow`.
    :param restarts: the handler's `on_crash` is "restart".
    :param options: of the module websocket.
    """

    def __init__(self, policy: str, restarts: bool, options: Mapping[str, Any]) -> None:
        self._asked = Asked(policy, restarts, options)
        self._server = self._asked.server
        self._host = self._server.host
        self.conversations = self._asked.conversations
        self._stopping_since: float | None = None

    # Steps: peers

    def connect(self, plan: Plan, deflate: bool, cut: int) -> None:
        """A new peer sends its request."""
        number = len(self.conversations)
        peer = Peer(self._host, number, deflate)
        one = Conversation(
            number, peer, plan, self._asked.policy, self._asked.version, refused=self._stopping_since is not None
        )
        self.conversations.append(one)
        if not one.refused:
            peer.push(peer.request, cut)

    def message(self, one: Conversation, plan: Plan, how: How, cut: int) -> None:
        """A peer sends a message."""
        what = self._asked.data("m", how.size, how.binary)
        pieces = max(how.pieces, 1 + how.ping)
        opcode, payload = (BINARY, what[1]) if how.binary else (TEXT, what[1].encode())
        between = self._control(one, PING, Plan()) if how.ping else b""
        one.inbox.append((what, plan))
        one.peer.push(one.peer.message(opcode, payload, pieces, between, how.deflate), cut)
        self._notice(one)

    def control(self, one: Conversation, opcode: int, plan: Plan, cut: int) -> None:
        """A peer sends a ping or a pong."""
        one.peer.push(self._control(one, opcode, plan), cut)
        self._notice(one)

    def _control(self, one: Conversation, opcode: int, plan: Plan) -> bytes:
        data: bytes = self._asked.data("c", 0, True)[1]
        if opcode == PING:
            one.pongs.append(("pong", data))
        one.inbox.append((("ping" if opcode == PING else "pong", data), plan))
        return frame(opcode, data)

    def peer_closes(self, one: Conversation, code: int | None, plan: Plan, cut: int) -> None:
        """A peer sends its Close."""
        one.inbox.append((("close", (code, "")), plan))
        one.peer.close(b"" if code is None else code.to_bytes(2, "big"), cut)
        self._notice(one)

    def break_protocol(self, one: Conversation, data: bytes, code: int) -> None:
        """A peer breaks the protocol; it must get this code."""
        one.inbox.append((("bad", code), Plan()))
        one.peer.push(data)
        self._notice(one)

    def end(self, one: Conversation) -> None:
        """A peer sends FIN."""
        one.inbox.append((("end", None), Plan()))
        one.peer.end()
        self._notice(one)

    def change_peer(self, one: Conversation, reads: bool, polite: bool) -> None:
        """A peer stops reading, or reads again; and it answers a Close, or does not."""
        one.peer.polite = polite
        if reads:
            one.peer.read_again()
        else:
            one.peer.wire.reading = False

    def reset(self, one: Conversation) -> None:
        """A peer sends RST."""
        one.cut_off = True
        one.peer.reset()

    # Steps: the server, and time

    def act(self, acts: Iterable[Act]) -> None:
        """Something is done with refs and topics."""
        self._asked.act(acts)

    def fire(self, one: Conversation, fails: bool) -> None:
        """What a handler waits for is there, or fails."""
        awaited, one.awaited = one.awaited, None
        if fails:
            self._asked.fails(one.call, one)
            awaited.errback(PlannedError())
        else:
            awaited.callback(None)

    def reload(self, plan: Plan) -> None:
        """The server reads its handler again."""
        self._asked.version += 1
        self._asked.change = plan
        for one in self.conversations:
            if one.session is not None and not one.ending and CHANGE not in one.queue:
                one.queue.append(CHANGE)
        self._server.renew(Handler(self._asked, self._asked.version, self._asked.policy))

    def stop(self) -> None:
        """The server stops."""
        if self._stopping_since is not None:
            return
        self._stopping_since = self._host.reactor.seconds()
        for one in self.conversations:
            one.stopping = True
            one.refused = one.refused or not one.accepted
            if not one.ending:
                one.queue.append(DRAIN)
        self._server.stop()

    def turn(self) -> None:
        """Let the reactor turn until nothing is to be done now; then look at everything.

        :raises AssertionError: when there is a difference.
        """
        for one in self.conversations:
            if one.peer.rest and not one.peer.gone:
                one.peer.push(b"")
        reactor = self._host.reactor
        for _ in range(_TURNS):
            due = [call for call in reactor.getDelayedCalls() if call.getTime() <= reactor.seconds()]
            reacted = [one.peer.react() for one in self.conversations]
            if not due and not any(reacted):
                break
            reactor.advance(0)
        else:
            self._asked.differences.append("the turns have no end")
        self.look()

    def wait(self, seconds: float) -> None:
        """Let time pass, in which peers react."""
        for one in self.conversations:
            one.excused = one.excused or not one.accepted or not one.peer.wire.reading
        reactor = self._host.reactor
        end = reactor.seconds() + seconds
        while reactor.seconds() < end:
            reactor.advance(min(_STEP, end - reactor.seconds()))
            self.turn()

    def _notice(self, one: Conversation) -> None:
        """Note that the peer's end, or its fault, has been met."""
        # When it stops, the server reads no more.
        if one.idle and one.inbox and not (one.explained or one.stopping or one.peer.rest):
            (what, code), _ = one.inbox[0]
            if what == "bad":
                one.inbox.clear()
                one.close = (code, None)
            elif what == "end":
                one.inbox.clear()
                one.cut_off = True

    # What must hold

    def look(self) -> None:
        """Look at everything, when nothing is left to do in this turn.

        :raises AssertionError: when there is a difference.
        """
        for one in self.conversations:
            self._follow(one)
            for difference in one.differences():
                self._asked.differ(one, difference)
        self._asked.differences += self._server.faults
        self._count_dropped()
        self._fail()

    def _count_dropped(self) -> None:
        """What is missing, and may be, was counted."""
        hub = self._host.hub
        lost: Counter[str] = Counter()
        for one in self.conversations:
            lost.update(one.lost())
        if lost["topic"] > hub.topics.dropped or lost["ref"] > sum(hub.shared.account.dropped.values()):
            self._asked.differences.append(f"lost {lost}, dropped {hub.topics.dropped} {hub.shared.account.dropped}")

    def _follow(self, one: Conversation) -> None:
        """Note what the server does by itself, as it may."""
        self._notice(one)
        now = self._host.reactor.seconds()
        if one.idle and not one.explained:
            if one.inbox and not (one.stopping or one.peer.rest or one.excused or one.ref.waiting >= MAX_OUTPUT):
                self._asked.differ(one, f"{one.inbox[0][0][0]} did not reach the handler")
            if one.restarting:
                self._asked.differ(one, "its handler was not started again")
            if one.stopping:
                one.close = _GOOD_BYE
            elif one.version != self._asked.version and not one.peer.gone:
                self._asked.differ(one, f"its handler still has version {one.version}")
        if self._stopping_since is not None and now - self._stopping_since >= _ANSWER_TIME:
            one.excused = True
        if one.peers_close is not None and now - one.closing_since >= _CLOSE_TIMEOUT and one.close is None:
            # The handler takes too long to answer the peer's Close.
            one.close = one.peers_close
        if one.excused and one.peer.wire.reading and not (one.stopping or one.peer.gone or one.peer.closes):
            one.excused = not one.accepted
        if (one.ending or one.stopping) and one.ending_since is None:
            one.ending_since = now
        if one.ending_since is not None and now > one.ending_since + END and not one.peer.gone:
            self._asked.differ(one, "its end has no end")

    def finish(self) -> None:
        """Let all peers read, stop the server, and look at what is left.

        :raises AssertionError: when anything is.
        """
        try:
            if self._asked.differences:
                return
            self.turn()
            for one in self.conversations:
                one.peer.read_again()
            self.turn()
            self.stop()
            for _ in range(int(2 * END / _STEP)):
                self.wait(_STEP)
                # A handler whose connection was lost before the stop has some time still.
                if self._server.stopped and all(one.last_words == one.has_state for one in self.conversations):
                    break
            self._look_at_the_rest()
        finally:
            self._server.release()

    def _look_at_the_rest(self) -> None:
        account = self._host.hub.shared.account
        for one in self.conversations:
            if not one.peer.gone or one.last_words != one.has_state:
                self._asked.differ(one, f"gone: {one.peer.gone}; connection_close came {one.last_words} times")
        written = sum(len(data) for one in self.conversations for data in one.peer.wire.writes)
        left = {
            **self._server.left(),
            "callers of drained": sum(not drain.called for drain in self._asked.drains),
            "bytes out": account.ended.bytes_out - written,
            "ends": sum(account.closed.values()) - sum(one.accepted for one in self.conversations),
        }
        self._asked.differences += [f"left: {what}: {count}" for what, count in left.items() if count]
        crashes = Counter({kind: count for (_, kind), count in account.crashes.items()})
        if crashes != +self._asked.crashes:
            self._asked.differences.append(f"crashes {crashes} instead of {self._asked.crashes}")
        self._fail()

    def _fail(self) -> None:
        assert not self._asked.differences, "\n".join(self._asked.differences)
