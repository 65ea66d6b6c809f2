"""What the connections of this process have and want: names, presences, monitors, and topics that they watch.

Other processes are known to the `Directory` alone, which is one of these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

from wshost.cluster.claims import Names
from wshost.cluster.facts import CONNECTION, MAX_OF_ONE, MAX_OF_PROCESS, NAME, PRESENCE, Claim, presence_key
from wshost.cluster.ledger import Ledger
from wshost.cluster.monitors import GONE, UNREACHABLE, Monitors
from wshost.cluster.outside import Outside
from wshost.cluster.presence import Presence
from wshost.connections import home
from wshost.connections.homes import Homes
from wshost.connections.ref import Ref
from wshost.connections.registry import Guests, Registry
from wshost.messages import CALL

#: What a process asks another for: whether it has a connection.
EXISTS = "exists"

#: The owner of this process's own facts, where those of others have their boots.
_OWN = ""


class _Part:
    """What one connection has and wants."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self.topics: dict[str, None] = {}
        self.watched: dict[str, None] = {}
        self.monitored: dict[Ref, None] = {}


class Holdings:
    """See above.

    :param homes: those of this process.
    :param clock: seconds since 1970, by which the earlier of two registrations is found.
    """

    def __init__(self, homes: Homes, clock: Callable[[], float] = time.time) -> None:
        self._homes = homes
        self._clock = clock
        self._lock = RLock()
        self._depth = 0
        # False as long as nothing was asked for: then connections end without a look here.
        self._used = False
        self._ledger = Ledger()
        self._names = Names()
        self._presence = Presence()
        self._monitors = Monitors()
        self._parts: dict[Ref, _Part] = {}
        # How many names and presences the connections of this process have.
        self._held = 0
        # Infos that leave when nothing is changed any more: they may lead to more changes.
        self._infos: list[tuple[Ref, Any]] = []
        # None before a server has started.
        self._reactor: Any = None
        # The way to other processes; None: there are none.
        self._outside: Outside | None = None

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Let nobody else change anything; then tell what is due."""
        infos: list[tuple[Ref, Any]] = []
        try:
            with self._lock:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                    if not self._depth:
                        infos, self._infos = self._infos, []
                        self._settle_soon()
        finally:
            for ref, info in infos:
                ref.info(info)

    def _settle_soon(self) -> None:
        """Do nothing. The directory has changes told."""

    def ask(self, ref: Ref, action: str, what: Any) -> bool:
        """Do what a connection of this process is asked for. Called in its thread.

        :param action: "monitor" or "demonitor" a `Ref`; "watch" or "unwatch" a topic.
        :returns: False if there is no room for it.
        """
        with self._changing():
            self._used = True
            part = self._part(ref)
            do: Callable[[Ref, _Part, Any], bool] = getattr(self, f"_{action}")
            return do(ref, part, what)

    def _monitor(self, ref: Ref, part: _Part, target: Ref) -> bool:
        if target in part.monitored:
            return True
        if len(part.monitored) >= MAX_OF_ONE:
            return False
        registry = self._homes.here(target.boot)
        if registry is not None and registry.find(target.id) is not None:
            self._monitors.add(ref, target, None)
        elif registry is not None and not registry.shares_home:
            self._infos.append((ref, ("down", target, GONE)))
            return True
        elif self._outside is None:
            self._infos.append((ref, ("down", target, UNREACHABLE)))
            return True
        else:
            self._monitors.add(ref, target, self._reactor.seconds())
            if target in self._monitors.waiting:
                self._ask_for(target)
        part.monitored[target] = None
        return True

    def _ask_for(self, target: Ref) -> None:
        outside: Any = self._outside
        outside.tell(target.boot, (EXISTS, target.id, outside.own.boot), CALL)

    def _demonitor(self, ref: Ref, part: _Part, target: Ref) -> bool:
        part.monitored.pop(target, None)
        self._monitors.remove(ref, target)
        return True

    def _watch(self, ref: Ref, part: _Part, topic: str) -> bool:
        if self._reactor is None or (len(part.watched) >= MAX_OF_ONE and topic not in part.watched):
            return False
        part.watched[topic] = None
        self._presence.watch(topic, ref)
        return True

    def _unwatch(self, ref: Ref, part: _Part, topic: str) -> bool:
        part.watched.pop(topic, None)
        self._presence.unwatch(topic, ref)
        return True

    def gone(self, registry: Registry | Guests, id: str, reason: str | None) -> None:
        """Forget a connection that is not in its registry any more. Called in its thread.

        :param reason: why it has ended; None: another process has it.
        """
        if not self._used:
            return
        ref = Ref(registry, id)
        with self._changing():
            part = self._parts.pop(ref, None)
            if part is not None:
                self._forget_holdings(ref, part)
            self._forget_wants(ref, part or _Part(), reason)

    def _forget_holdings(self, ref: Ref, part: _Part) -> None:
        for name in part.names:
            self._drop_name(name)
        for topic in part.topics:
            self._drop_presence(topic, ref)

    def _forget_wants(self, ref: Ref, part: _Part, reason: str | None) -> None:
        """Forget what a connection wants of others, and they of it. :param reason: as `gone`."""
        self._stop_wanting(ref, part)
        self._ledger.remove((CONNECTION, str(ref)), reason)
        if reason is None:
            self._monitors.forget(ref)
        else:
            self._down(ref, reason or GONE)

    def _stop_wanting(self, ref: Ref, part: _Part) -> None:
        watched, part.watched = part.watched, {}
        monitored, part.monitored = part.monitored, {}
        for topic in watched:
            self._presence.unwatch(topic, ref)
        for target in monitored:
            self._monitors.remove(ref, target)

    def release(self, ref: Ref) -> None:
        """End what a connection has and wants, which stays open. Called in its thread."""
        if self._used:
            with self._changing():
                part = self._parts.pop(ref, None)
                if part is not None:
                    self._forget_holdings(ref, part)
                    self._stop_wanting(ref, part)

    def _part(self, ref: Ref) -> _Part:
        return self._parts.setdefault(ref, _Part())

    def _is_here(self, ref: Ref) -> bool:
        """Whether it is a connection of this process, and open."""
        registry = self._homes.here(ref.boot)
        # First this: what ends meanwhile is told to `gone`, which waits for the lock.
        self._used = True
        return registry is not None and registry.find(ref.id) is not None

    def _down(self, target: Ref, reason: str) -> None:
        self._deliver(target, self._monitors.down(target, reason))

    def _deliver(self, target: Ref, infos: list[tuple[Ref, Any]]) -> None:
        for watcher, _ in infos:
            self._parts[watcher].monitored.pop(target, None)
        self._infos += infos

    # Names

    def register(self, name: str, ref: Ref) -> bool:
        """Give a name to a connection of this process. Called in any thread.

        :returns: False if another connection has it, as far as is known; or when the connection is not here, or there
            is no room.
        """
        with self._changing():
            claim = self._names.find(name)
            if claim is not None:
                return claim.ref == str(ref)
            if not self._is_here(ref) or self._held >= MAX_OF_PROCESS:
                return False
            part = self._part(ref)
            if len(part.names) >= MAX_OF_ONE:
                return False
            self._put_name(name, ref, Claim(float(self._clock()), str(ref)))
            return True

    def _put_name(self, name: str, ref: Ref, claim: Claim) -> None:
        names = self._part(ref).names
        self._held += name not in names
        names[name] = None
        self._names.put(_OWN, name, claim)
        self._ledger.put((NAME, name), claim)

    def unregister(self, name: str) -> bool:
        """Take a name from a connection of this process. Called in any thread. :returns: False if it has none."""
        with self._changing():
            claim = self._ledger.facts.get((NAME, name))
            if claim is None:
                return False
            del self._parts[self._ref(claim.ref)].names[name]
            self._drop_name(name)
            return True

    def whereis(self, name: str) -> Ref | None:
        """Return the connection that has a name, as far as is known. Called in any thread."""
        claim = self._names.find(name)
        return None if claim is None else self._ref(claim.ref)

    def _drop_name(self, name: str) -> None:
        self._held -= 1
        self._names.remove(_OWN, name)
        self._ledger.remove((NAME, name))

    def _yield_name(self, name: str) -> None:
        """Give a name up that another process has registered before."""
        own = self._ledger.facts.get((NAME, name))
        if own is not None and self._names.find(name) != own:
            self._lose_name(name, own)

    def _lose_name(self, name: str, own: Claim) -> None:
        loser = self._ref(own.ref)
        del self._parts[loser].names[name]
        self._drop_name(name)
        self._infos.append((loser, ("unregistered", name)))

    # Presence

    def track(self, topic: str, ref: Ref, data: bytes) -> bool:
        """Say that a connection of this process is present at a topic. Called in any thread.

        :param data: what is said of it, packed.
        :returns: False when the connection is not here, or there is no room.
        """
        with self._changing():
            if not self._is_here(ref):
                return False
            part = self._part(ref)
            full = len(part.topics) >= MAX_OF_ONE or self._held >= MAX_OF_PROCESS
            if full and topic not in part.topics:
                return False
            self._put_presence(topic, ref, part, data)
            return True

    def _put_presence(self, topic: str, ref: Ref, part: _Part, data: bytes) -> None:
        self._held += topic not in part.topics
        part.topics[topic] = None
        self._presence.put(_OWN, topic, ref, data)
        self._ledger.put((PRESENCE, presence_key(topic, str(ref))), data)

    def untrack(self, topic: str, ref: Ref) -> bool:
        """Undo `track`. Called in any thread. :returns: False if there was none."""
        with self._changing():
            part = self._parts.get(ref)
            if part is None or topic not in part.topics:
                return False
            del part.topics[topic]
            self._drop_presence(topic, ref)
            return True

    def present(self, topic: str) -> dict[Ref, Any]:
        """Return what is said of the connections that are present at a topic. Called in any thread."""
        with self._lock:
            return self._presence.present(topic)

    def _drop_presence(self, topic: str, ref: Ref) -> None:
        self._held -= 1
        self._presence.remove(_OWN, topic, ref)
        self._ledger.remove((PRESENCE, presence_key(topic, str(ref))))

    def _ref(self, text: str) -> Ref:
        where, id = home.read(text)
        return Ref(self._homes.find(where), id)
