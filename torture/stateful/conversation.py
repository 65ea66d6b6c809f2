"""The model of one connection: what is due to its peer and to its handler, as docs/handlers.md promises it.

Knows what was asked for, and what has come of it. Knows neither steps nor the server's own state, but for `busy` and
`has_infos` of `ISession`, and `waiting` of `IRef`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from torture.stateful.peer import Peer
from torture.stateful.plans import Plan

#: Seconds in which a connection is gone once its end has begun, even if its peer does not read.
END = 30.0


@dataclass(frozen=True)
class Want:
    """One thing that is due to the peer.

    :param what: as `Peer.came` has it.
    :param source: "answer", "ref" or "topic".
    :param loose: it may be dropped, or be overtaken, as it waits for a slow peer.
    :param key: with which a ref has sent it.
    """

    what: tuple[str, Any]
    source: str
    loose: bool = False
    key: str | None = None


@dataclass(frozen=True)
class Item:
    """Something that the handler gets between two messages: an info by its number, or one of those below."""

    number: int


#: The word that the server stops; the call of `code_change`; a message of the peer behind infos.
DRAIN, CHANGE, MESSAGE = Item(0), Item(-1), Item(-2)
#: A Close: the code, and the reason; None for any.
Ending: TypeAlias = tuple[int | None, str | None]


@dataclass
class Conversation:
    """One connection.

    :param plan: what `init` does.
    :param policy: the handler's `when_slow`.
    :param version: of the handler's code.
    """

    number: int
    peer: Peer
    plan: Plan
    policy: str
    version: int
    ref: Any = None
    session: Any = None
    #: Whether `init` has returned a state; whether that has let the peer in; whether the peer is refused.
    has_state: bool = False
    accepted: bool = False
    refused: bool = False
    #: What is due to the peer.
    wants: list[Want] = field(default_factory=list)
    #: What the handler gets between two messages, and requests of refs that wait for these.
    queue: deque[Item | Want | Ending] = field(default_factory=deque)
    #: What the peer has sent, as the handler gets it, and what the handler does then. ("bad", code) is a frame that
    #: gets this Close, ("end", None) is FIN.
    inbox: deque[tuple[tuple[str, Any], Plan]] = field(default_factory=deque)
    #: The pongs that are due for the peer's pings.
    pongs: list[tuple[str, Any]] = field(default_factory=list)
    topics: set[str] = field(default_factory=set)
    #: The Close that the server must send; the peer's, and when that has come; whether the handler has got it.
    close: Ending | None = None
    peers_close: Ending | None = None
    closing_since: float = 0.0
    answers_close: bool = False
    #: A send was refused for want of room, and the handler was not yet told that there is some again.
    was_refused: bool = False
    #: The end has come from below: FIN or RST.
    cut_off: bool = False
    #: A deadline may have ended it: a slow peer, a slow `init`, half a message.
    excused: bool = False
    #: The server stops.
    stopping: bool = False
    #: When the end began.
    ending_since: float | None = None
    #: The handler's last state, what it waits for, and how often it got its last word.
    state: Any = None
    awaited: Any = None
    call: str = ""
    #: When it was started again after a failure; whether its `init` is still to be called for that.
    restarts: list[float] = field(default_factory=list)
    restarting: bool = False
    last_words: int = 0

    @property
    def ending(self) -> bool:
        """Whether the end has begun, as far as the handler can know: nothing more is taken for the peer."""
        return self.closed or self.peers_close is not None

    @property
    def explained(self) -> bool:
        """Whether it is known why it ends."""
        return self.close is not None or self.peers_close is not None or self.cut_off or self.refused

    @property
    def closed(self) -> bool:
        """Whether the server has closed: not even an answer leaves any more."""
        return self.close is not None or self.cut_off or self.refused or self.peer.gone

    @property
    def idle(self) -> bool:
        """Whether the handler has nothing to do."""
        return self.accepted and self.awaited is None and not self.session.busy

    @property
    def doomed(self) -> bool:
        """Whether the end may begin at any time in this turn."""
        return self.stopping or self.excused or any(what in {"bad", "end", "close"} for (what, _), _ in self.inbox)

    # What is due to the peer

    def owe(self, want: Want, waits: bool = False) -> None:
        """Note what is due to the peer.

        :param waits: it comes behind what waits already.
        """
        if waits or not (self.accepted or self.refused):
            self.queue.append(want)
        elif not (self.closed if want.source == "answer" else self.ending):
            self.wants.append(want)

    def close_by(self, ending: Ending, waits: bool = False) -> None:
        """The server closes: what was due before comes first."""
        if waits or not (self.accepted or self.refused):
            self.queue.append(ending)
        elif not self.closed:
            self.close = ending

    @property
    def waits(self) -> bool:
        """Whether a request of a ref comes behind infos of this turn."""
        return self.accepted and self.session.has_infos

    def go_first(self, loose: bool = False) -> None:
        """A later request does not overtake what waits for an answer that is awaited. Only a Close waits on.

        :param loose: the later one waits for a slow peer, so these may be in time or not.
        """
        if self.accepted and self.session.awaits:
            wants = [one for one in self.queue if isinstance(one, Want)]
            self.queue = deque(one for one in self.queue if not isinstance(one, Want))
            for want in wants:
                self.owe(replace(want, loose=want.loose or loose))

    def accept(self, in_order: bool) -> None:
        """`init` has returned a state: what refs have asked for before is due.

        :param in_order: behind infos that were asked for before; else at once.
        """
        self.has_state = True
        if self.closed:
            return
        self.accepted = True
        # New code is the session's concern, which has heard of it. All else has waited for the session.
        kept = sorted(self.queue, key=lambda one: one != CHANGE)
        self.queue.clear()
        for one in kept:
            if isinstance(one, Item) or (in_order and self.queue):
                self.queue.append(one)
            else:
                self._do(one)

    def begin(self, item: Item) -> bool:
        """The handler gets this; return whether that was due. At an end, some may be left out."""
        if not self.queue or self.queue[0] != item:
            return self.ending
        self.queue.popleft()
        return True

    def go_on(self) -> None:
        """The handler has answered: requests that waited for that are due."""
        while self.queue and not isinstance(self.queue[0], Item):
            self._do(self.queue.popleft())

    def _do(self, one: Item | Want | Ending) -> None:
        if isinstance(one, Want):
            self.owe(one)
        elif isinstance(one, tuple):
            self.close_by(one)

    # What has come

    def differences(self) -> Iterable[str]:
        """Compare what is due with what has come. Called when nothing is left to do in this turn."""
        peer = self.peer
        if peer.status == 101 and not self.accepted:
            yield "it was let in, and init has not accepted it"
        if peer.status not in {0, 101} and not (self.refused or self.excused):
            yield f"it was refused with {peer.status}"
        if self.last_words > self.has_state:
            yield f"connection_close came {self.last_words} times"
        pongs = [one for one in peer.came if one in self.pongs]
        came = [one for one in peer.came if one not in self.pongs]
        if pongs != self.pongs[: len(pongs)]:
            yield f"pongs {shown(pongs)} instead of {shown(self.pongs)}"
        yield from self._order(came)
        if self.accepted and not (self.cut_off or self.excused):
            yield from self._end(came)

    def _end(self, came: list[tuple[str, Any]]) -> Iterable[str]:
        """Compare the ends, and what must be there by now."""
        peer = self.peer
        if peer.wire.reading:
            missing = [want.what for want in self.wants if want.what not in came and not want.loose]
            if missing:
                yield f"missing {shown(missing)}; came {shown(came)}"
            if self.close is not None and not peer.closes:
                yield f"no Close {self.close}"
        if self.close is None and (peer.closes or peer.gone):
            yield f"it has ended with {peer.closes}, and nothing has ended it"
        if self.close is not None and peer.closes:
            (code, reason), (given, why) = self.close, peer.closes[0]
            if given != (1005 if code is None else code) or reason not in {None, why}:
                yield f"Close {given} {why} instead of {self.close}"

    def lost(self) -> Iterable[str]:
        """Return the sources of what will not come any more. Called when nothing is left to do in this turn."""
        peer = self.peer
        if self.accepted and peer.wire.reading and not (self.explained or self.doomed or peer.gone):
            yield from (want.source for want in self.wants if want.what not in peer.came)

    def _order(self, came: list[tuple[str, Any]]) -> Iterable[str]:
        places = {want.what: place for place, want in enumerate(self.wants)}
        strangers = [one for one in came if one not in places]
        if strangers:
            yield f"came, but was not due: {shown(strangers)}"
            return
        if len(set(came)) < len(came):
            yield f"came twice: {shown(came)}"
        wants = [self.wants[places[one]] for one in came]
        # What waits in an outbox keeps its own order only, and with keys none.
        kept = [want for want in wants if want.loose and want.source == "ref"]
        if self.policy == "conflate":
            keys = {want.key for want in kept}
            rows = [[want for want in kept if want.key == key] for key in keys]
        else:
            rows = [[want for want in wants if want.source == "ref" and want.what[0] != "ping"]]
        rows.append([want for want in wants if want not in kept])
        for row in rows:
            order = [places[want.what] for want in row]
            if order != sorted(order):
                yield f"out of order: {shown([want.what for want in row])}"
        strict = [want for want in self.wants if not want.loose]
        first = [want for want in wants if not want.loose]
        if first != strict[: len(first)]:
            yield f"a gap in {shown([want.what for want in first])}, due were {shown([want.what for want in strict])}"


def shown(things: Iterable[tuple[str, Any]]) -> str:
    """Return messages, shortened."""
    return " ".join(f"{kind}:{data[:12]!r}" for kind, data in things) or "nothing"
