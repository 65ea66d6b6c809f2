"""The other processes of the cluster, and a replica of the facts of each. Knows no broker, and not what facts mean.

Only owners write: each process tells all others its changes, in numbered steps, and once a second at which step it is.
Who has missed something asks for a whole copy, which goes to all. All of this goes by one subject, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from zlib import crc32

from wshost.cluster.facts import MAX_OF_OTHER, Change, Key, read
from wshost.cluster.ledger import Ledger
from wshost.cluster.outside import Outside
from wshost.connections.home import is_boot
from wshost.messages import CALL

#: Seconds between two beats of a process.
BEAT = 1.0
#: A process that was silent for so many seconds is dead, or cut off.
DEAD = 3.0
#: Who has missed something waits for up to so many seconds, each for others, before it asks: another may have asked.
JITTER = 0.5
#: Pieces of a copy leave so many at a time, so many seconds apart.
PIECES = 8
PACE = 0.01
#: So many other processes are known.
MOST = 4_096
#: What a process asks another for: its whole copy.
COPY = "copy"

_BEAT, _CHANGE, _PIECE, _COPIED, _BYE = "beat", "change", "piece", "copied", "bye"


class _Copy:
    """A copy of which some pieces have come."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.pieces = 0
        self.facts: dict[Key, Any] = {}
        #: Something has come since the last beat.
        self.grows = True


class _Member:
    """Another process."""

    def __init__(self, heard: float) -> None:
        #: When something has come from it.
        self.heard = heard
        #: The step up to which its facts are known; None: they are not.
        self.version: int | None = None
        self.facts: dict[Key, Any] = {}
        #: Something is missing.
        self.behind = False
        self.copy: _Copy | None = None
        # Asks for a copy, when it is time.
        self.asking: Any = None


