"""What all processes know of each other's connections: names, presences, and the ends of those that are monitored.

It answers from memory, in any thread. Knows no broker, and no handler: these get infos.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from wshost.cluster.facts import CONNECTION, NAME, PRESENCE, Change, Key, of_presence
from wshost.cluster.holdings import EXISTS
from wshost.cluster.members import BEAT, COPY, DEAD, Members
from wshost.cluster.monitors import GONE, UNREACHABLE
from wshost.cluster.moving import Moving
from wshost.cluster.outside import Outside
from wshost.connections import home
from wshost.connections.home import is_boot
from wshost.connections.homes import Homes
from wshost.connections.ref import Ref
from wshost.connections.thread import ReactorThread
from wshost.messages import CALL

#: Seconds between two infos about one topic's presences.
INTERVAL = 0.2
#: The answer to `EXISTS`: no.
NOT_HERE = "not here"


class Directory(Moving):
    """The directory of one process. It works alone, and with others after `meet`.

    :param homes: those of this process.
    :param clock: see `Holdings`.
    """

    def __init__(self, homes: Homes, clock: Callable[[], float] = time.time) -> None:
        Moving.__init__(self, homes, clock)
        self._thread: ReactorThread | None = None
        self._members: Members | None = None
        # A call of `_settle` is due.
        self._settles = False
        # The next beat: None as long as there is no use for it. And when watchers of a topic may be told something.
        self._beat: Any = None
        self._timers: dict[str, Any] = {}

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
            self.stop_moving()
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

    # Other processes

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
