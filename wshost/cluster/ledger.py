"""The facts of this process, their changes in this turn, and whole copies in pieces. Knows no other process.

A version counts the steps in which changes were taken. Who has the facts of one version, and each step since, has all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wshost.cluster.facts import Change, Key

#: So many bytes has a step, or a piece of a copy, about: brokers take much more.
PIECE = 5_000
#: The size of a fact besides its texts and bytes.
_SIZE = 32


class Ledger:
    """The facts of this process. Used by one thread at a time."""

    def __init__(self) -> None:
        self.version = 0
        self.facts: dict[Key, Any] = {}
        # The last change of each fact in this turn.
        self._changes: dict[Key, Change] = {}

    @property
    def has_changed(self) -> bool:
        """Whether there are changes to be taken."""
        return bool(self._changes)

    def put(self, key: Key, value: Any) -> None:
        """Begin a fact, or give it another value."""
        self.facts[key] = value
        self._changes[key] = Change(True, key, value)

    def remove(self, key: Key, why: str | None = None) -> None:
        """End a fact, if there is one."""
        if self.facts.pop(key, self) is not self:
            self._changes[key] = Change(False, key, why)

    def take(self) -> list[tuple[int, list[Any]]]:
        """Return the changes since the last time in steps: of each, the version before it, and its changes."""
        changes, self._changes = self._changes, {}
        steps = []
        for step in _pieces(iter(changes.values())):
            steps.append((self.version, step))
            self.version += 1
        return steps

    def copy(self) -> Iterator[list[Any]]:
        """Return all facts in pieces, each as it is when its piece is asked for. There is always one piece."""
        # Facts that begin meanwhile are told as changes.
        keys = list(self.facts)
        changes = (Change(True, key, self.facts[key]) for key in keys if key in self.facts)
        pieces = _pieces(changes)
        yield next(pieces, [])
        yield from pieces


def _pieces(changes: Iterator[Change]) -> Iterator[list[Any]]:
    """Return changes as others get them, some at a time."""
    piece: list[Any] = []
    size = 0
    for begins, (kind, key), value in changes:
        piece.append((begins, kind, key, value))
        size += _SIZE + len(key.encode()) + (len(value) if type(value) in (str, bytes) else 2 * _SIZE)
        if size >= PIECE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
