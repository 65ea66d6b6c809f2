"""What all processes know of each other's connections: names, presences, and the ends of those that are monitored.

It answers from memory, in any thread. Knows no broker, and no handler: these get infos.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

from wshost.cluster.claims import Names
from wshost.cluster.facts import (
    CONNECTION,
    MAX_OF_ONE,
    MAX_OF_PROCESS,
    NAME,
    PRESENCE,
    Change,
    Claim,
    Key,
    of_presence,
    presence_key,
)
from wshost.cluster.ledger import Ledger
from wshost.cluster.members import BEAT, COPY, DEAD, Members
from wshost.cluster.monitors import GONE, UNREACHABLE, Monitors
from wshost.cluster.outside import Outside
from wshost.cluster.presence import Presence
from wshost.connections import home
from wshost.connections.home import is_boot
from wshost.connections.homes import Homes
from wshost.connections.ref import Ref
from wshost.connections.registry import Registry
from wshost.connections.thread import ReactorThread
from wshost.messages import CALL

#: Seconds between two infos about one topic's presences.
INTERVAL = 0.2
#: What a process asks another for: whether it has a connection; and the answer that it has not.
EXISTS, NOT_HERE = "exists", "not here"

#: The owner of this process's own facts, where those of others have their boots.
_OWN = ""


class _Part:
    """What one connection has and wants."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self.topics: dict[str, None] = {}
        self.watched: dict[str, None] = {}
        self.monitored: dict[Ref, None] = {}


