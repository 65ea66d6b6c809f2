"""Keeps the calls to be made when a broker says that nobody gets a payload. Knows no protocol."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import count

#: So many calls are kept: the later ones.
MOST = 10_000


class Asked:
    """The calls by their numbers, which go to the broker and come back.

    :param most: so many are kept.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._numbers = map(str, count(1))
        self._calls: OrderedDict[str, Callable[[], object]] = OrderedDict()

    def number(self) -> str:
        """Return the number of the next call."""
        return next(self._numbers)

    def keep(self, number: str, nobody: Callable[[], object]) -> None:
        """Keep a call: its number goes to the broker."""
        if len(self._calls) >= self._most:
            self._calls.popitem(last=False)
        self._calls[number] = nobody

    def take(self, number: str) -> Callable[[], object] | None:
        """Return a call, once; None if it is kept no more."""
        return self._calls.pop(number, None)
