"""What goes over with a connection to another process: its names and presences, what it monitors and watches.

Knows neither that process nor the way there, only what is said as JSON.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from wshost.cluster.facts import NAME, PRESENCE, Claim, presence_key
from wshost.cluster.holdings import Holdings
from wshost.connections.ref import Ref
from wshost.connections.registry import Guests, Registry

#: Seconds for which others still find names and presences here of a connection that has gone over. It may be twice as
#: many. The other process has told them by then, so they see no gap.
LINGER = 2.0


class Moving(Holdings):
    """The holdings of a process whose connections may go over, and which takes those of another one."""

    _timer: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The connections that have gone over, and still are known here: those of before the last look, and those since.
        self._older: list[Ref] = []
        self._newer: list[Ref] = []
        # Those that have come, and monitor or watch something; their monitors and watches wait for `settle`.
        self._arrived: list[Ref] = []

    # Away

    def freeze(self, ref: Ref) -> dict[str, Any]:
        """Return what a connection of this process has and wants, as JSON knows it; nothing changes."""
        with self._lock:
            part = self._parts.get(ref)
            if part is None:
                return {}
            text, facts = str(ref), self._ledger.facts
            presences = [[topic, facts[PRESENCE, presence_key(topic, text)]] for topic in part.topics]
            held = {
                "names": [[name, facts[NAME, name].since] for name in part.names],
                "present": [[topic, b64encode(data).decode("ascii")] for topic, data in presences],
                "watched": list(part.watched),
                "monitored": [str(target) for target in part.monitored],
            }
            return {kind: what for kind, what in held.items() if what}

    def gone(self, registry: Registry | Guests, id: str, reason: str | None) -> None:
        part = self._parts.get(Ref(registry, id)) if reason is None and self._outside is not None else None
        if part is None or not (part.names or part.topics):
            super().gone(registry, id, reason)
            return
        ref = Ref(registry, id)
        with self._changing():
            self._forget_wants(ref, part, None)
            self._newer.append(ref)
            if self._timer is None:
                self._timer = self._reactor.callLater(LINGER, self._look)

    def _look(self) -> None:
        with self._changing():
            self._timer = None
            older, self._older, self._newer = self._older, self._newer, []
            self._drop_all(older)
            if self._older:
                self._timer = self._reactor.callLater(LINGER, self._look)

    def _drop_all(self, refs: list[Ref]) -> None:
        for ref in refs:
            self._forget_holdings(ref, self._parts.pop(ref))

    def stop_moving(self) -> None:
        """Forget at once what has gone over, and what has not settled."""
        with self._changing():
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._drop_all([*self._older, *self._newer])
            self._older, self._newer, self._arrived = [], [], []

    # Here

    def thaw(self, ref: Ref, held: Mapping[str, Any]) -> None:
        """Go on with what `freeze` has returned in the other process. Called when the connection is here.

        Monitors and watches begin with `settle`: until then, others are on their way.
        """
        with self._changing():
            self._used = True
            part = self._part(ref)
            for name, since in held.get("names", ()):
                self._go_on_with_name(name, Claim(float(since), str(ref)), ref)
            for topic, data in held.get("present", ()):
                self._put_presence(topic, ref, part, b64decode(data))
            part.watched.update(dict.fromkeys(held.get("watched", ())))
            part.monitored.update(dict.fromkeys(map(self._ref, held.get("monitored", ()))))
            if part.watched or part.monitored:
                self._arrived.append(ref)

    def _go_on_with_name(self, name: str, claim: Claim, ref: Ref) -> None:
        own = self._ledger.facts.get((NAME, name))
        if own is not None and own.ref != claim.ref:
            # Another connection of this process has registered it meanwhile.
            loser = max(own, claim)
            if loser is own:
                self._lose_name(name, own)
            else:
                self._infos.append((ref, ("unregistered", name)))
                return
        self._put_name(name, ref, claim)
        self._yield_name(name)

    def settle(self) -> None:
        """No more connections come: begin to monitor and to watch for those that have come."""
        with self._changing():
            arrived, self._arrived = self._arrived, []
            for ref in arrived:
                part = self._parts.get(ref)
                if part is None:
                    continue
                for topic in part.watched:
                    self._presence.watch(topic, ref)
                wanted, part.monitored = part.monitored, {}
                for target in wanted:
                    self._monitor(ref, part, target)