class Members:
    """The other processes. Everything is done in the reactor's thread, where nobody else uses the ledger.

    :param outside: the way to them.
    :param ledger: the facts of this process.
    :param apply: gets the owner, and a fact that begins or ends.
    :param lost: gets the owner, and its facts: it is dead, cut off or stopped.
    """

    def __init__(
        self,
        outside: Outside,
        ledger: Ledger,
        apply: Callable[[str, Change], None],
        lost: Callable[[str, list[Key]], None],
    ) -> None:
        self._outside = outside
        self._reactor = outside.reactor
        self._ledger = ledger
        self._apply = apply
        self._lost = lost
        self._members: dict[str, _Member] = {}
        self._due = self._patient_until = self._reactor.seconds()
        # The copy that leaves: its pieces, its next piece's number, and the timer; and whether another one is due.
        self._pieces: Iterator[list[Any]] | None = None
        self._piece = 0
        self._pace: Any = None
        self._again = False

    @property
    def known(self) -> list[str]:
        """The other processes that are there."""
        return list(self._members)

    def leave(self) -> None:
        """Say good-bye, and forget all."""
        self.flush()
        if self._ledger.version:
            self._outside.spread((_BYE,))
        if self._pace is not None:
            self._pace.cancel()
        for owner in self.known:
            self.lose(owner)

    # Out

    def flush(self) -> None:
        """Tell the changes of this turn."""
        for before, changes in self._ledger.take():
            self._outside.spread((_CHANGE, before, changes))

    def tick(self) -> bool:
        """Tell how far we are, and forget who is dead. Called once in `BEAT` seconds.

        :returns: whether this process has stood still since the last call.
        """
        now = self._reactor.seconds()
        stalled: bool = now - self._due > BEAT / 2
        if stalled:
            # What others have sent meanwhile has not been read yet.
            self._patient_until = now + BEAT
        self._due = now + BEAT
        self.flush()
        # Who has never had a fact is of no interest.
        if self._ledger.version and any(line.is_connected for line in self._outside.lines):
            self._outside.spread((_BEAT, self._ledger.version))
        if now >= self._patient_until:
            for owner, member in list(self._members.items()):
                if now - member.heard > DEAD:
                    self.lose(owner)
        return stalled

    def send_copy(self) -> None:
        """Send a whole copy to all: somebody has asked for it."""
        if self._pieces is not None:
            # Its first pieces may have left before.
            self._again = True
            return
        self._pieces, self._piece = self._ledger.copy(), 0
        self._send_pieces()

    def _send_pieces(self) -> None:
        self._pace = None
        # What a piece says must not be older than what was told as a change.
        self.flush()
        version = self._ledger.version
        for _ in range(PIECES):
            piece = next(self._pieces or iter(()), None)
            if piece is None:
                self._outside.spread((_COPIED, version, self._piece))
                self._end_copy()
                return
            if not self._outside.spread((_PIECE, version, self._piece, piece)):
                # Who needs it will ask again.
                self._end_copy()
                return
            self._piece += 1
        self._pace = self._reactor.callLater(PACE, self._send_pieces)

    def _end_copy(self) -> None:
        self._pieces = None
        if self._again:
            self._again = False
            self.send_copy()

    # In

    def receive(self, sender: str, message: Any) -> None:
        """Take what another process has told all.

        :raises TypeError, ValueError, LookupError: when it means nothing, or a part of it.
        """
        if type(message) is not list or not message or not is_boot(sender):
            raise ValueError("it says nothing of a process")
        what, *args = message
        if what == _BYE:
            self.lose(sender)
            return
        take: dict[str, Callable[..., None]]
        take = {_BEAT: self._take_beat, _CHANGE: self._take_change, _PIECE: self._take_piece, _COPIED: self._take_copy}
        if type(what) is not str or not all(type(number) is int for number in args[: 1 + (what in {_PIECE, _COPIED})]):
            raise ValueError("it has another form")
        member = self._members.get(sender)
        if member is None:
            if len(self._members) >= MOST:
                raise ValueError("there are too many processes")
            member = self._members[sender] = _Member(0)
        member.heard = self._reactor.seconds()
        take[what](sender, member, *args)

    def _take_beat(self, sender: str, member: _Member, version: int) -> None:
        member.behind = version != member.version
        if member.behind:
            if member.copy is not None and not member.copy.grows:
                member.copy = None
            elif member.copy is not None:
                member.copy.grows = False
            self._want(sender, member)

    def _take_change(self, sender: str, member: _Member, before: int, changes: Any) -> None:
        known, bad = _read(changes)
        if before == 0 and member.version is None:
            # It had no facts before.
            member.version = 0
        copy = member.copy
        if copy is not None and copy.version == before:
            copy.version += 1
            for change in known:
                _note(copy.facts, change)
        elif copy is not None:
            member.copy = None
        if member.version == before:
            member.version += 1
            for change in known:
                if _note(member.facts, change):
                    self._apply(sender, change)
        elif member.version is None or member.version < before:
            member.behind = True
            self._want(sender, member)
        _complain(bad)

    def _take_piece(self, sender: str, member: _Member, version: int, number: int, piece: Any) -> None:
        if number == 0:
            member.copy = None if version == member.version else _Copy(version)
        copy = member.copy
        if copy is None:
            return
        if (version, number) != (copy.version, copy.pieces):
            member.copy = None
            return
        known, bad = _read(piece)
        copy.pieces += 1
        copy.grows = True
        for change in known:
            _note(copy.facts, change)
        _complain(bad)

    def _take_copy(self, sender: str, member: _Member, version: int, pieces: int) -> None:
        copy, member.copy = member.copy, None
        if copy is None or (version, pieces) != (copy.version, copy.pieces):
            return
        before, member.facts = member.facts, copy.facts
        member.version, member.behind = version, False
        for key in before:
            if key not in copy.facts:
                self._apply(sender, Change(False, key, ""))
        for key, value in copy.facts.items():
            if key not in before or before[key] != value:
                self._apply(sender, Change(True, key, value))

    def _want(self, sender: str, member: _Member) -> None:
        if member.asking is None:
            # All differ in this, and each is the same each time.
            share = crc32(f"{self._outside.own.boot} {sender}".encode()) % 1_000 / 1_000
            member.asking = self._reactor.callLater(JITTER * share, self._ask, sender, member)

    def _ask(self, sender: str, member: _Member) -> None:
        member.asking = None
        if member.behind and member.copy is None:
            self._outside.tell(sender, (COPY, self._outside.own.boot), CALL)

    def lose(self, owner: str) -> None:
        """Forget a process, with all its facts."""
        member = self._members.pop(owner, None)
        if member is not None:
            if member.asking is not None:
                member.asking.cancel()
            self._lost(owner, list(member.facts))


def _read(changes: Any) -> tuple[list[Change], int]:
    """Return the changes that mean something, and the number of the others."""
    known, bad = [], 0
    for one in changes:
        try:
            known.append(read(one))
        except (TypeError, ValueError):
            bad += 1
    return known, bad


def _note(facts: dict[Key, Any], change: Change) -> bool:
    """Note a change; return False if it is none, or too much."""
    begins, key, value = change
    if not begins:
        return facts.pop(key, facts) is not facts
    if len(facts) >= MAX_OF_OTHER and key not in facts:
        return False
    facts[key] = value
    return True


def _complain(bad: int) -> None:
    if bad:
        raise ValueError(f"{bad} facts mean nothing")
