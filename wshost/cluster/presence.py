"""Which connections are present at which topic, and what watchers are told. Knows no timer and no thread.

What changes is collected by topic, until `news` is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wshost.cluster.facts import unpacked
from wshost.connections.ref import Ref

#: What is said of a connection, packed, and which process says it.
_Said = tuple[bytes, str]


class _Watched:
    """A topic that connections watch."""

    def __init__(self) -> None:
        self.watchers: dict[Ref, None] = {}
        #: Those that know nothing yet.
        self.new: dict[Ref, None] = {}
        #: What was said, before all that has changed, of the connections of which something has changed.
        self.before: dict[Ref, _Said | None] = {}


class Presence:
    """The connections that are present, by topic."""

    def __init__(self) -> None:
        self._present: dict[str, dict[Ref, _Said]] = {}
        self._watched: dict[str, _Watched] = {}
        #: The topics of which there is something to tell.
        self.due: dict[str, None] = {}

    def present(self, topic: str) -> dict[Ref, Any]:
        """Return what is said of the connections at a topic."""
        return {ref: unpacked(data) for ref, (data, _) in self._present.get(topic, {}).items()}

    def put(self, owner: str, topic: str, ref: Ref, data: bytes) -> None:
        """A connection is present, as a process says."""
        self._note(topic, ref)
        self._present.setdefault(topic, {})[ref] = data, owner

    def remove(self, owner: str, topic: str, ref: Ref) -> None:
        """A connection is present no more, if the process that says so is the one that has said it is."""
        present = self._present.get(topic, {})
        if ref in present and present[ref][1] == owner:
            self._note(topic, ref)
            del present[ref]
            if not present:
                del self._present[topic]

    def _note(self, topic: str, ref: Ref) -> None:
        watched = self._watched.get(topic)
        if watched is not None:
            watched.before.setdefault(ref, self._present.get(topic, {}).get(ref))
            self.due[topic] = None

    # Watchers

    def watch(self, topic: str, watcher: Ref) -> None:
        """Tell a connection what is present, and then what changes. One that watches already is not told again."""
        watched = self._watched.setdefault(topic, _Watched())
        if watcher not in watched.watchers:
            watched.watchers[watcher] = watched.new[watcher] = None
            self.due[topic] = None

    def unwatch(self, topic: str, watcher: Ref) -> None:
        """Tell it nothing more."""
        watched = self._watched.get(topic)
        if watched is not None:
            watched.watchers.pop(watcher, None)
            watched.new.pop(watcher, None)
            if not watched.watchers:
                del self._watched[topic]
                self.due.pop(topic, None)

    def news(self, topic: str) -> list[tuple[Ref, Any]]:
        """Return the infos that are due for the watchers of a topic."""
        self.due.pop(topic, None)
        watched = self._watched.get(topic)
        if watched is None:
            return []
        new, watched.new = watched.new, {}
        before, watched.before = watched.before, {}
        present = self._present.get(topic, {})
        joined, left = {}, []
        for ref, said in before.items():
            now = present.get(ref)
            if now is None and said is not None:
                left.append(ref)
            elif now is not None and (said is None or said[0] != now[0]):
                joined[ref] = now[0]
        # Each gets objects of its own: handlers may change them.
        infos = [(ref, _info(topic, {one: said[0] for one, said in present.items()}, [])) for ref in new]
        if joined or left:
            infos += [(ref, _info(topic, joined, left)) for ref in watched.watchers if ref not in new]
        return infos


def _info(topic: str, joined: Mapping[Ref, bytes], left: list[Ref]) -> tuple[Any, ...]:
    return "presence", topic, {ref: unpacked(data) for ref, data in joined.items()}, tuple(left)