class Directory:
    """The directory of one process. It works alone, and with others after `meet`.

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
        self._reactor: Any = None
        self._thread: ReactorThread | None = None
        self._outside: Outside | None = None
        self._members: Members | None = None
        # A call of `_settle` is due.
        self._settles = False
        # The next beat: None as long as there is no use for it. And when watchers of a topic may be told something.
        self._beat: Any = None
        self._timers: dict[str, Any] = {}

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

    # Start and end

    def start(self, reactor: Any) -> None:
        """Use this reactor. Called in its thread."""
        self._reactor = reactor
        self._thread = ReactorThread(reactor)

    def meet(self, outside: Outside) -> None:
        """Tell other processes what is known here, and know what they do. Called in the reactor's thread."""
        with self._changing():
            self._outside = outside
            self._members = Members(outside, self._ledger, self._apply, self._lose)
            outside.take_part(self._receive, self._act)

    def leave(self) -> None:
        """Say good-bye to the other processes, if there are any; stop all timers."""
        with self._changing():
            members, self._members = self._members, None
            beat, self._beat = self._beat, None
            if beat is not None:
                beat.cancel()
            if members is not None:
                members.leave()
            self._outside = None
            for target in list(self._monitors.waiting):
                self._down(target, UNREACHABLE)
            timers, self._timers = self._timers, {}
            for timer in timers.values():
                timer.cancel()
            self._reactor = self._thread = None
            self._settles = False

    def _settle_soon(self) -> None:
        """Have changes told in the reactor's next turn."""
        if self._members is None:
            self._ledger.take()
        if self._thread is None or self._settles or not (self._wakes or self._ledger.has_changed or self._presence.due):
            return
        self._settles = True
        if self._thread.is_current():
            self._reactor.callLater(0, self._settle)
        else:
            self._reactor.callFromThread(self._settle)

    @property
    def _wakes(self) -> bool:
        """Whether it is time for the first beat: before, nothing is to be told, and nobody is known."""
        members = self._members
        if members is None or self._beat is not None:
            return False
        return bool(self._ledger.version or members.known or self._monitors.waiting)

    def _settle(self) -> None:
        with self._changing():
            if self._members is not None:
                self._members.flush()
                if self._beat is None:
                    self._beat = self._reactor.callLater(0, self._tick)
            for topic in self._presence.due:
                if topic not in self._timers and self._reactor is not None:
                    self._timers[topic] = self._reactor.callLater(0, self._tell, topic)
            # Topics that have their timers are told by them.
            self._presence.due.clear()
            self._settles = False

    def _tell(self, topic: str) -> None:
        """Tell the watchers of a topic, and wait."""
        with self._changing():
            del self._timers[topic]
            infos = self._presence.news(topic)
            if infos:
                self._infos += infos
                self._timers[topic] = self._reactor.callLater(INTERVAL, self._tell, topic)

    def _tick(self) -> None:
        with self._changing():
            members: Any = self._members
            self._beat = self._reactor.callLater(BEAT, self._tick)
            stalled, now = members.tick(), self._reactor.seconds()
            for target, since in list(self._monitors.waiting.items()):
                if stalled:
                    self._monitors.waiting[target] = now
                elif now - since > DEAD:
                    self._down(target, UNREACHABLE)
                    continue
                self._ask_for(target)

    # Connections of this process

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

    def gone(self, registry: Registry, id: str, reason: str | None) -> None:
        """Forget a connection that is not in its registry any more. Called in its thread.

        :param reason: why it has ended; None: another process has it.
        """
        if not self._used:
            return
        ref = Ref(registry, id)
        with self._changing():
            part = self._parts.pop(ref, None)
            if part is not None:
                for name in part.names:
                    self._drop_name(name)
                for topic in part.topics:
                    self._drop_presence(topic, ref)
                for topic in part.watched:
                    self._presence.unwatch(topic, ref)
                for target in part.monitored:
                    self._monitors.remove(ref, target)
            self._ledger.remove((CONNECTION, str(ref)), reason)
            if reason is None:
                self._monitors.forget(ref)
            else:
                self._down(ref, reason or GONE)

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
            part.names[name] = None
            self._held += 1
            claim = Claim(float(self._clock()), str(ref))
            self._names.put(_OWN, name, claim)
            self._ledger.put((NAME, name), claim)
            return True

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
            if topic not in part.topics:
                if len(part.topics) >= MAX_OF_ONE or self._held >= MAX_OF_PROCESS:
                    return False
                part.topics[topic] = None
                self._held += 1
            self._presence.put(_OWN, topic, ref, data)
            self._ledger.put((PRESENCE, presence_key(topic, str(ref))), data)
            return True

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

    # Other processes

    def _ref(self, text: str) -> Ref:
        where, id = home.read(text)
        return Ref(self._homes.find(where), id)

    def _receive(self, sender: str, message: Any) -> None:
        """Take what another process has told all. :raises TypeError, ValueError, LookupError: when it means nothing."""
        with self._changing():
            if self._members is not None:
                self._members.receive(sender, message)

    def _act(self, boot: str, message: list[Any]) -> bool:
        """Answer another process; return False if it asks for something else.

        :param boot: of the home to which it was sent.
        :raises TypeError, ValueError: when it means nothing.
        """
        action, what, *args = message
        if action not in {COPY, EXISTS, NOT_HERE}:
            return False
        with self._changing():
            if action == COPY and self._members is not None:
                self._members.send_copy()
            elif action == EXISTS:
                self._answer(boot, what, *args)
            elif action == NOT_HERE:
                self._down(self._ref(what), GONE)
        return True

    def _answer(self, boot: str, id: Any, asker: Any) -> None:
        registry, outside = self._homes.here(boot), self._outside
        if type(id) is not str or type(asker) is not str or not is_boot(asker):
            raise ValueError("it asks for no connection")
        if registry is None or outside is None:
            return
        text = str(Ref(registry, id))
        home.read(text)
        self._used = True
        if registry.find(id) is not None:
            if (CONNECTION, text) not in self._ledger.facts:
                self._ledger.put((CONNECTION, text), None)
        elif not registry.shares_home:
            outside.tell(asker, (NOT_HERE, text), CALL)

    def _apply(self, owner: str, change: Change) -> None:
        """A fact of another process begins or ends."""
        begins, (kind, key), value = change
        if kind == NAME:
            if begins:
                self._names.put(owner, key, value)
                self._yield_name(key)
            else:
                self._names.remove(owner, key)
        elif kind == PRESENCE:
            topic, text = of_presence(key)
            if begins:
                self._presence.put(owner, topic, self._ref(text), value)
            else:
                self._presence.remove(owner, topic, self._ref(text))
        elif begins:
            self._monitors.confirm(owner, self._ref(key))
        else:
            target = self._ref(key)
            reason = GONE if value == "" else value
            self._deliver(target, self._monitors.end(owner, target, reason, self._reactor.seconds()))

    def _lose(self, owner: str, keys: list[Key]) -> None:
        """Another process is dead, cut off or stopped."""
        for key in keys:
            self._apply(owner, Change(False, key, UNREACHABLE))
